"""A container of the manifests as a process of this machine: the same arguments, paths mapped.

A path `/var/...` or `/etc/...` of the pod becomes `<folder>/var/...`. Where the kernel lets us, the
process runs in a mount namespace in which everything is read-only but what the pod may write.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Object = dict[str, Any]
_MAPPED = re.compile(r"(?<![\w/])/(?=(?:var|etc)/)")


def expanded(container: Object, variables: dict[str, str]) -> list[str]:
    """The arguments as the kubelet hands them over."""
    known = {e["name"]: e["value"] for e in container["env"] if "value" in e} | variables
    args = container.get("args", container.get("command"))
    text = [re.sub(r"\$\((\w+)\)", lambda found: known[found[1]], arg) for arg in args]
    assert not any("$(" in arg for arg in text)
    return text


def config_files(objects: Sequence[Object], spec: Object) -> dict[str, dict[str, str]]:
    """Volume -> file -> text, of the volumes that are ConfigMaps."""
    maps = {e["metadata"]["name"]: e["data"] for e in objects if e["kind"] == "ConfigMap"}
    return {v["name"]: maps[v["configMap"]["name"]] for v in spec["volumes"] if "configMap" in v}


def mapped(text: str, folder: Path) -> str:
    """The same text with the pod's paths below a folder."""
    return _MAPPED.sub(f"{folder}/", text)


def lay_out(objects: Sequence[Object], spec: Object, container: Object, folder: Path) -> None:
    """Makes the folders that are mounted, and the files of ConfigMaps in them."""
    files = config_files(objects, spec)
    for mount in container["volumeMounts"]:
        place = folder / mount["mountPath"].lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.get(mount["name"], {}).items():
            (place / name).write_text(mapped(text, folder))


@functools.cache
def can_seal() -> bool:
    """Whether this user may make mount namespaces (not in many containers)."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "mount", "--bind", "/tmp", "/tmp"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def sealed(command: Sequence[str], container: Object, folder: Path) -> list[str]:
    """The command in a namespace where only the writable mounts of the container can be written."""
    if not can_seal():
        return list(command)
    script = []
    # What lies in another mount first, and recursively: the outer one's being read-only is its own.
    for mount in sorted(container["volumeMounts"], key=lambda m: -len(m["mountPath"])):
        place = shlex.quote(str(folder / mount["mountPath"].lstrip("/")))
        script.append(f"mount --rbind {place} {place}")
        if mount.get("readOnly"):
            script.append(f"mount -o remount,bind,ro {place}")
    script.append("mount -o remount,bind,ro /")
    script.append(f"exec {shlex.join(command)}")
    # Mount points on other file systems than / stay as they are.
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", "\n".join(script)]


def encore(args: Sequence[str]) -> list[str]:
    """The image's entry point."""
    return [sys.executable, "-m", "tfx_encore.pipeline.cli", *args]


def environment(container: Object, folder: Path) -> dict[str, str]:
    """What the container sees, and what a process of this machine cannot do without.

    /tmp is the mapped one too, since the folder itself may lie in ours.
    """
    own = {e["name"]: e["value"] for e in container["env"] if "value" in e}
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    tmp = str(folder / "tmp")
    return kept | own | {"TF_CPP_MIN_LOG_LEVEL": "3", "HOME": tmp, "TMPDIR": tmp}
