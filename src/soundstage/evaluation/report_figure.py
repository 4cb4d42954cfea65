"""The look of the report's figures, and their two forms: SVG that follows the page's light or dark theme, and PNG.

A figure is drawn once, in the colours of the light theme. In the SVG each colour becomes a variable of the page's
style sheet with that colour as its fallback, so the page decides.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID = "#1c2128", "#656d78", "#d5d9df"
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#1f6fd0", "#b95c00", "#1a7f4b", "#c33a34", "#7a4fc4", "#77808b"
ON_BAR = "#fefefe"
"""text on a coloured bar"""

# The names stand in templates/report.css.
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    BLUE: "--blue",
    ORANGE: "--orange",
    GREEN: "--green",
    RED: "--red",
    PURPLE: "--purple",
    GREY: "--grey",
    ON_BAR: "--on-bar",
}

_STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",  # text stays text: the page's font, and it can be searched
    "text.color": INK,
    "text.parse_math": False,  # a label may hold a dollar sign
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
}
_WIDTH_IN = 4.4
_PNG_DPI = 160

Draw = Callable[[Axes], None]


def draw_figure(draw: Draw, height_in: float) -> Figure:
    """A figure of one plot area that `draw` fills; no global state of matplotlib is touched."""
    with _style():
        figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
        draw(figure.add_subplot())
    return figure


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A browser finds the glyphs of a script that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def to_svg(figure: Figure, name: str, description: str) -> str:
    """Inline SVG; equal figures give equal text.

    `name` keeps its inner ids apart from those of the page's other figures; `description` is for screen readers.
    """
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with _style(), mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'style="[^"]*"', lambda found: _themed(found.group()), text)
    text = re.sub(r'\b(d|x|y)="[^"]*"', lambda found: _hundredths(found.group()), text)
    text = re.sub(r'\bid="(?P<id>[\w.]+_\d+)"', rf'id="{name}-\g<id>"', text)  # figure_1, text_3
    label = description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    opening, rest = text.removeprefix("<svg").split(">", 1)
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)  # the page sizes it by its viewBox
    return f'<svg role="img" aria-label="{label}"{opening}>{rest}'


def _hundredths(coordinates: str) -> str:
    """Coordinates in points, cut to two decimals: finer than any screen, half the text."""
    return re.sub(r"(\.\d\d)\d+", r"\1", coordinates)


def _themed(style: str) -> str:
    return re.sub(
        r"#[0-9a-f]{6}",
        lambda found: (
            f"var({VARIABLES[found.group()]}, {found.group()})" if found.group() in VARIABLES else found.group()
        ),
        style,
    )


def to_png(figure: Figure) -> bytes:
    """The figure on white, in the light theme's colours."""
    stream = io.BytesIO()
    with _style():
        figure.savefig(stream, format="png", dpi=_PNG_DPI, facecolor="white", metadata={"Software": None})
    return stream.getvalue()
