"""The alert rules as an object of the Prometheus operator.

`python -m tfx_encore.kubeflow.prometheus_rule` writes it, in a checkout, beside the manifests that
refer to it: kustomize reads no file above a kustomization, and makes no object of a rule file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tfx_encore import monitoring

RULES = Path(monitoring.__file__).parent / "prometheus" / "rules"
TARGET = Path(__file__).parent / "components" / "monitoring" / "prometheus-rule.yaml"

_HEAD = (
    "# Written by `python -m tfx_encore.kubeflow.prometheus_rule` from the files in\n"
    "# monitoring/prometheus/rules; change those, not this.\n"
)


class _Dumper(yaml.SafeDumper):
    """Writes what has several lines as several lines."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def prometheus_rule() -> dict[str, Any]:
    """The object: the groups of all rule files, by file name."""
    groups = []
    for file in sorted(RULES.glob("*.yaml")):
        groups += yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "encore"},
        "spec": {"groups": groups},
    }


def content() -> str:
    """The file."""
    return _HEAD + yaml.dump(prometheus_rule(), Dumper=_Dumper, sort_keys=False, width=1000)


def main() -> None:
    """Writes it."""
    TARGET.write_text(content(), encoding="utf-8")


if __name__ == "__main__":
    main()
