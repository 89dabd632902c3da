"""Runs the benchmarks and writes docs/benchmarks.md.

    python benchmarks/run_all.py [--quick] [--only NAME]...

Each benchmark is a file `bench_<name>.py` with `run(quick: bool) -> dict`, which returns
{"title": str, "rows": [{column: value}], "notes": [str]}. Each runs in a process of its own, so
that none measures what another left in memory.

A section of the page that is not measured now, or whose benchmark failed, stays as it was. Quick
figures never replace those of the page: they are written to a page of their own.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
RESULTS = ROOT / ".cache" / "bench"
PAGE = ROOT / "docs" / "benchmarks.md"
QUICK_PAGE = ROOT / ".cache" / "benchmarks-quick.md"

PACKAGES = {
    "tensorflow-cpu": "TensorFlow",
    "tfx": "TFX",
    "tensorflow-model-analysis": "TFMA",
    "apache-beam": "Beam",
    "keras": "Keras",
    "numpy": "NumPy",
}

INTRODUCTION = """# Benchmarks

Written by `make bench`; `make bench ONLY=name` measures one section anew. `QUICK=1` runs a small
version of each and writes its figures elsewhere. Ratios are measured side by side in one run, as
medians. Figures of another machine differ; the ratios should not, much.
"""


def discover(folder: Path) -> dict[str, Path]:
    """The benchmarks by name, in alphabetical order."""
    return {file.stem.removeprefix("bench_"): file for file in sorted(folder.glob("bench_*.py"))}


# --- one benchmark, in its own process ----------------------------------------------------------


def measure(file: Path, quick: bool, output: Path) -> None:
    """Runs one benchmark here and writes its result."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # A benchmark's own classes and functions must be found again by pickle, as Beam needs.
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    start = time.perf_counter()
    result = check(module.run(quick), file.name)
    result |= {
        "seconds": round(time.perf_counter() - start),
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "quick": quick,
        "machine": machine(),
    }
    output.write_text(json.dumps(result, indent=1, default=_plain), encoding="utf-8")


def check(result: dict[str, Any], name: str) -> dict[str, Any]:
    """The result, or a TypeError saying what in it is not as the page needs it."""
    shape = {"title": str, "rows": list, "notes": list}
    for key, kind in shape.items():
        if not isinstance(result.get(key), kind):
            raise TypeError(f"{name}: run() must return {key!r} as a {kind.__name__}")
    if not result["rows"] or not all(isinstance(row, dict) and row for row in result["rows"]):
        raise TypeError(f"{name}: 'rows' must be a list of at least one non-empty dictionary")
    return {key: result[key] for key in shape}


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, for JSON."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r} cannot be written as JSON")


def run_in_process(file: Path, quick: bool, output: Path) -> int:
    """Starts a new interpreter for one benchmark; its exit code."""
    command = [sys.executable, __file__, "--measure", str(file), "--output", str(output)]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "ERROR", "CUDA_VISIBLE_DEVICES": "-1"}
    command += ["--quick"] if quick else []
    return subprocess.run(command, env={**os.environ, **quiet}, cwd=ROOT, check=False).returncode


# --- the machine --------------------------------------------------------------------------------


def machine() -> str:
    """What the figures depend on, in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    hardware = f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB"
    system = f"{_system()}, {'-'.join(platform.libc_ver())}"
    versions = [f"{label} {version}" for name, label in PACKAGES.items() if (version := _has(name))]
    return f"{hardware}; {system}; {', '.join([f'Python {platform.python_version()}', *versions])}"


def _has(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


# --- the page -----------------------------------------------------------------------------------


def cell(value: Any) -> str:
    """A value as a table shows it: four significant digits, thousands apart, `|` escaped."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return _number(value)
    return str(value).replace("|", "\\|").replace("\n", " ")


def _number(value: float) -> str:
    if value != value or value in {float("inf"), float("-inf")}:
        return str(value)
    if value and not 1e-4 <= abs(value) < 1e12:
        return f"{value:.3g}"
    rounded = float(f"{value:.4g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:.4g}"


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table; columns in the order in which they first appear, numbers to the right."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    right = {name for name in columns if any(_is_number(row.get(name)) for row in rows)}
    lines = [
        [cell(name) for name in columns],
        ["---:" if name in right else "---" for name in columns],
        *([cell(row.get(name)) for name in columns] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def section(name: str, result: dict[str, Any]) -> str:
    """One benchmark on the page. The line below the title is what `sections_of` knows it by."""
    measured = f"`bench_{name}.py`, {result['date']}, {result['seconds']} s; {result['machine']}"
    if result["quick"]:
        measured += "; **quick run: not the figures to quote**"
    parts = [f"## {result['title']}", measured, table(result["rows"])]
    if result["notes"]:
        parts.append("\n".join(f"- {note}" for note in result["notes"]))
    return "\n\n".join(parts)


def sections_of(text: str) -> dict[str, str]:
    """The sections of a page that was written earlier, by the name of their benchmark."""
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    named = ((re.match(r"## .*\n\n`bench_(\w+)\.py`", part), part) for part in parts)
    return {found[1]: part.strip() for found, part in named if found}


def page(sections: dict[str, str]) -> str:
    """The whole page, its sections in alphabetical order of their benchmarks' names."""
    ordered = [sections[name] for name in sorted(sections)]
    return "\n\n".join([INTRODUCTION.rstrip(), *ordered]) + "\n"


def update(file: Path, measured: dict[str, str], names: set[str]) -> int:
    """Writes the page with what was measured now, and says how many sections it has."""
    earlier = sections_of(file.read_text(encoding="utf-8")) if file.is_file() else {}
    sections = {name: text for name, text in (earlier | measured).items() if name in names}
    file.write_text(page(sections), encoding="utf-8")
    return len(sections)


def run_all(benchmarks: dict[str, Path], only: list[str], quick: bool) -> dict[str, str | None]:
    """The section of each benchmark, None for one that failed."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    sections: dict[str, str | None] = {}
    for name in only or list(benchmarks):
        print(f"==> {name}", flush=True)
        start = time.perf_counter()
        output = RESULTS / f"{name}.json"
        if run_in_process(benchmarks[name], quick, output) == 0:
            sections[name] = section(name, json.loads(output.read_text(encoding="utf-8")))
            print(f"    {time.perf_counter() - start:.0f} s", flush=True)
        else:
            sections[name] = None
            print("    FAILED", flush=True)
    return sections


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Runs the benchmarks, writes docs/benchmarks.md.")
    parser.add_argument("--quick", action="store_true", help="a small version of each")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="just this one")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """The exit code: 1 when a benchmark failed, 2 when a name is unknown."""
    arguments = _arguments()
    if arguments.measure:
        measure(arguments.measure, arguments.quick, arguments.output)
        return 0
    benchmarks = discover(BENCHMARKS)
    unknown = [name for name in arguments.only if name not in benchmarks]
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are: {', '.join(benchmarks)}")
        return 2
    sections = run_all(benchmarks, arguments.only, arguments.quick)
    measured = {name: text for name, text in sections.items() if text is not None}
    file = QUICK_PAGE if arguments.quick else PAGE
    if measured:
        count = update(file, measured, set(benchmarks))
        print(f"==> {file.relative_to(ROOT)}: {count} of {len(benchmarks)} benchmarks")
    failed = [name for name, text in sections.items() if text is None]
    if failed:
        print(f"FAILED, their sections are older or missing: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
