"""`encore init`: a working project for the user's own CSV, written whole or not at all."""

from __future__ import annotations

import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Optional

from tfx_encore.pipeline.config import FILE_NAME, MODEL_NAME, check_features, features_used
from tfx_encore.pipeline.config import load_config as read_config
from tfx_encore.pipeline.csv_columns import Column, checks_for
from tfx_encore.pipeline.csv_profile import ColumnProfile, profile_csv
from tfx_encore.pipeline.init_columns import Roles, choose_roles, schema_columns
from tfx_encore.pipeline.init_files import SCHEMA_FILE, text_files
from tfx_encore.pipeline.spans import check_file
from tfx_encore.schemas.errors import ConfigError, DataError, EncoreError

_KEPT = {".gitignore"}  # where there is one already, it stays as it is


@dataclass(frozen=True)
class InitRequest:
    """What the user asked for.

    Attributes:
        folder: where the project goes.
        csv: the data.
        label: the column to predict.
        positive: its value that counts as yes; None if that goes without saying.
        model: the model's name; None takes the CSV's.
        span: number of the span that the data becomes.
    """

    folder: pathlib.Path
    csv: pathlib.Path
    label: str
    positive: Optional[str] = None
    model: Optional[str] = None
    span: int = 1


@dataclass(frozen=True)
class NewProject:
    """A project that was written.

    Attributes:
        folder: its folder, absolute.
        model: the model's name.
        files: the files that were written, relative to the folder.
        rows: rows of data.
        roles: what becomes of each column.
    """

    folder: pathlib.Path
    model: str
    files: tuple[str, ...]
    rows: int
    roles: Roles


def init_project(request: InitRequest) -> NewProject:
    """Writes a project; leaves nothing behind if it cannot.

    Raises:
        ConfigError: the folder holds a project already, or the model's name is none.
        DataError: the CSV or its label cannot be used; says what to do.
        EncoreError: the disk is full or the folder cannot be written.
    """
    folder = request.folder.resolve()
    model = _model_name(request)
    data = f"data/span-{request.span}"
    _refuse_occupied(folder, data)
    profiles = profile_csv(request.csv)
    roles = choose_roles(profiles, request.label, request.positive, source=str(request.csv))
    columns = schema_columns(profiles, roles.unknown)
    header, rows = check_file(request.csv, checks_for(columns), any_header=True)
    texts = _texts(request, profiles, roles, columns, model)
    with _built_beside(folder) as building:
        _write_data(request.csv, header, building / data)
        for name, text in texts.items():
            (building / name).write_text(text, encoding="utf-8")
        _check(building, columns)
        files = tuple(
            str(path.relative_to(building))
            for path in sorted(building.rglob("*"))
            if path.is_file()
        )
    return NewProject(folder, model, files, rows, roles)


def _texts(
    request: InitRequest,
    profiles: dict[str, ColumnProfile],
    roles: Roles,
    columns: dict[str, Column],
    model: str,
) -> dict[str, str]:
    from tfx_encore.pipeline.init_schema import infer_schema

    texts = text_files(profiles, roles, model=model, csv=request.csv.name, span=request.span)
    return {**texts, SCHEMA_FILE: infer_schema(request.csv, profiles, columns)}


def _model_name(request: InitRequest) -> str:
    if request.model is None:
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", request.csv.stem).strip("-")[:63]
        return name if re.match(MODEL_NAME, name) else "model"
    if not re.match(MODEL_NAME, request.model):
        raise ConfigError(f"--model {request.model!r} does not match {MODEL_NAME}")
    return request.model


def _refuse_occupied(folder: pathlib.Path, data: str) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; name a folder")
    for name in (FILE_NAME, SCHEMA_FILE, "model.py", "encore.schema.json", data):
        if (folder / name).exists():
            raise ConfigError(
                f"{folder / name} is there already; name another folder, or move it away"
            )


def _write_data(source: pathlib.Path, header: list[str], folder: pathlib.Path) -> None:
    """Copies the CSV; only its header is written anew, as CsvExampleGen reads it."""
    folder.mkdir(parents=True)
    name = f"{source.name.lstrip('.').removesuffix('.csv')}.csv"
    with source.open("rb") as old, (folder / name).open("wb") as new:
        old.readline()
        new.write(",".join(header).encode() + b"\n")
        shutil.copyfileobj(old, new)


def _check(building: pathlib.Path, columns: dict[str, Column]) -> None:
    """Reads the project back as a run would."""
    from tfx_encore.pipeline.data_schema import read_columns

    config = read_config(building / FILE_NAME)
    known = read_columns(building / config.data.schema_file)
    check_features(features_used(config), known, FILE_NAME)
    if known != columns:
        raise DataError(f"the schema came out as {known}, not {columns}; please report this")


@contextmanager
def _built_beside(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder to build in, whose content is moved to `folder` if the block ends well."""
    home = folder if folder.is_dir() else folder.parent
    made = _first_missing(home)
    try:
        home.mkdir(parents=True, exist_ok=True)
        building = pathlib.Path(tempfile.mkdtemp(prefix=".encore-init-", dir=home))
    except OSError as error:
        raise EncoreError(f"{home} cannot be written: {error.strerror}") from error
    done = False
    try:
        yield building
        if folder.is_dir():
            _move_into(building, folder)
        else:
            building.chmod(0o755)
            building.rename(folder)
        done = True
    except OSError as error:
        raise EncoreError(f"{folder} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
        if made is not None and not done:
            shutil.rmtree(made, ignore_errors=True)


def _first_missing(folder: pathlib.Path) -> Optional[pathlib.Path]:
    """The topmost of the folders that would have to be made."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    return missing[-1] if missing else None


def _move_into(building: pathlib.Path, folder: pathlib.Path) -> None:
    """Moves everything into a folder that is there; takes it back if that fails midway."""
    moved: list[pathlib.Path] = []
    try:
        for entry in _entries(building, folder):
            target = folder / entry.relative_to(building)
            entry.rename(target)
            moved.append(target)
    except OSError:
        for target in moved:
            shutil.rmtree(target) if target.is_dir() else target.unlink()
        raise


def _entries(building: pathlib.Path, folder: pathlib.Path) -> list[pathlib.Path]:
    """What is moved as a whole; folders that are there already are gone into."""
    entries: list[pathlib.Path] = []
    for entry in sorted(building.iterdir()):
        target = folder / entry.name
        if entry.name in _KEPT and target.exists():
            continue
        entries += sorted(entry.iterdir()) if entry.is_dir() and target.is_dir() else [entry]
    return entries
