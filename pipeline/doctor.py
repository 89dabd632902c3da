"""`encore doctor`: what is installed, what is missing, how to get it.

Nothing here loads TensorFlow: versions are read from the packages' metadata. Only the metadata
store's own library is loaded, where there is a store to open.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Optional

from tfx_encore.schemas.errors import EncoreError

# Packages and their ranges. None: the range that tfx-encore or tfx itself declares.
PACKAGES: dict[str, Optional[str]] = {
    "tfx": None,
    "tensorflow": None,
    "apache-beam": None,
    "ml-metadata": None,
    "tensorflow-data-validation": None,
    "tensorflow-transform": None,
    "tensorflow-model-analysis": None,
    "tensorflow-serving-api": None,
    "tfx-bsl": None,
    "keras": ">=3,<4",
    "tf-keras": None,
    "setuptools": "<81",  # tfx imports pkg_resources
    "dill": "",  # tfx-bsl and TFT need it, and Beam no longer brings it
}
ALSO_KNOWN_AS = {"tensorflow": "tensorflow-cpu"}
PROGRAMS = {  # program -> (its package in apt, what it is for)
    "chromium": ("chromium", "tests that look at the report"),
    "mariadbd": ("mariadb-server-core", "tests of a MySQL metadata store"),
    "podman": ("podman", "building the component image"),
}
INSTALL = "`make setup` installs the pinned set; see docs/install.md"
DISK_GIB = 1.0
MEMORY_GIB = 2.0
_SYSTEM_PATHS = ("/usr/local/sbin", "/usr/sbin", "/sbin")

State = Literal["ok", "problem", "missing"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        area: `machine`, `packages`, `project`, `runner` or `programs`.
        name: what.
        state: `ok`, `problem` (there, but not right) or `missing`.
        found: what was found, for a person.
        advice: how to put it right; "" if it is.
        required: False if everything works without it.
    """

    area: str
    name: str
    state: State
    found: str
    advice: str = ""
    required: bool = True


@dataclass(frozen=True)
class Diagnosis:
    """All checks.

    Attributes:
        checks: in order.
        project: the project file, None outside a project.
    """

    checks: tuple[Check, ...]
    project: Optional[str]

    @property
    def well(self) -> bool:
        """True if all that is required is there."""
        return all(check.state == "ok" or not check.required for check in self.checks)


def diagnose(config_file: Optional[pathlib.Path], runner: Optional[str] = None) -> Diagnosis:
    """Looks at the machine, the packages, the project, the Beam runner and the programs.

    Args:
        config_file: the project file; None outside a project.
        runner: the Beam runner to look at; None looks at the project's, if it is not in process.

    Raises:
        ConfigError: `runner` is none, or one that is refused.
    """
    checks = [*machine_checks(), *package_checks()]
    if config_file is not None:
        checks += _project(config_file)
    checks += _runner(config_file, runner)
    checks += program_checks()
    return Diagnosis(tuple(checks), None if config_file is None else str(config_file))


def _project(config_file: pathlib.Path) -> list[Check]:
    try:
        from tfx_encore.pipeline.doctor_project import project_checks
    except ImportError as error:
        return [Check("project", "project", "problem", f"not looked at: {error}", INSTALL)]
    return list(project_checks(config_file))


def _runner(config_file: Optional[pathlib.Path], runner: Optional[str]) -> Iterator[Check]:
    from tfx_encore.pipeline.beam_options import BeamChoice
    from tfx_encore.pipeline.config import load_config
    from tfx_encore.pipeline.doctor_beam import choice_for, runner_checks
    from tfx_encore.pipeline.workspace import Workspace

    configured, workspace = None, None
    if config_file is not None:
        try:
            config = load_config(config_file)
        except EncoreError:
            pass  # the project's own checks say so
        else:
            configured = BeamChoice.of(config.beam.runner, config.beam.options)
            workspace = Workspace.of(config, config_file).root
    if runner is not None:
        yield from runner_checks(choice_for(runner, configured), workspace)
    elif configured is not None and not configured.here:
        yield from runner_checks(configured, workspace)


def machine_checks() -> Iterator[Check]:
    """Python, whether it keeps bytecode, the system, and memory."""
    wanted = importlib.metadata.metadata("tfx-encore")["Requires-Python"]
    found = platform.python_version()
    if _within(found, wanted):
        yield Check("machine", "python", "ok", found)
    else:
        advice = f"use Python {wanted}: tfx has packages for no other that we pin"
        yield Check("machine", "python", "problem", f"{found}, not {wanted}", advice)
    yield _bytecode()
    system = f"{platform.system()} {platform.machine()}"
    if (sys.platform, platform.machine()) == ("linux", "x86_64"):
        yield Check("machine", "system", "ok", system)
    else:
        yield Check(
            "machine", "system", "problem", system, "use Linux x86-64, or a container of it"
        )
    yield _memory()


def package_checks(packages: Optional[dict[str, Optional[str]]] = None) -> Iterator[Check]:
    """Every package that a run needs, with its version and the range that is supported.

    Args:
        packages: name -> range; None takes PACKAGES.
    """
    declared = _declared_ranges()
    for name, given in (PACKAGES if packages is None else packages).items():
        wanted = declared.get(name, "") if given is None else given
        found = _version(name) or _version(ALSO_KNOWN_AS.get(name, name))
        if found is None:
            yield Check(
                "packages", name, "missing", f"not installed; needed: {wanted or 'any'}", INSTALL
            )
        elif not _within(found, wanted):
            yield Check("packages", name, "problem", f"{found}, not {wanted}", INSTALL)
        else:
            yield Check("packages", name, "ok", f"{found} ({wanted})" if wanted else found)


def program_checks(which: Optional[Callable[[str], Optional[str]]] = None) -> Iterator[Check]:
    """Programs that some tests and builds start; all optional.

    Args:
        which: finds a program; None looks in PATH and where Debian keeps daemons.
    """
    for program, (package, purpose) in PROGRAMS.items():
        path = (which or _which)(program)
        if path:
            yield Check("programs", program, "ok", path, required=False)
        else:
            advice = f"apt install {package}"
            yield Check("programs", program, "missing", f"for {purpose}", advice, required=False)


def disk_check(folder: pathlib.Path) -> Check:
    """Whether a run can write to a folder that may not exist yet, and enough."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        free = shutil.disk_usage(there).free / 2**30
    except OSError as error:
        advice = "give this user the right to write there, or name another `workspace`"
        return Check("project", "workspace", "problem", f"{there}: {error.strerror}", advice)
    found = f"{folder}, writable, {free:.1f} GiB free"
    if free < DISK_GIB:
        advice = f"free {DISK_GIB:g} GiB, or name a `workspace` on another disk"
        return Check("project", "workspace", "problem", found, advice)
    return Check("project", "workspace", "ok", found)


def guarded(name: str, look: Callable[[], str], advice: str = "") -> Check:
    """A check that is right if `look` returns, and says what our error says if it does not."""
    try:
        return Check("project", name, "ok", look())
    except (EncoreError, ImportError) as error:
        return Check("project", name, "problem", str(error), advice)


def _bytecode() -> Check:
    """Compiling TensorFlow and TFX takes 20 s: once, or in every process of a run."""
    package = importlib.util.find_spec("tensorflow")
    if package is None or package.origin is None:
        return Check("machine", "bytecode", "ok", "nothing to compile")
    if pathlib.Path(importlib.util.cache_from_source(package.origin)).exists():
        return Check("machine", "bytecode", "ok", "compiled")
    if not sys.dont_write_bytecode:
        return Check("machine", "bytecode", "ok", "kept from the first run on")
    folder = pathlib.Path(package.origin).parents[1]
    found = "not kept, as PYTHONDONTWRITEBYTECODE is set: each process compiles TensorFlow, 20 s"
    advice = f"unset it, or compile once: python -m compileall -q -j 0 {folder}"
    return Check("machine", "bytecode", "problem", found, advice, required=False)


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    if total >= MEMORY_GIB:
        return Check("machine", "memory", "ok", f"{total:.1f} GiB")
    advice = f"a run takes up to {MEMORY_GIB:g} GiB"
    return Check("machine", "memory", "problem", f"{total:.1f} GiB", advice, required=False)


def _version(name: str) -> Optional[str]:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _declared_ranges() -> dict[str, str]:
    """Package -> version range, as tfx-encore declares it, else as tfx does."""
    from packaging.requirements import Requirement

    ranges: dict[str, str] = {}
    for owner in ("tfx-encore", "tfx"):
        requires = (_version(owner) and importlib.metadata.requires(owner)) or []
        for requirement in map(Requirement, requires):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                ranges.setdefault(requirement.name, str(requirement.specifier))
    return ranges


def _within(version: str, wanted: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(wanted).contains(version, prereleases=True)


def _which(program: str) -> Optional[str]:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_PATHS])
    return shutil.which(program, path=path)
