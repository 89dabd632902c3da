"""benchmarks/run_all.py: the page that `make bench` writes."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

MACHINE = "p, 2 cores, 24 GiB; Debian; Python 3.10"


@pytest.fixture
def tool(root: Path, load_module: Callable[[Path], ModuleType]) -> ModuleType:
    return load_module(root / "benchmarks/run_all.py")


def _result(**changes: Any) -> dict[str, Any]:
    return {
        "title": "Keys",
        "rows": [{"what": "a", "us": 1.23456}, {"what": "b", "n": 5}],
        "notes": ["Why."],
        "seconds": 3,
        "date": "2026-01-02",
        "quick": False,
        "machine": MACHINE,
        **changes,
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.23456, "1.235"),
        (0.1 + 0.2, "0.3"),
        (123456.7, "123,500"),
        (999.96, "1,000"),
        (0.0, "0"),
        (0.00001234, "1.23e-05"),
        (-2.5, "-2.5"),
        (math.nan, "nan"),
        (1234567, "1,234,567"),
        (True, "yes"),
        (None, ""),
        ("a|b\nc", "a\\|b c"),
    ],
)
def test_a_value_is_always_written_the_same_way(tool, value: object, text: str) -> None:
    assert tool.cell(value) == text


def test_a_table_has_every_column_once_and_numbers_to_the_right(tool) -> None:
    assert tool.table(_result()["rows"]).splitlines() == [
        "| what | us | n |",
        "| --- | ---: | ---: |",
        "| a | 1.235 |  |",
        "| b |  | 5 |",
    ]


def test_the_page_is_the_same_whatever_the_order_of_measuring(tool) -> None:
    first, second = tool.section("a", _result()), tool.section("b", _result())
    assert tool.page({"a": first, "b": second}) == tool.page({"b": second, "a": first})


def test_a_section_names_benchmark_date_machine_and_notes(tool) -> None:
    lines = tool.section("keys", _result()).splitlines()
    assert lines[0] == "## Keys"
    assert lines[2] == f"`bench_keys.py`, 2026-01-02, 3 s; {MACHINE}"
    assert lines[-1] == "- Why."


def test_a_quick_run_is_marked_as_such(tool) -> None:
    assert "quick run: not the figures to quote" in tool.section("k", _result(quick=True))


def test_the_sections_of_a_page_are_read_back_as_they_were_written(tool) -> None:
    sections = {name: tool.section(name, _result(title=name)) for name in ["b", "a_2"]}
    assert tool.sections_of(tool.page(sections)) == sections


def test_the_machine_is_described_in_one_line(tool) -> None:
    line = r".+, \d+ cores, \d+ GiB; .+; Python 3\.1\d\..*TFX 1\.\d+.*"
    assert re.fullmatch(line, tool.machine())


@pytest.mark.parametrize(
    "wrong",
    [{"rows": []}, {"rows": [{}]}, {"rows": "x"}, {"notes": None}, {"title": 3}],
)
def test_a_result_of_another_shape_is_refused_by_name(tool, wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"bench_x\.py"):
        tool.check(_result(**wrong), "bench_x.py")


@pytest.fixture
def project(tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two benchmarks, one of which fails, in a repository of their own."""
    places = {
        "ROOT": "",
        "BENCHMARKS": "b",
        "RESULTS": "r",
        "PAGE": "page.md",
        "QUICK_PAGE": "q.md",
    }
    for name, value in places.items():
        monkeypatch.setattr(tool, name, tmp_path / value)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/bench_good.py").write_text(
        "import numpy as np\n"
        "def run(quick):\n"
        "    return {'title': 'Good', 'rows': [{'quick': quick, 'n': np.int64(3)}], 'notes': []}\n"
    )
    (tmp_path / "b/bench_bad.py").write_text("def run(quick):\n    raise SystemExit(3)\n")
    return tmp_path


def _main(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["run_all.py", *arguments])
    return tool.main()


def test_a_failing_benchmark_is_named_and_its_section_stays(
    tool, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "page.md").write_text(tool.page({"bad": tool.section("bad", _result())}))
    assert _main(tool, monkeypatch) == 1
    assert "older or missing: bad" in capsys.readouterr().out
    page = (project / "page.md").read_text()
    assert "| no | 3 |" in page
    assert "## Keys" in page


def test_one_benchmark_alone_leaves_the_sections_of_those_that_still_exist(
    tool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = {name: tool.section(name, _result(title=name)) for name in ["bad", "good", "gone"]}
    (project / "page.md").write_text(tool.page(earlier))
    assert _main(tool, monkeypatch, "--only", "good") == 0
    sections = tool.sections_of((project / "page.md").read_text())
    assert set(sections) == {"bad", "good"}
    assert sections["bad"] == earlier["bad"]
    assert sections["good"].startswith("## Good")


def test_quick_figures_go_to_a_page_of_their_own(
    tool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _main(tool, monkeypatch, "--only", "good", "--quick") == 0
    assert not (project / "page.md").exists()
    assert "| yes | 3 |" in (project / "q.md").read_text()


def test_an_unknown_benchmark_is_answered_with_those_there_are(
    tool, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main(tool, monkeypatch, "--only", "goood") == 2
    assert "there are: bad, good" in capsys.readouterr().out


def test_every_benchmark_of_the_repository_has_a_run(root: Path, tool) -> None:
    for file in tool.discover(root / "benchmarks").values():
        functions = [n for n in ast.parse(file.read_text()).body if isinstance(n, ast.FunctionDef)]
        arguments = {f.name: [argument.arg for argument in f.args.args] for f in functions}
        assert arguments.get("run") == ["quick"], file.name
