"""The errors of TFX Encore.

EncoreError                   anything we refuse or cannot do; the command prints it in one line
├── ConfigError               the configuration: file, key, value, valid choices
├── DataError                 data that cannot be read or lacks what the schema names
├── ModelError                a SavedModel that cannot be loaded, or answers with NaN
├── ReleaseError              the release directory
│   ├── ReleaseCorruptError   someone edited it, or a file of it is missing or unreadable
│   ├── ReleaseBusyError      another process holds its lock
│   └── VersionNotFoundError  no such version, or no such label
├── PushRefusedError          a blessing is missing or says BLOCK
├── LedgerError               the metadata store or the journal
│   ├── LedgerUnavailableError  it cannot be reached now; trying again may help
│   └── LedgerVersionError    it was written by another version of ml-metadata
├── SnapshotError             a cache snapshot that is truncated, corrupt or of another format
├── StoreUnavailableError     a cache store cannot be reached; costs a miss, never an answer
├── WorkerPoolError           a Beam worker pool that cannot be reached, or lost a worker
├── WorkspaceBusyError        another run is under way in this workspace
├── KubeflowError             Kubeflow's API server refuses, fails or cannot be reached
└── StepFailedError           a pipeline component failed: which, why, where the log is

Every message names the thing, the value found and the way out.
"""

from __future__ import annotations


class EncoreError(Exception):
    """Root of the tree. `str(error)` is one line fit for a terminal."""

    exit_code = 1


class ConfigError(EncoreError):
    """The configuration is wrong.

    Args:
        message: what is wrong and what would be right.
        file: the file it was read from, if any.
        key: dotted path of the offending key, if any.
    """

    exit_code = 2

    def __init__(self, message: str, *, file: str | None = None, key: str | None = None) -> None:
        self.file = file
        self.key = key
        place = ": ".join(part for part in (file, key) if part)
        super().__init__(f"{place}: {message}" if place else message)


class DataError(EncoreError):
    """Data cannot be read, is empty, or does not fit the schema."""


class ModelError(EncoreError):
    """A SavedModel cannot be loaded, lacks a signature, or answers with NaN."""


class ReleaseError(EncoreError):
    """Something is wrong with the release directory."""


class ReleaseCorruptError(ReleaseError):
    """The release directory was edited, or a file in it is missing or unreadable."""


class ReleaseBusyError(ReleaseError):
    """Another process is pushing into, or relabelling, this release directory."""


class VersionNotFoundError(ReleaseError):
    """No such version or label. The message lists those that exist."""


class PushRefusedError(EncoreError):
    """A blessing is missing, or its decision is BLOCK.

    Args:
        message: the reason, naming each blessing that stands in the way.
        refusals: (blessing name, reason) pairs, in the order they were given.
    """

    exit_code = 3

    def __init__(self, message: str, refusals: tuple[tuple[str, str], ...] = ()) -> None:
        self.refusals = refusals
        super().__init__(message)


class LedgerError(EncoreError):
    """The ledger refused an operation."""


class LedgerUnavailableError(LedgerError):
    """The ledger cannot be reached now; trying again may help."""


class LedgerVersionError(LedgerError):
    """The metadata store was written by another version of ml-metadata."""


class SnapshotError(EncoreError):
    """A cache snapshot is truncated, corrupt or of an unknown format."""


class StoreUnavailableError(EncoreError):
    """A cache store cannot be reached now. The cache counts a miss and goes on."""


class WorkerPoolError(EncoreError):
    """A Beam worker pool cannot be reached, or lost a worker in the midst of work.

    Args:
        pool: its address, HOST:PORT.
        problem: what is wrong with it.
    """

    def __init__(self, pool: str, problem: str) -> None:
        self.pool = pool
        self.problem = problem
        super().__init__(
            f"worker pool {pool}: {problem}; look at that machine, then run again: a step that "
            "failed has written no output"
        )


class WorkspaceBusyError(EncoreError):
    """Another run is under way in this workspace."""

    exit_code = 4


class KubeflowError(EncoreError):
    """Kubeflow's API server refuses an operation, fails, or cannot be reached.

    Args:
        message: what was tried, what the server said, and the way out.
        status: the HTTP status; None if there was no answer.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


class StepFailedError(EncoreError):
    """A component of a pipeline failed.

    Args:
        step: the component's id.
        cause: its error in one line.
        log: path of the full log.
    """

    def __init__(self, step: str, cause: str, log: str) -> None:
        self.step = step
        self.cause = cause
        self.log = log
        super().__init__(f"{step} failed: {cause} (full log: {log})")
