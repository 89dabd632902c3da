"""Rules, dashboards and examples that come with the package, written where they are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tfx_encore import monitoring

# Where alerts say their runbook is: in the repository, unless another place is named.
RUNBOOKS = "docs/runbooks"
_LINK = "runbook_url: "
_FOLDERS = ("prometheus", "grafana")
_KINDS = frozenset({".yaml", ".yml", ".json"})
_OF_THE_MANIFESTS = "kustomization.yaml"


def write_files(target: Path, runbooks: str = RUNBOOKS) -> tuple[Path, ...]:
    """Writes them below `target`, in folders as in the package; returns the files.

    Args:
        target: a folder; made if it is not there, files of the same names are replaced.
        runbooks: where the runbooks are: an alert links to `<runbooks>/<alert>.md`.
    """
    written = []
    for path, text in packaged_files():
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        link = f"{_LINK}{runbooks.rstrip('/')}/"
        place.write_text(text.replace(f"{_LINK}{RUNBOOKS}/", link), encoding="utf-8")
        written.append(place)
    return tuple(written)


def packaged_files() -> Iterator[tuple[Path, str]]:
    """Relative path and content of each file, sorted by path."""
    home = Path(monitoring.__file__).parent
    for name in _FOLDERS:
        for file in sorted((home / name).rglob("*")):
            if file.suffix in _KINDS and file.name != _OF_THE_MANIFESTS:
                yield file.relative_to(home), file.read_text(encoding="utf-8")
