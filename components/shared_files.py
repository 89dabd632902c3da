"""Files that the driver and the workers of a Beam job share: whole or not there.

A runner may run a piece of work twice, even at once, and take either's answer. So whoever writes a
file writes it under a name of its own into a scratch folder, and renames it: whoever comes last
leaves the same content, and nobody ever reads half a file. All goes through TFX's fileio, so that
the folders may lie wherever every machine reaches them.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tfx.dsl.io import fileio

from tfx_encore.schemas.errors import DataError

_GZIP_RATIO = 5
_ASKED_AT_ONCE = 16


@contextlib.contextmanager
def whole_file(path: str, scratch: str) -> Iterator[Any]:
    """Gives a file to write bytes into; at the end it stands at `path`, or does not if it failed.

    Args:
        path: where it is to stand; what is there is replaced.
        scratch: folder on the same file system that nobody lists; the caller removes it.
    """
    part = f"{scratch}/{uuid.uuid4().hex}.part"
    with fileio.open(part, "wb") as file:
        yield file
    fileio.rename(part, path, overwrite=True)


def write_json(value: Any, path: str) -> None:
    """Writes a small result into a scratch folder, for the executor to pick up."""
    with whole_file(path, path.rpartition("/")[0]) as file:
        file.write(json.dumps(value).encode())


def read_json(path: str) -> Any:
    """Reads what `write_json` wrote."""
    with fileio.open(path, "rb") as file:
        return json.loads(file.read())


@contextlib.contextmanager
def scratch_folder(root: str | None, name: str) -> Iterator[str]:
    """Gives a folder of its own and removes it afterwards.

    Args:
        root: TFX's folder for the execution, below the pipeline root: every worker reaches it.
            None outside of a pipeline, where all runs on this machine.
        name: of the folder.
    """
    folder = f"{root.rstrip('/')}/{name}" if root else tempfile.mkdtemp(prefix=f"{name}-")
    fileio.makedirs(folder)
    try:
        yield folder
    finally:
        fileio.rmtree(folder)


def sizes_of(paths: Sequence[str]) -> list[int]:
    """Bytes of each file; of gzip about as many as it unpacks to.

    Raises:
        DataError: one cannot be read.
    """
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        return list(pool.map(_size, paths))


def buckets_for(size: int, bucket: int, most: int) -> int:
    """Into how many buckets of `bucket` bytes `size` bytes are cut: at least 1, `most` at most."""
    return min(max(-(-size // bucket), 1), most)


def _size(path: str) -> int:
    try:
        with fileio.open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0, 2)
            return int(file.tell()) * (_GZIP_RATIO if packed else 1)
    except Exception as error:
        raise DataError(
            f"{path} cannot be read: {error}; the request log may be older than its retention"
        ) from error
