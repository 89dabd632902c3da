"""What holds for every test: a quiet environment, services from apt, hypothesis profiles.

The environment is set at import, before any test module can load TensorFlow.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest
from hypothesis import settings

pytest_plugins = ["pytester"]

_QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GRPC_VERBOSITY": "ERROR",
    "CUDA_VISIBLE_DEVICES": "-1",
    "MPLBACKEND": "Agg",
    # Programs that tests start answer in English and in UTF-8.
    "LC_ALL": "C.UTF-8",
}
# Debian keeps daemons such as mariadbd where an ordinary user's PATH does not look.
_DAEMON_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_MISSING = "missing_service"


def _set_environment() -> None:
    os.environ.update(_QUIET)
    folders = os.environ.get("PATH", "").split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(
        [*folders, *(folder for folder in _DAEMON_FOLDERS if folder not in folders)]
    )
    # What the developer's own shell says to the product must not reach the tests.
    for name in [name for name in os.environ if name.startswith("ENCORE_")]:
        del os.environ[name]


_set_environment()

# `ci` (the default) finds the same cases every time; `explore` looks for new ones.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def _cannot(why: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(f"{why} (CI is set, so this is a failure)", pytrace=False)
    pytest.skip(why)


@pytest.fixture(scope="session", name="cannot")
def cannot_fixture() -> Callable[[str], NoReturn]:
    """Skips a test that this machine cannot run, and says why; in CI, fails it."""
    return _cannot


@pytest.fixture(scope="session")
def load_module() -> Callable[[Path], ModuleType]:
    """Loads a file as a module of its name; tests and tools are no packages."""

    def load(file: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[file.stem] = module  # dataclasses and pickle look there
        spec.loader.exec_module(module)
        return module

    return load


def _services(item: pytest.Item) -> Iterator[str]:
    for mark in item.iter_markers("service"):
        if not mark.args or mark.kwargs:
            raise pytest.UsageError(f"{item.nodeid}: write service('program'), not {mark}")
        yield from mark.args


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test whose service is not installed; in CI, fails it."""
    missing = [name for name in _services(item) if shutil.which(name) is None]
    if not missing:
        return
    # The report carries these to the process that prints the end, also from a worker of xdist.
    item.user_properties += [(_MISSING, name) for name in missing]
    _cannot(f"{', '.join(missing)} is not installed; tools/services installs what apt has")


class MissingServices:
    """Counts the tests that a missing service kept from running."""

    def __init__(self) -> None:
        self.tests: set[str] = set()
        self.by_service: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Counts a test once, when its setup is reported."""
        names = [str(value) for name, value in report.user_properties if name == _MISSING]
        if report.when == "setup" and names:
            self.tests.add(report.nodeid)
            self.by_service.update(names)

    def line(self) -> str:
        """The last line of the run, empty when nothing was missing."""
        if not self.tests:
            return ""
        count = len(self.tests)
        services = ", ".join(f"{name} ({n})" for name, n in sorted(self.by_service.items()))
        was = "test was" if count == 1 else "tests were"
        return f"MISSING SERVICES: {count} {was} not run: {services}"


def pytest_configure(config: pytest.Config) -> None:
    """Counts in the process that prints, not in the workers."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(MissingServices(), "missing-services")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Writes the line after everything else, where it is seen."""
    counted = config.pluginmanager.get_plugin("missing-services")
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if counted and terminal and counted.line():
        terminal.write_line(counted.line(), red=True, bold=True)
