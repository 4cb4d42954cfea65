"""Long sources come apart at their hard cuts: small grey frames go by in windows, so that a film needs little memory.

Boundaries lie where sampling to a constant rate switches from the last picture of one shot to the first of the next,
so that no clip holds a picture of its neighbour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from ..media.normalise import Span, decode_timed, plan_spans
from ..media.opening import reading
from ..media.probe import SourceProbe

_SHORT_SIDE = 48
_MIN_SIDE = 8
_WINDOW = 240
# A cut is judged by five frames before and after its pair; one more, so that a blended cut is met as a whole.
_CONTEXT = 6

TimedGrey = tuple[Fraction, NDArray[np.uint8]]


def plan_shots(start_us: int, end_us: int, cuts_us: Sequence[int], span_sec: float) -> list[Span]:
    """Spans that together cover `start_us` to `end_us`: one a shot, a longer one in equal parts of at most `span_sec`.

    A range no longer than `span_sec` is not split at all.
    """
    if end_us - start_us <= span_sec * 1_000_000:
        return [Span(start_us, end_us - start_us)]
    bounds = [start_us, *(cut for cut in cuts_us if start_us < cut < end_us), end_us]
    return [
        Span(shot_start + part.start_us, part.duration_us)
        for shot_start, shot_end in pairwise(bounds)
        for part in plan_spans(Fraction(shot_end - shot_start, 1_000_000), span_sec)
    ]


def cut_times(path: Path, source: SourceProbe, end_us: int) -> list[int]:
    """Microseconds after the first picture at which a new shot begins, up to about `end_us`.

    Raises:
        SourceError: the source cannot be decoded that far.
    """
    return list(_cuts(_small_grey(path, source, end_us)))


def _cuts(frames: Iterable[TimedGrey], window: int = _WINDOW) -> Iterator[int]:
    """Cuts in a stream of frames; `window` frames are held. They are those that the whole stream at once would give."""
    # Late: the room of signals needs scipy, which short sources do not.
    from ..curation.signals.cuts import find_cuts

    held: list[TimedGrey] = []
    first = judged = 0
    incoming = iter(frames)
    more = True
    while more:
        held.extend(islice(incoming, window - len(held)))
        more = len(held) == window
        # Nothing follows the last window; the others leave what they lack context for to the next.
        limit = first + len(held) - (_CONTEXT if more else 0)
        for place in find_cuts(np.stack([grey for _, grey in held])) if len(held) > 1 else []:
            if judged <= first + place < limit:
                yield _switch(held[place - 1][0], held[place][0])
        judged = limit
        kept = min(len(held), 3 * _CONTEXT)
        first += len(held) - kept
        held = held[len(held) - kept :]


def _switch(before: Fraction, after: Fraction) -> int:
    """First microsecond at which the frame at `after` seconds is nearer than the one `before`."""
    return math.floor((before + after) / 2 * 1_000_000) + 1


def _small_grey(path: Path, source: SourceProbe, end_us: int) -> Iterator[TimedGrey]:
    """Time in seconds and (H, W) grey of every frame up to a little after `end_us`."""
    reformatter = VideoReformatter()
    past = 0
    with reading():
        for time, frame in decode_timed(path, source):
            yield time, _grey(reformatter, frame)
            past += time * 1_000_000 >= end_us
            if past > _CONTEXT:
                return


def _grey(reformatter: VideoReformatter, frame: av.VideoFrame) -> NDArray[np.uint8]:
    # Neither rotation nor sample aspect matters to a cut.
    scale = min(1.0, _SHORT_SIDE / min(frame.width, frame.height))
    width, height = (max(_MIN_SIDE, round(side * scale)) for side in (frame.width, frame.height))
    small = reformatter.reformat(frame, width, height, "gray", interpolation="AREA", threads=1)
    return np.asarray(small.to_ndarray(), dtype=np.uint8)
