"""The artifact `NightFiles`: which files a night is made from, for components that read them."""

from __future__ import annotations

from tfx import types
from tfx.utils import io_utils

from tfx_encore.components.night_json import read_night_json
from tfx_encore.components.night_recorder.inputs import NightInputs
from tfx_encore.schemas.serial import to_json

FILES_FILE = "inputs.json"


def write_night_files(artifact: types.Artifact, date: str, inputs: NightInputs) -> None:
    """Writes the files of a day, and how many they are into the custom properties."""
    io_utils.write_string_file(f"{artifact.uri}/{FILES_FILE}", to_json(inputs, indent=2) + "\n")
    artifact.set_string_custom_property("date", date)
    artifact.set_int_custom_property("log", len(inputs.log))
    artifact.set_int_custom_property("labels", len(inputs.labels))


def read_night_files(uri: str) -> NightInputs:
    """Reads what `write_night_files` wrote below a URI.

    Raises:
        DataError: it is missing or damaged.
    """
    return read_night_json(NightInputs, f"{uri}/{FILES_FILE}")
