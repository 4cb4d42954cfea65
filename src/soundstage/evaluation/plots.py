"""The figures of a run: what was kept, how the losses fell, and how closely generated motion follows the sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from .report_figure import BLUE, GREEN, GREY, INK, MUTED, ON_BAR, ORANGE, PURPLE, RED, draw_figure
from .report_funnel import Funnel
from .report_numbers import NOT_MEASURED, finite, fixed, grouped
from .report_samples import Overlay

_ROW_IN = 0.3
_BAR = 0.62
_USE_COLOURS = {"pretrain": BLUE, "finetune": PURPLE, "validation": ORANGE, "test": GREEN, "open_class_test": GREY}
_CONDITION_COLOURS = {"true": BLUE, "stage_one": GREEN}
_CHARACTER_SHARE = 0.02
"""width of a character, as a share of the longest bar"""
_LOG_FROM_RATIO = 8.0

Curve = Sequence[Sequence[float]]
Entry = Mapping[str, Any]


def funnel_figure(funnel: Funnel) -> Figure:
    """Three stacked bars: sources, clips, and the selected clips by use."""
    rows: list[tuple[str, dict[str, tuple[int, str]]]] = [
        (
            f"sources  {grouped(funnel.sources)}",
            {
                "kept": (funnel.sources - funnel.sources_rejected, GREY),
                "rejected": (funnel.sources_rejected, RED),
            },
        ),
        (f"clips  {grouped(funnel.clips)}", {"kept": (funnel.selected, GREY), "dropped": (funnel.dropped, RED)}),
        (
            f"selected  {grouped(funnel.selected)}",
            {use: (count, _USE_COLOURS.get(use, GREY)) for use, count in funnel.kept.items()},
        ),
    ]
    total = max(funnel.sources, funnel.clips, 1)

    def draw(axes: Axes) -> None:
        for position, (_, segments) in enumerate(rows):
            _stacked_bar(axes, position, segments, total)
        _rows_from_top(axes, [name for name, _ in rows])
        axes.set_xlim(0, total)
        axes.grid(visible=False)
        axes.xaxis.set_visible(False)
        axes.spines[["bottom", "left"]].set_visible(False)

    return draw_figure(draw, 1.9)


def _stacked_bar(axes: Axes, position: int, segments: Mapping[str, tuple[int, str]], total: int) -> None:
    """Segments from the widest to the narrowest; what is too narrow for its own text is told below the bar's end."""
    left, told_below = 0, []
    for name, (count, colour) in sorted(segments.items(), key=lambda item: -item[1][0]):
        axes.barh(position, count, left=left, height=_BAR, color=colour, linewidth=0)
        text = f"{name} {grouped(count)}"
        if count / total > _CHARACTER_SHARE * len(text):
            axes.text(left + count / 2, position, text, ha="center", va="center", color=ON_BAR)
        elif count:
            told_below.append(text)
        left += count
    if told_below:
        _note(axes, (left, position + _BAR / 2), ", ".join(told_below), (0, -6.0), ha="right", color=MUTED)


def losses_figure(funnel: Funnel) -> Figure:
    """One bar for each reason to turn an item away."""
    losses = sorted(funnel.losses, key=lambda loss: (loss.step, -loss.count, loss.reason))

    def draw(axes: Axes) -> None:
        for position, loss in enumerate(losses):
            axes.barh(position, loss.count, height=_BAR, color=RED if loss.step == "ingest" else ORANGE)
            _note(axes, (loss.count, position), grouped(loss.count), (4, 0), ha="left", color=INK)
        names = [f"{loss.reason.replace('_', ' ')} ({loss.step})" for loss in losses]
        _rows_from_top(axes, names)
        axes.set_xlim(0, max((loss.count for loss in losses), default=1) * 1.12)
        axes.grid(visible=False)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)

    return draw_figure(draw, 0.35 + _ROW_IN * max(len(losses), 1))


def loss_figure(curves: Mapping[str, Curve]) -> Figure:
    """Training loss, raw and as a running mean, with the held-out loss; logarithmic where it falls far."""
    train, held_out = (np.asarray(curves.get(name) or [], dtype=np.float64) for name in ("train", "validation"))

    def draw(axes: Axes) -> None:
        if len(train):
            width = running_width(len(train))
            name = f"train, mean of {width} steps" if width > 1 else "train"
            axes.plot(train[:, 0], train[:, 1], color=BLUE, alpha=0.3, linewidth=0.7)
            axes.plot(train[:, 0], uniform_filter1d(train[:, 1], width, mode="nearest"), color=BLUE, label=name)
        if len(held_out):
            axes.plot(held_out[:, 0], held_out[:, 1], "o-", color=ORANGE, markersize=3.5, label="held out")
        values = np.concatenate([curve[:, 1] for curve in (train, held_out) if len(curve)])
        if values.min() > 0 and values.max() / values.min() > _LOG_FROM_RATIO:
            _logarithmic(axes)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("loss")
        _legend_above(axes)

    return draw_figure(draw, 2.6)


def running_width(points: int) -> int:
    """Odd width of the running mean over a curve of so many points: about a twentieth of it."""
    return max(1, points // 20) | 1


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    plain = ScalarFormatter()
    plain.set_scientific(False)
    axes.yaxis.set_major_formatter(plain)
    axes.yaxis.set_minor_formatter(NullFormatter())


def controls_figure(conditions: Mapping[str, Entry], limits: Mapping[str, tuple[str, float]]) -> Figure:
    """Mean and interval of each condition, and the gate's limits: {"true": ("≥", 0.6), ...}."""

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=MUTED, linewidth=0.8)
        for position, (name, entry) in enumerate(conditions.items()):
            _interval_row(axes, position, entry, _CONDITION_COLOURS.get(name, GREY))
            if name in limits:
                _limit(axes, position, *limits[name])
        _rows_from_top(axes, [name.replace("_", " ") for name in conditions])
        axes.set_xlim(*_span([*conditions.values()], [value for _, value in limits.values()]))
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("motion correlation, mean and 95 % interval; | limit of the gate")

    return draw_figure(draw, 0.75 + _ROW_IN * max(len(conditions), 1))


def classes_figure(per_class: Mapping[str, Entry]) -> Figure:
    """Mean of each class under its own sound, with intervals and the number of clips."""

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=MUTED, linewidth=0.8)
        for position, entry in enumerate(per_class.values()):
            mean = finite(entry.get("mean"))
            if mean is not None:
                axes.barh(position, mean, height=_BAR, color=BLUE, alpha=0.25, linewidth=0)
            _interval_row(axes, position, entry, BLUE)
        _rows_from_top(axes, [f"{_shortened(name)}  (n {entry.get('n', 0)})" for name, entry in per_class.items()])
        axes.set_xlim(*_span([*per_class.values()], []))
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("motion correlation, mean and 95 % interval")

    return draw_figure(draw, 0.75 + _ROW_IN * max(len(per_class), 1))


def _interval_row(axes: Axes, position: int, entry: Entry, colour: str) -> None:
    mean, low, high = (finite(entry.get(name)) for name in ("mean", "low", "high"))
    if mean is None:
        _note(axes, (0, position), NOT_MEASURED, (4, 0), ha="left", color=MUTED)
        return
    if low is not None and high is not None:
        axes.plot([low, high], [position, position], color=colour, linewidth=2.2, alpha=0.55, solid_capstyle="round")
    axes.plot([mean], [position], "o", color=colour, markersize=5)
    _note(axes, (mean, position), fixed(mean), (0, 8.0), ha="center", color=INK)


def _limit(axes: Axes, position: int, direction: str, value: float) -> None:
    axes.plot([value, value], [position - 0.28, position + 0.28], color=RED, linewidth=1.4)
    # Below the row, on the side that the gate allows.
    allowed, align = (3.0, "left") if direction == "≥" else (-3.0, "right")
    _note(axes, (value, position), f"{direction} {fixed(value)}", (allowed, -8.5), ha=align, color=RED)


def _span(entries: Sequence[Entry], also: Sequence[float]) -> tuple[float, float]:
    """Axis limits that hold every interval, at least -0.25..1, at most what a correlation can be."""
    values = [finite(entry.get(name)) for entry in entries for name in ("mean", "low", "high")]
    known = [value for value in [*values, *also] if value is not None]
    return max(min([-0.25, *known]) - 0.05, -1.05), 1.05


def _rows_from_top(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), labels=list(names), color=INK)
    axes.set_ylim(max(len(names), 1) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)


def _shortened(name: str, most: int = 22) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def overlay_figure(overlay: Overlay) -> Figure:
    """Motion energy of the true and the generated video over time, on the onset strength of the sound."""

    def draw(axes: Axes) -> None:
        top = 1.08 * max(_largest(overlay.truth), _largest(overlay.generated), 1e-6)
        axes.fill_between(
            overlay.onset_sec, overlay.onset * top, color=GREY, alpha=0.3, linewidth=0, label="sound onset"
        )
        axes.plot(overlay.motion_sec, overlay.truth, "o-", color=INK, markersize=3, linewidth=1.2, label="true motion")
        axes.plot(
            overlay.motion_sec,
            overlay.generated,
            "o-",
            color=BLUE,
            markersize=3,
            linewidth=1.4,
            label="generated motion",
        )
        axes.set_xlim(0, overlay.duration_sec)
        axes.set_ylim(0, top)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel("seconds")
        axes.set_ylabel("motion energy")
        _legend_above(axes)

    return draw_figure(draw, 2.1)


def _legend_above(axes: Axes) -> None:
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.1, handlelength=1.2, columnspacing=1.2
    )


def _note(axes: Axes, at: tuple[float, float], text: str, offset_pt: tuple[float, float], ha: str, color: str) -> None:
    """Small text beside a point of the plot."""
    axes.annotate(text, at, offset_pt, textcoords="offset points", ha=ha, va="center", fontsize=7.5, color=color)


def _largest(values: NDArray[np.float64]) -> float:
    return float(values.max(initial=0.0))
