"""The nightly example: a release, thirty days of traffic through the gateway, thirty nights.

`python -m tfx_encore.pipeline.taxi.nights [FOLDER]`; `make nightly` calls it. FOLDER, by default
.encore/nightly, becomes a project of its own, in which `encore nights`, `encore ui`... can be used
afterwards. Run again, it does only what is missing.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
import time
from datetime import datetime, timezone
from importlib import resources

from tfx_encore.pipeline.commands.options import open_project
from tfx_encore.pipeline.config import FILE_NAME
from tfx_encore.pipeline.quiet import hush
from tfx_encore.pipeline.taxi import traffic
from tfx_encore.pipeline.taxi.data import shipped_csv, write_spans
from tfx_encore.schemas.errors import EncoreError

DEFAULT_FOLDER = ".encore/nightly"
# Span 1, 2013 to 2015, is released; span 2 is 2016.
_CUTS = (datetime(2016, 1, 1, tzinfo=timezone.utc),)
_SENT = "traffic.json"


def main(arguments: list[str]) -> int:
    """Makes the project, releases, replays, and evaluates night by night; returns the exit code."""
    folder = pathlib.Path(arguments[0] if arguments else DEFAULT_FOLDER)
    try:
        write_project(folder)
        _encore(folder, "run", "--span", "1")
        replay(folder, traffic.Plan())
        evaluate(folder, traffic.Plan())
    except EncoreError as error:
        sys.stderr.write(f"encore: {error}\n")
        return error.exit_code
    except subprocess.CalledProcessError as error:
        return error.returncode
    _encore(folder, "nights")
    _say(f"look around: cd {folder} && encore ui")
    return 0


def write_project(folder: pathlib.Path) -> None:
    """Writes the project: configuration, schema, the spans."""
    folder.mkdir(parents=True, exist_ok=True)
    for source, name in (
        (resources.files("tfx_encore.pipeline.taxi") / "nightly.yaml", FILE_NAME),
        (resources.files("tfx_encore.schemas") / "taxi.pbtxt", "taxi.pbtxt"),
    ):
        target = folder / name
        text = source.read_text(encoding="utf-8")
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")
    write_spans(shipped_csv(), folder / "data", _CUTS)


def replay(folder: pathlib.Path, plan: traffic.Plan) -> None:
    """Sends the days to a gateway that serves the release; a replay that is there is kept."""
    hush()
    from tfx_encore.pipeline.taxi.replay import Replay, read_trips

    done = folder / _SENT
    said = json.dumps(plan.__dict__, sort_keys=True)
    if done.exists() and done.read_text(encoding="utf-8") == said:
        return
    for name in ("requests", "labels", "late-labels"):
        shutil.rmtree(folder / name, ignore_errors=True)
    project = open_project(str(folder / FILE_NAME))
    trips = read_trips(shipped_csv(), 2016)
    _say(f"replaying {plan.days} days of traffic, made of {len(trips):,} trips of 2016")
    began = time.monotonic()
    gateway = Replay(
        project.workspace.releases,
        project.config.model,
        folder / "requests",
        folder / "late-labels",
    )
    with gateway.serving():
        for number in range(1, plan.days + 1):
            gateway.play(number, traffic.traffic(trips, number, plan))
            _progress(f"  day {number} of {plan.days}")
    _say(f"  {plan.days * plan.requests:,} requests in {time.monotonic() - began:.0f} s")
    done.write_text(said, encoding="utf-8")


def evaluate(folder: pathlib.Path, plan: traffic.Plan) -> None:
    """Runs the nights. Labels come a day late, so the last two nights are run as on their days."""
    last, before = plan.days, plan.days - 1
    _arrive(folder, range(1, before))
    _encore(folder, "nightly", "--from", traffic.day_of(1), "--to", traffic.day_of(before - 1))
    _encore(folder, "nightly", "--date", traffic.day_of(before))
    _arrive(folder, (before,))
    _encore(folder, "nightly", "--from", traffic.day_of(before), "--to", traffic.day_of(last))


def _arrive(folder: pathlib.Path, days: range | tuple[int, ...]) -> None:
    """Labels of these days are there now."""
    for number in days:
        name = f"{traffic.day_of(number)}.csv"
        target = folder / "labels" / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / "late-labels" / name, target)


def _encore(folder: pathlib.Path, *arguments: str) -> None:
    """Runs the command as a user would, in the project's folder."""
    command = [sys.executable, "-m", "tfx_encore.pipeline.cli", *arguments]
    _say(f"$ encore {' '.join(arguments)}")
    subprocess.run(command, cwd=folder, check=True)  # noqa: S603 - our own command


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _progress(text: str) -> None:
    if sys.stdout.isatty():
        sys.stdout.write(f"\r{text}\033[K")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
