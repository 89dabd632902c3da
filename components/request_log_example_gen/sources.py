"""Which files a night is made from: the request log of a day, and the labels for it.

Needs neither TFX nor TensorFlow, so that commands can ask quickly.
"""

from __future__ import annotations

import datetime as dt
import glob
import hashlib
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from tfx_encore.metadata.files import digest_of
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.nightly_policy import LabelsPolicy, LogPolicy

MODEL, DATE = "{MODEL}", "{DATE}"


def find_log_files(request_log: Path, policy: LogPolicy, model: str, date: str) -> tuple[Path, ...]:
    """Returns the whole files of a day's request log, by path; none where nothing was logged.

    Args:
        request_log: folder of the log.
        policy: its pattern. Without {DATE} the files of every day are returned, and
            RequestLogExampleGen goes by the records' own time.
        model: the model's name.
        date: the day (UTC), as 2016-01-12.

    Raises:
        DataError: the folder does not exist, or `date` is no day.
    """
    if not request_log.is_dir():
        raise DataError(
            f"{request_log}: no such folder; set `nightly.request_log` to the folder that the "
            "gateway logs into (`encore serve --request_log_dir`), or serve some traffic first"
        )
    return _matching(request_log, _filled(policy.files, model, date))


def find_label_files(
    labels: LabelsPolicy, base: Path, date: str, model: str = ""
) -> tuple[Path, ...]:
    """Returns the files with labels for a day, by path; none while none has come.

    Args:
        labels: the pattern.
        base: folder that a relative pattern starts from.
        date: the day (UTC) of the requests, as 2016-01-12.
        model: what {MODEL} in the pattern stands for.

    Raises:
        DataError: the folder that the pattern starts from does not exist, or `date` is no day.
    """
    pattern = _filled(labels.files, model, date)
    root = base / _fixed_part(labels.files)
    if not root.is_dir():
        raise DataError(
            f"{root}: no such folder; `nightly.labels.files` ({labels.files}) looks for labels "
            "there. Make the folder, or correct the pattern"
        )
    return _matching(base, pattern)


def by_own_time(policy: LogPolicy) -> bool:
    """True if the time of each record decides whether it is of the day."""
    return DATE not in policy.files


def files_digest(*groups: Iterable[Path]) -> str:
    """Returns `sha256:` and the digest of the names and contents of files, in the order given.

    Pass it on as `inputs_digest`: TFX's cache looks at parameters, not into files.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for group in groups:
        for path in group:
            digest.update(f"{short_name(path)}\0{digest_of(path)}\n".encode())
        digest.update(b"\n")
    return f"sha256:{digest.hexdigest()}"


def short_name(path: str | Path) -> str:
    """A file's name with the folder it lies in: the same wherever the log was copied to."""
    return "/".join(Path(path).parts[-2:]).lstrip("/")


def model_folder(model: str) -> str:
    """A model's name as the gateway names its folder (docs/formats/request-log.md)."""
    name = quote(model, safe="")
    return "%2E" + name[1:] if name.startswith(".") else name or "%"


def _filled(pattern: str, model: str, date: str) -> str:
    try:
        day = dt.date.fromisoformat(date).isoformat()
    except ValueError as error:
        raise DataError(f"{date!r} is not a day; write it as 2016-01-12") from error
    return pattern.replace(MODEL, glob.escape(model_folder(model))).replace(DATE, day)


def _fixed_part(pattern: str) -> str:
    """The folders of a pattern before the first that varies."""
    parts = Path(pattern).parts[:-1]
    fixed = []
    for part in parts:
        if glob.has_magic(part) or MODEL in part or DATE in part:
            break
        fixed.append(part)
    return "/".join(fixed)


def _matching(base: Path, pattern: str) -> tuple[Path, ...]:
    """Files of the pattern; hidden ones, as those being written, are left out."""
    # Unlike Path.glob it takes absolute patterns, and leaves hidden folders out.
    found = glob.glob(str(Path(glob.escape(str(base)), pattern)), recursive=True)  # noqa: PTH207
    paths = (Path(name) for name in found)
    return tuple(sorted(path for path in paths if path.is_file() and path.name[0] != "."))
