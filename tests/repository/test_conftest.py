"""What tests/conftest.py promises: missing services are seen, the environment is clean."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

INI = """
[pytest]
addopts = --strict-markers -p no:cacheprovider
markers =
    slow: slow
    service(name): needs a program
"""

THREE_OF_FIVE_NEED_SOMETHING_MISSING = """
    import pytest

    def test_plain():
        pass

    @pytest.mark.service("sh")
    def test_present():
        pass

    @pytest.mark.service("no-such-daemon")
    def test_one():
        raise AssertionError("must not run")

    @pytest.mark.service("no-such-daemon", "no-such-browser")
    def test_two():
        raise AssertionError("must not run")

    @pytest.fixture
    def started():
        raise AssertionError("must not be set up")

    @pytest.mark.service("no-such-daemon")
    def test_three(started):
        pass
"""

LAST_LINE = "MISSING SERVICES: 3 tests were not run: no-such-browser (1), no-such-daemon (3)"


@pytest.fixture
def project(pytester: pytest.Pytester, root: Path, monkeypatch: pytest.MonkeyPatch):
    """A project that has our conftest and five tests."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini(INI)
    pytester.makeconftest((root / "tests/conftest.py").read_text())
    pytester.makepyfile(THREE_OF_FIVE_NEED_SOMETHING_MISSING)
    return pytester


def _last_line(result: pytest.RunResult) -> str:
    return [line for line in result.outlines if line.strip()][-1]


def test_a_missing_service_skips_its_tests_and_the_last_line_counts_them(project) -> None:
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=2, skipped=3)
    assert result.ret == 0
    assert _last_line(result) == LAST_LINE


def test_the_workers_of_xdist_are_counted_together(project) -> None:
    result = project.runpytest_subprocess("-p", "xdist", "-n", "2")
    result.assert_outcomes(passed=2, skipped=3)
    assert _last_line(result) == LAST_LINE


def test_in_ci_a_missing_service_is_a_failure(project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=2, errors=3)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*no-such-daemon is not installed; tools/services*"])
    assert _last_line(result) == LAST_LINE


def test_with_every_service_there_is_no_such_line(project) -> None:
    result = project.runpytest_subprocess("-k", "plain or present")
    result.assert_outcomes(passed=2, deselected=3)
    assert "MISSING" not in result.stdout.str()


def test_one_missing_test_is_said_in_the_singular(project) -> None:
    result = project.runpytest_subprocess("-k", "two")
    assert _last_line(result).startswith("MISSING SERVICES: 1 test was not run:")


def test_a_service_mark_without_a_program_is_an_error(project) -> None:
    project.makepyfile("import pytest\n@pytest.mark.service\ndef test_x():\n    pass")
    assert project.runpytest_subprocess().ret != 0


def test_the_environment_of_the_tests_is_quiet_and_not_the_developers(
    project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENCORE_HOME", "/somewhere")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    project.makepyfile("""
        import os
        def test_it():
            assert "ENCORE_HOME" not in os.environ
            assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
            assert "/usr/sbin" in os.environ["PATH"].split(":")
    """)
    project.runpytest_subprocess().assert_outcomes(passed=1)


def test_hypothesis_finds_the_same_cases_every_time_unless_asked_to_explore() -> None:
    expected = os.environ.get("HYPOTHESIS_PROFILE", "ci") == "ci"
    assert settings.default is not None
    assert settings.default.derandomize is expected
    assert settings.default.deadline is None
