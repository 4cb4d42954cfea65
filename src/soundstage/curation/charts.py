"""The charts of curation: signals of kept and dropped clips, and precision against yield. PNG with equal bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_KEPT, _DROPPED, _LIMIT, _MUTED = "#1f6fd0", "#c33a34", "#1c2128", "#656d78"
_COLUMNS = 4
_DPI = 100
_STYLE: dict[Any, Any] = {
    "font.size": 8.0,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "text.parse_math": False,
}


def histograms_png(spread: Mapping[str, Any]) -> bytes:
    """One small histogram a signal of `funnel.distributions`, kept on dropped clips, with the threshold as a line."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        figure, places = _grid(len(spread))
        for axes, (name, item) in zip(places, spread.items(), strict=True):
            _histogram(axes, name, item)
        figure.legend(*places[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
        return _png(figure)


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    # Not pyplot: it keeps every figure of the process, and picks a window system.
    from matplotlib.figure import Figure

    rows = math.ceil(count / _COLUMNS)
    figure = Figure(figsize=(2.6 * _COLUMNS, 1.55 * rows + 0.35), layout="constrained")
    return figure, [figure.add_subplot(rows, _COLUMNS, place + 1) for place in range(count)]


def _histogram(axes: Axes, name: str, item: Mapping[str, Any]) -> None:
    left, right = item["edges"][:-1], item["edges"][1:]
    widths = [b - a for a, b in zip(left, right, strict=True)]
    axes.bar(left, item["dropped"], widths, align="edge", color=_DROPPED, label="dropped")
    axes.bar(left, item["kept"], widths, bottom=item["dropped"], align="edge", color=_KEPT, label="kept")
    limit = item["threshold"]
    if limit is not None and item["edges"][0] <= limit <= item["edges"][-1]:
        # A highest whole number allowed lies on the border to the next bin.
        at = limit + 0.5 if item["field"].startswith("max_") and widths[0] == 1 else limit
        axes.axvline(at, color=_LIMIT, linestyle="--", linewidth=1.0)
    null = f", null {item['null']}" if item["null"] else ""
    axes.set_title(f"{name}{null}")
    axes.locator_params(nbins=4)
    axes.tick_params(colors=_MUTED, labelsize=7)


def calibration_png(curves: Sequence[Mapping[str, Any]], precision: float) -> bytes:
    """For each score its precision over the threshold and over the yield, with intervals and the threshold chosen.

    `curves` are those of `calibrate.Calibration.as_dict`.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 2.9 * len(curves)), layout="constrained")
        for row, curve in enumerate(curves):
            by_threshold = figure.add_subplot(len(curves), 2, 2 * row + 1)
            _curve(by_threshold, curve, precision, "threshold")
            by_threshold.set_title(f"{curve['score']}, {curve['used']} labelled clips")
            _curve(figure.add_subplot(len(curves), 2, 2 * row + 2), curve, precision, "yield")
        return _png(figure)


def _curve(axes: Axes, curve: Mapping[str, Any], precision: float, over: str) -> None:
    points = curve["points"]
    x = [point[over] for point in points]
    axes.fill_between(
        x,
        [point["precision_low"] for point in points],
        [point["precision_high"] for point in points],
        color=_KEPT,
        alpha=0.2,
        linewidth=0,
    )
    axes.plot(x, [point["precision"] for point in points], color=_KEPT, label="precision, 95 % interval")
    if over == "threshold":
        axes.plot(x, [point["yield"] for point in points], color=_MUTED, linestyle=":", label="yield")
    axes.axhline(precision, color=_DROPPED, linewidth=0.8, linestyle="--", label=f"wanted {precision:g}")
    if curve["chosen"]:
        axes.plot(curve["chosen"][over], curve["chosen"]["precision"], "o", color=_LIMIT, markersize=5, label="chosen")
    axes.set_xlabel(over)
    axes.set_ylim(0, 1.03)
    axes.legend(loc="lower left", fontsize=7)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return stream.getvalue()
