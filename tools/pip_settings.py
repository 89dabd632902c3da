"""Says to uv what pip is configured to do: reads `pip config list`, writes shell exports.

uv reads neither pip.conf nor PIP_*. Whoever has set up pip for a private index, a proxy or a
certificate should not have to do it twice. What is set for uv already is left alone.

    pip config list | python pip_settings.py                   exports for uv
    pip config list | python pip_settings.py --as-environment  the same settings for a pip elsewhere
    pip config list | python pip_settings.py --local-folders   the folders that they point at
"""
# ruff: noqa: INP001 - a script, run before anything can be imported

from __future__ import annotations

import ast
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# Later sections win, as they do in pip.
_SECTIONS = ("global", "install", ":env:")
_SOURCES = (
    "index-url",
    "extra-index-url",
    "find-links",
    "trusted-host",
    "proxy",
    "timeout",
    "default-timeout",
    "retries",
)


def parse(lines: Iterable[str]) -> dict[str, str]:
    """Settings by their bare name from lines such as `global.index-url='...'`."""
    found: dict[tuple[str, str], str] = {}
    for line in lines:
        name, equals, value = line.strip().partition("=")
        section, dot, key = name.partition(".")
        if equals and dot and section in _SECTIONS:
            found[section, key] = str(ast.literal_eval(value))
    return {key: found[section, key] for section in _SECTIONS for s, key in found if s == section}


def exports(pip: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    """The variables that make uv behave as `pip` says, without those that `env` decides already."""
    out: dict[str, str] = {}

    def give(value: str, name: str, *older_names: str) -> None:
        if value and not any(env.get(known) for known in (name, *older_names)):
            out[name] = value

    give(pip.get("index-url", ""), "UV_DEFAULT_INDEX", "UV_INDEX_URL")
    extra = " ".join(pip.get("extra-index-url", "").split())
    give(extra, "UV_INDEX", "UV_EXTRA_INDEX_URL")
    if "UV_INDEX" in out:
        # pip looks into every index, uv stops at the first that knows the name. The hashes in
        # requirements/ decide which file is taken, so looking further is safe.
        give("unsafe-best-match", "UV_INDEX_STRATEGY")
    give(",".join(pip.get("find-links", "").split()), "UV_FIND_LINKS")
    give(" ".join(pip.get("trusted-host", "").split()), "UV_INSECURE_HOST")
    give(pip.get("timeout", pip.get("default-timeout", "")), "UV_HTTP_TIMEOUT")
    give(pip.get("proxy", ""), "ALL_PROXY", "HTTPS_PROXY", "https_proxy", "all_proxy")
    out.update(_certificates(pip, env))
    return out


def _certificates(pip: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    """The certificate file that pip uses; else, as pip does, the system's own."""
    if env.get("SSL_CERT_FILE"):
        return {}
    for file in (pip.get("cert"), env.get("REQUESTS_CA_BUNDLE"), env.get("CURL_CA_BUNDLE")):
        if file and Path(file).is_file():
            return {"SSL_CERT_FILE": file}
    if SYSTEM_CERTIFICATES.is_file():
        # The second name is what uv called it before 0.11.
        return {"UV_SYSTEM_CERTS": "true", "UV_NATIVE_TLS": "true"}
    return {}


def as_environment(pip: Mapping[str, str]) -> list[str]:
    """Where packages come from, as `PIP_X=value` lines, for a pip that does not see these files.

    Only that: what else pip is told (constraints, caches) names files of this machine.
    """
    return [
        f"PIP_{key.replace('-', '_').upper()}={' '.join(pip[key].split())}"
        for key in _SOURCES
        if pip.get(key)
    ]


def local_folders(pip: Mapping[str, str]) -> list[str]:
    """The existing folders that the settings name, as paths or `file:` addresses.

    Of an index that is a folder, the one above: its pages may point beside it.
    """
    found = set()
    for key in ("index-url", "extra-index-url", "find-links"):
        for word in pip.get(key, "").split():
            path = Path(unquote(urlsplit(word).path)) if word.startswith("file:") else Path(word)
            folder = path.parent if key.endswith("index-url") else path
            if folder.is_absolute() and folder.is_dir() and folder.parent != folder:
                found.add(str(folder))
    return sorted(found)


def main() -> None:
    """Reads standard input, writes lines to standard output."""
    pip = parse(sys.stdin)
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    if wanted == "--as-environment":
        lines = as_environment(pip)
    elif wanted == "--local-folders":
        lines = local_folders(pip)
    else:
        out = exports(pip, os.environ)
        lines = [f"export {name}={shlex.quote(value)}" for name, value in out.items()]
    sys.stdout.write("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
