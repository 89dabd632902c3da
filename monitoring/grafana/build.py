"""Writes the dashboards: `python -m tfx_encore.monitoring.grafana.build`."""

from __future__ import annotations

import json
from pathlib import Path

from tfx_encore.monitoring.grafana.boards import BOARDS
from tfx_encore.monitoring.grafana.panels import Board, dashboard

FOLDER = Path(__file__).parent / "dashboards"


def content_of(board: Board) -> str:
    """The file of a dashboard."""
    return json.dumps(dashboard(board), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Writes all of them."""
    for board in BOARDS:
        (FOLDER / f"{board.uid}.json").write_text(content_of(board), encoding="utf-8")


if __name__ == "__main__":
    main()
