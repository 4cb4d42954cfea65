"""Which clips a source gives: each wanted part of it split at cuts, and the pieces that are too short named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..media.normalise import Span
from ..media.probe import SourceProbe
from .shots import cut_times, plan_shots
from .sources.item import Range

# Tables round, and containers end with the longer of picture and sound: a part may reach this far past the end.
_SLACK_US = 500_000


@dataclass(frozen=True)
class SpanReject:
    """A part of a source that becomes no clip."""

    start_us: int
    duration_us: int
    """0 when its end is not known"""
    reason: str
    detail: str


@dataclass
class PlannedRange:
    """Clips and rejects that together cover a wanted part of a source."""

    spans: list[Span] = field(default_factory=list)
    rejects: list[SpanReject] = field(default_factory=list)


def plan_ranges(
    path: Path, source: SourceProbe, ranges: Sequence[Range], span_sec: float, min_duration_sec: float
) -> list[PlannedRange]:
    """The plan of each range, in their order; cuts are looked for only where a range is longer than `span_sec`.

    Raises:
        SourceError: the source cannot be decoded as far as cuts are looked for.
    """
    total_us = math.floor(source.duration * 1_000_000)
    ends = [_end(part, total_us) for part in ranges]
    long_ends = [
        end for part, end in zip(ranges, ends, strict=True) if end and end - part.start_us > span_sec * 1_000_000
    ]
    cuts = cut_times(path, source, max(long_ends)) if long_ends else []
    return [
        _plan(part.start_us, end, cuts, span_sec, min_duration_sec) if end else _beyond(part, total_us)
        for part, end in zip(ranges, ends, strict=True)
    ]


def _end(part: Range, total_us: int) -> int:
    """End of a part in a source of `total_us`, 0 when the source does not have the part."""
    if part.start_us >= total_us or part.end_us > total_us + _SLACK_US:
        return 0
    return total_us if part.end_us < 0 else min(part.end_us, total_us)


def _beyond(part: Range, total_us: int) -> PlannedRange:
    end = "its end" if part.end_us < 0 else f"{part.end_us / 1e6:g} s"
    detail = f"the part from {part.start_us / 1e6:g} s to {end} is wanted; the video ends at {total_us / 1e6:g} s"
    return PlannedRange(rejects=[SpanReject(part.start_us, part.duration_us, "bad_span", detail)])


def _plan(start_us: int, end_us: int, cuts: Sequence[int], span_sec: float, min_duration_sec: float) -> PlannedRange:
    planned = PlannedRange()
    for span in plan_shots(start_us, end_us, cuts, span_sec):
        if span.duration_us >= min_duration_sec * 1_000_000:
            planned.spans.append(span)
            continue
        detail = (
            f"a piece of {span.duration_us / 1e6:.3f} s, under ingest.min_duration_sec={min_duration_sec:g}: "
            f"parts longer than ingest.span_sec={span_sec:g} are split at cuts, then evenly"
        )
        planned.rejects.append(SpanReject(span.start_us, span.duration_us, "too_short", detail))
    covered = sum(span.duration_us for span in planned.spans) + sum(one.duration_us for one in planned.rejects)
    assert covered == end_us - start_us, "time of the source was lost"
    return planned
