"""Turns a matplotlib figure into inline SVG that takes its colours and font from the page.

matplotlib draws in placeholder colours; here each becomes a CSS variable, so that one drawing
serves light and dark mode. Text that came from users is drawn as a placeholder too and put in
afterwards, escaped: matplotlib then neither reads `$` as mathematics nor misses a glyph.
No IO here.
"""

from __future__ import annotations

import io
import re
import unicodedata
from dataclasses import dataclass, field
from html import escape
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# CSS variable -> the colour that stands for it while drawing. None occurs in any real palette.
PAINTS = {
    name: f"#{0x01F00D + index:06x}"
    for index, name in enumerate(
        (
            "ink",
            "muted",
            "rule",
            "paper",
            "now",
            "now-soft",
            "before",
            "before-soft",
            "ok",
            "warn",
            "block",
            "insufficient_data",
        )
    )
}
FONT_SIZE = 11.0
# Estimated widths in em, of the usual sans-serif faces; anything else counts as `_LETTER`.
_LETTER = 0.54
_WIDTHS = {
    **dict.fromkeys("ijl|!.,:;'`", 0.25),
    **dict.fromkeys('ftrI ()[]{}/\\-"', 0.33),
    **dict.fromkeys("ABCDEFGHKLNOPQRSTUVXYZ&+=<>~^", 0.66),
    **dict.fromkeys("mwMW%@…", 0.86),
}
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "encore",
    "font.size": FONT_SIZE,
    "axes.unicode_minus": True,
    "path.simplify": False,
}


_UNWANTED = re.compile(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", re.DOTALL)


def paint(name: str) -> str:
    """Returns the colour that becomes `var(--name)` on the page."""
    return PAINTS[name]


@dataclass
class Canvas:
    """A figure of `width` by `height` CSS pixels under construction.

    Attributes:
        width: of the drawing, in CSS pixels at its natural size.
        height: the same.
        label: what the drawing shows, for people who cannot see it.
        texts: texts from users and the width each was fitted to (None if it fits in any font),
            by number of their placeholder.
    """

    width: float
    height: float
    label: str
    texts: list[tuple[str, float | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.figure = Figure(figsize=(self.width / 72, self.height / 72), dpi=72)
        FigureCanvasSVG(self.figure)

    def axes(self, left: float, top: float, right: float, bottom: float) -> Axes:
        """Returns bare axes with the given margins, in CSS pixels."""
        box = (
            left / self.width,
            bottom / self.height,
            (self.width - left - right) / self.width,
            (self.height - top - bottom) / self.height,
        )
        axes = self.figure.add_axes(box)
        axes.patch.set_visible(False)
        axes.tick_params(length=0, pad=4, labelsize=FONT_SIZE - 0.5, labelcolor=paint("muted"))
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    def text(self, value: str, room: float) -> str:
        """Returns the placeholder to draw instead of a text that a user wrote.

        The text is cut to `room` CSS pixels. Which font the reader's machine has is unknown, so
        one that nearly fills its room is pinned to its estimated width.
        """
        short = shortened(value, room)
        width = text_width(short)
        self.texts.append((short, round(width, 1) if width > 0.8 * room else None))
        return f"@@{len(self.texts) - 1}@@"

    def svg(self, ident: str) -> Markup:
        """Returns the drawing as an `<svg>` element whose ids start with `ident`."""
        return Markup(themed(self._drawn(), self, ident))  # noqa: S704 - all text is escaped

    def _drawn(self) -> str:
        out = io.StringIO()
        settings: dict[Any, Any] = dict(_STYLE)
        with mpl.rc_context(settings):
            self.figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
        return out.getvalue()


def themed(drawn: str, canvas: Canvas, ident: str) -> str:
    """Rewrites matplotlib's SVG for the page; the rules are those of the module's docstring."""
    body = drawn[drawn.index(">", drawn.index("<svg")) + 1 :]
    body = re.sub(
        r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", body, flags=re.DOTALL
    )
    body = _own_ids(body, ident)
    body = re.sub(r"font-family: [^;\"]+;? ?", "", body)
    body = re.sub(r' transform="rotate\(-?0 [^"]*\)"', "", body)
    body = re.sub(r"<[^>]+>", _with_short_numbers, body)
    for name, colour in PAINTS.items():
        body = body.replace(colour, f"var(--{name})")
    body = re.sub(r"\s*\n\s*", " ", body).replace("> <", "><").replace("<defs></defs>", "")
    body = re.sub(r">@@(\d+)@@<", lambda match: _filled(*canvas.texts[int(match[1])]), body)
    size = f'viewBox="0 0 {canvas.width:g} {canvas.height:g}"'
    return f'<svg class="plot" {size} role="img" aria-label="{escape(canvas.label)}">{body}'


def shortened(text: str, room: float) -> str:
    """Returns `text` without control characters, its middle cut out beyond `room` CSS pixels."""
    clean = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in text)
    if text_width(clean) <= room:
        return clean
    left = room - text_width("…")
    head, tail = _within(clean, 0.4 * left), _within(clean[::-1], 0.6 * left)[::-1]
    return f"{head.rstrip()}…{tail.lstrip()}"


def text_width(text: str) -> float:
    """Estimated width of a text in CSS pixels; East Asian characters take a full em."""
    wide = unicodedata.east_asian_width
    return FONT_SIZE * sum(1.0 if wide(c) in "WF" else _WIDTHS.get(c, _LETTER) for c in text)


def _within(text: str, room: float) -> str:
    """The longest beginning of `text` that fits."""
    kept = 0
    while kept < len(text) and text_width(text[: kept + 1]) <= room:
        kept += 1
    return text[:kept]


def _filled(text: str, width: float | None) -> str:
    pinned = f' textLength="{width:g}" lengthAdjust="spacingAndGlyphs"' if width else ""
    return f"{pinned}>{escape(text)}<"


def _own_ids(body: str, ident: str) -> str:
    """Drops ids that nothing refers to; the rest become unique on the page."""
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{ident}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r"url\(#", f"url(#{ident}-", body)
    return body.replace('xlink:href="#', f'href="#{ident}-')


def _with_short_numbers(tag: re.Match[str]) -> str:
    """Coordinates to a hundredth of a pixel; what stands between tags is left as it is."""
    return re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), tag[0])
