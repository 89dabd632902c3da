"""The parameters of the compiled pipelines: names, types, what they are by default. No IO here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from tfx_encore.kubeflow.target import Target
from tfx_encore.pipeline.config import ProjectConfig
from tfx_encore.schemas.serial import to_json

Value = Union[str, int]


@dataclass(frozen=True)
class Parameter:
    """A pipeline parameter.

    Attributes:
        name: what it is called.
        default: its value where a run gives none.
        description: for people who look at the pipeline in the UI.
    """

    name: str
    default: Value
    description: str

    @property
    def type(self) -> type:
        """`int` or `str`."""
        return int if isinstance(self.default, int) else str


def release_parameters(config: ProjectConfig, target: Target) -> tuple[Parameter, ...]:
    """The parameters of the release pipeline."""
    log = config.data.request_log
    return (
        Parameter("spans", target.place(config.data.spans), "Pattern of the CSV files; {SPAN}."),
        Parameter("span", 1, "Number of the span that is released."),
        Parameter("releases", _releases(config, target), "Root of the release directory."),
        Parameter(
            "request_log",
            target.place(log) if log else "",
            "Pattern of PredictionLog files that the cache is warmed with; empty for examples.",
        ),
        _section(config, "drift"),
        _section(config, "evaluation"),
    )


def nightly_parameters(config: ProjectConfig, target: Target) -> tuple[Parameter, ...]:
    """The parameters of the nightly pipeline."""
    labels = config.nightly.labels
    return (
        Parameter(
            "date", "open", "2016-01-12; or a time, whose day before is meant; yesterday; open."
        ),
        Parameter("releases", _releases(config, target), "Root of the release directory."),
        Parameter(
            "request_log", target.place(config.nightly.request_log), "Folder of the request log."
        ),
        Parameter(
            "labels", target.place(labels.files) if labels else "", "Pattern of the label files."
        ),
        _section(config, "evaluation"),
        _section(config, "nightly"),
    )


def _releases(config: ProjectConfig, target: Target) -> str:
    return target.place(config.releases or f"{config.workspace}/releases")


def _section(config: ProjectConfig, name: str) -> Parameter:
    text = to_json(getattr(config, name))
    return Parameter(name, text, f"The section `{name}` of encore.yaml, as JSON.")
