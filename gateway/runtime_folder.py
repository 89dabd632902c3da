"""Where the sockets and the routing board of a running gateway are, and the lock that it holds.

With a cache directory they are in `run/` of it. Without one they are in a folder of their own below
the user's runtime directory; `encore cache` finds it there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tfx_encore.schemas.errors import ConfigError, WorkspaceBusyError

# sockaddr_un holds 108 bytes; the longest name in the folder is `worker-63.sock`.
_LONGEST = 107 - len("/worker-63.sock")


def base_folder() -> Path:
    """The folder below which gateways without a cache directory, or with a long one, have theirs.

    Raises:
        ConfigError: it is another user's.
    """
    folder = next(filter(_has_room, _candidates()))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise ConfigError(f"{folder} belongs to another user; set XDG_RUNTIME_DIR")
    folder.chmod(0o700)
    return folder


def _candidates() -> Iterator[Path]:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and Path(runtime).is_dir():
        yield Path(runtime) / "encore-gateway"
    yield Path(tempfile.gettempdir()) / f"encore-gateway-{os.getuid()}"
    yield Path("/tmp") / f"encore-gateway-{os.getuid()}"  # noqa: S108 - its owner is checked


def _has_room(folder: Path) -> bool:
    return len(os.fsencode(folder / "process-4194304")) <= _LONGEST


def runtime_folder(cache_dir: str | None) -> Path:
    """The folder of the gateway with this cache directory, or of this process's without one."""
    if cache_dir is None:
        return base_folder() / f"process-{os.getpid()}"
    folder = Path(cache_dir).resolve() / "run"
    if len(os.fsencode(folder)) <= _LONGEST:
        return folder
    # A socket's address has little room: the same gateway is always found under the same digest.
    name = hashlib.blake2b(os.fsencode(folder), digest_size=8).hexdigest()
    return base_folder() / name


def running_folders() -> list[Path]:
    """The folders of gateways without a cache directory that run; removes those of killed ones."""
    return [path for path in sorted(base_folder().glob("process-*")) if not _was_left(path)]


def _was_left(folder: Path) -> bool:
    """Whether nobody holds a folder; it is then removed."""
    try:
        with (folder / "gateway.lock").open("r+", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _clear(folder)
            (folder / "gateway.lock").unlink()
            folder.rmdir()
    except BlockingIOError:
        return False
    except OSError:  # it is being made, or removed, at this moment
        return True
    return True


def sockets(folder: Path) -> list[Path]:
    """The sockets in a gateway's folder, by number of the worker."""
    return sorted(folder.glob("worker-*.sock"), key=_number)


def socket_path(folder: Path, worker: int) -> Path:
    """The socket of one worker."""
    return folder / f"worker-{worker}.sock"


@contextlib.contextmanager
def held_folder(cache_dir: str | None) -> Iterator[Path]:
    """Makes the folder and holds it for one gateway; removes its sockets at the end.

    Raises:
        WorkspaceBusyError: another gateway holds it; names its process.
        ConfigError: it cannot be made.
    """
    folder = runtime_folder(cache_dir)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / "gateway.lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error}", key="--cache_dir") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise WorkspaceBusyError(
                f"another gateway (process {lock.read().strip() or 'unknown'}) uses {cache_dir}; "
                "end it, or give this one another --cache_dir"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        _clear(folder)
        try:
            yield folder
        finally:
            _clear(folder)
            if cache_dir is None:
                with contextlib.suppress(OSError):
                    (folder / "gateway.lock").unlink()
                    folder.rmdir()


def _clear(folder: Path) -> None:
    for path in [*sockets(folder), folder / "routes.board"]:
        path.unlink(missing_ok=True)


def _number(path: Path) -> int:
    digits = path.stem.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0
