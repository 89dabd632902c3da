"""The picture of the release-under-load benchmark, in the colours of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

ROLLING_SECONDS = 5
PAPER, INK, MUTED, RULE = "#fcfbf8", "#1c1b19", "#5e5a53", "#dcd8cf"
LINES = (("#0a5aa8", "-"), ("#7d766a", "--"))
TARGET = "#b01e1e"

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Curve:
    """Hits over time.

    Attributes:
        label: of the curve.
        begin: second of the first value; second 0 begins at the switch.
        hits: in each second.
        answers: in each second.
    """

    label: str
    begin: int
    hits: Array
    answers: Array

    def rolling(self) -> tuple[Array, Array]:
        """The ends of the seconds, and the hit rate of the last 5; none reaches over the switch."""
        ends, rates = [], []
        for part in (slice(0, -self.begin), slice(-self.begin, None)):
            hits, answers = self.hits[part], self.answers[part]
            for at in range(len(hits)):
                window = slice(max(at + 1 - ROLLING_SECONDS, 0), at + 1)
                ends.append(self.begin + (part.start or 0) + at + 1)
                rates.append(hits[window].sum() / max(answers[window].sum(), 1))
        return np.array(ends), np.array(rates)


def draw(file: Path, curves: Sequence[Curve], target: float, target_label: str) -> None:
    """Writes a picture of 1100 by 560 pixels."""
    with mpl.rc_context({"font.family": "sans-serif", "font.size": 15, "text.color": INK}):
        figure = Figure(figsize=(11, 5.6), dpi=100, facecolor=PAPER, layout="constrained")
        axes = figure.add_subplot(facecolor=PAPER)
        for curve, (colour, line) in zip(curves, LINES, strict=True):
            ends, rates = curve.rolling()
            after = ends > 0
            for part, label in ((~after, None), (after, curve.label)):
                style = {"color": colour, "linestyle": line, "linewidth": 2.5}
                axes.plot(ends[part], 100 * rates[part], label=label, **style)
        axes.axhline(100 * target, color=TARGET, linestyle=":", linewidth=2, label=target_label)
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.annotate(
            "version 2 goes live",
            (0, 0.03),
            (-8, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=MUTED,
            ha="right",
        )
        _frame(axes, curves)
        FigureCanvasAgg(figure).print_png(str(file))


def _frame(axes: Any, curves: Sequence[Curve]) -> None:
    begin = max(curve.begin for curve in curves)
    end = min(curve.begin + len(curve.hits) for curve in curves)
    axes.set(xlim=(begin, end), ylim=(0, 102))
    axes.set_xlabel("seconds after the switch", color=MUTED)
    axes.set_ylabel(f"hit rate, % (last {ROLLING_SECONDS} s)", color=MUTED)
    axes.set_title("Hit rate while a release goes live", loc="left", color=INK, fontsize=17)
    axes.grid(axis="y", color=RULE, linewidth=1)
    axes.tick_params(colors=MUTED, length=0)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(RULE)
    axes.legend(loc="lower right", frameon=False, labelcolor=INK)
