"""Says to the builder of an image what pip is configured to do here: reads `pip config list`.

    build_settings.py conf      writes a pip.conf: where packages are, and how they are reached
    build_settings.py folders   writes the local folders that it names, one a line
    build_settings.py ca        writes the path of the certificates to trust, if there are any

The file is given to the build as a secret, so that nothing of it stays in the image.
"""
# ruff: noqa: INP001 - a script, run before anything can be imported

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pip_settings import SYSTEM_CERTIFICATES, parse

# What says where packages are. Not `cert`, which is a path here and another in the build, and not
# what says how to install (target, constraint, user), which is the build's own business.
_KEPT = (
    "index-url",
    "extra-index-url",
    "no-index",
    "find-links",
    "trusted-host",
    "proxy",
    "timeout",
    "default-timeout",
    "retries",
)


def pip_conf(pip: Mapping[str, str]) -> str:
    """A pip.conf with the settings that a build needs; the items of a list stand on one line."""
    lines = [f"{name} = {' '.join(pip[name].split())}" for name in _KEPT if pip.get(name)]
    return "\n".join(["[global]", *lines, ""])


def folders(pip: Mapping[str, str]) -> list[str]:
    """Folders of this machine that hold packages, without repetition.

    The pages of an index name files beside it, so the folder above an index is meant.
    """
    found = [_above(path) for path in _paths(pip.get("extra-index-url", ""))]
    found += [_above(path) for path in _paths(pip.get("index-url", ""))]
    found += _paths(pip.get("find-links", ""))
    return [str(path) for path in dict.fromkeys(found) if path.is_dir()]


def certificates(pip: Mapping[str, str], env: Mapping[str, str]) -> str:
    """The certificates that pip trusts here; else the system's own, else ""."""
    candidates = (
        env.get("SSL_CERT_FILE"),
        pip.get("cert"),
        env.get("REQUESTS_CA_BUNDLE"),
        env.get("CURL_CA_BUNDLE"),
        str(SYSTEM_CERTIFICATES),
    )
    return next((file for file in candidates if file and Path(file).is_file()), "")


def _paths(value: str) -> list[Path]:
    """Those of several addresses or paths that are paths of this machine."""
    local = [item for item in value.split() if item.startswith(("/", "file:"))]
    return [Path(unquote(urlsplit(item).path)) for item in local]


def _above(index: Path) -> Path:
    parent = index.parent
    return index if parent == parent.parent else parent


def main() -> None:
    """Reads standard input, writes what the argument asks for."""
    pip = parse(sys.stdin)
    if sys.argv[1:] == ["conf"]:
        sys.stdout.write(pip_conf(pip))
    elif sys.argv[1:] == ["folders"]:
        sys.stdout.write("".join(f"{folder}\n" for folder in folders(pip)))
    elif sys.argv[1:] == ["ca"]:
        sys.stdout.write(certificates(pip, os.environ))
    else:
        sys.exit("build_settings.py: say conf, folders or ca")


if __name__ == "__main__":
    main()
