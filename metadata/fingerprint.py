"""Fingerprint of a SavedModel: a digest of the files that decide its answers.

Cached answers belong to a fingerprint, so two directories with equal content must have equal
fingerprints wherever and whenever they were written. What only tools read (`keras_metadata.pb`,
`debug/`, and `fingerprint.pb`, which newer versions of TensorFlow give a random uuid) and what does
not change an answer (`assets.extra/`, the warm-up requests) is left out.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tfx_encore.schemas.errors import ModelError

_GRAPH_FILES = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")
_CONTENT_FOLDERS = ("assets", "variables")
_CHUNK = 1 << 20


def fingerprint_saved_model(path: str | os.PathLike[str]) -> str:
    """Returns `sha256:` and 64 hexadecimal digits over the SavedModel's content files.

    Those are the graph (`saved_model.pb`, or its `.pbtxt` and `.cpb` forms) and every file below
    `variables/` and `assets/`. In order of relative path with `/` between the parts, each adds
    `<path> NUL <size in bytes> NUL <sha256 of its bytes, hexadecimal> NUL` to the digest. Links
    are followed; times, owners and modes do not count.

    Raises:
        ModelError: `path` is not a readable SavedModel.
    """
    root = Path(path)
    try:
        files = content_files(root)
        digest = hashlib.sha256(b"tfx-encore saved-model 1\0")
        for name in files:
            size, content = _digest_of(root / name)
            digest.update(f"{name}\0{size}\0{content}\0".encode())
    except OSError as error:
        raise ModelError(
            f"{root}: cannot read the SavedModel ({error.strerror}: {error.filename}); "
            "give a directory that this user may read"
        ) from error
    return f"sha256:{digest.hexdigest()}"


def content_files(root: Path) -> tuple[str, ...]:
    """The relative paths, with `/`, of the files that make up the fingerprint, sorted.

    Raises:
        ModelError: `root` holds no `saved_model.pb`.
    """
    graphs = [name for name in _GRAPH_FILES if (root / name).is_file()]
    if not graphs:
        raise ModelError(
            f"{root}: not a SavedModel, it holds no saved_model.pb; "
            "give the directory that tf.saved_model.save wrote"
        )
    below = [
        (Path(folder) / file).relative_to(root).as_posix()
        for content in _CONTENT_FOLDERS
        for folder, _, files in os.walk(root / content, followlinks=True, onerror=_raise)
        for file in files
    ]
    return tuple(sorted([*graphs, *below]))


def _raise(error: OSError) -> None:
    """Passes on what os.walk would swallow, but not that an optional folder is absent."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _digest_of(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()
