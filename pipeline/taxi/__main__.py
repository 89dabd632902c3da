"""The main job: two releases of the taxi model on two successive spans. `make run` calls it.

`python -m tfx_encore.pipeline.taxi [--force]`, in the folder that holds `encore.yaml`.
"""

from __future__ import annotations

import sys

from tfx_encore.pipeline import cli
from tfx_encore.pipeline.commands.options import open_project
from tfx_encore.pipeline.config import FILE_NAME
from tfx_encore.pipeline.taxi.data import shipped_csv, write_spans
from tfx_encore.schemas.errors import EncoreError


def main() -> None:
    """Cuts the data into spans, then releases each."""
    try:
        project = open_project(FILE_NAME)
        write_spans(shipped_csv(), project.workspace.root / "data")
    except EncoreError as error:
        sys.stderr.write(f"encore: {error}\n")
        sys.exit(error.exit_code)
    sys.argv = ["encore", "run", "--all-spans", *sys.argv[1:]]
    cli.main()


if __name__ == "__main__":
    main()
