"""Near-duplicates: a finished file decoded and encoded again, with less quality, fewer pixels or less of its length."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..media.decode import DecodedClip, decode_clip
from ..media.encode import write_video
from .events import Events

# Of the size on each side, of the length, and of x264's rate factor (18 is what originals have; more is worse).
_MIN_SIZE_SHARE, _MAX_SIZE_SHARE = 0.64, 0.80
_MIN_KEPT_SHARE, _MAX_KEPT_SHARE = 0.70, 0.90
_WORSE_CRF, _WORST_CRF = 28, 34
_COPY_CRF = 20
# A trimmed copy stays a clip that ingestion takes by default, where its original is long enough.
_MIN_KEPT_SEC = 2.4


def write_near_copy(
    rng: np.random.Generator, variant: str, original: Path, path: Path, events: Events
) -> tuple[Events, float]:
    """Write a copy of `original` to `path`; returns the events in its own clock and its length in seconds.

    Variants: `worse` (rate factor 28..34), `smaller` (64..80 % on each side), `start_cut` and `end_cut` (70..90 % of
    the length is kept, at least 2.4 s of it, unless that is more than 90 %). Each one loses a generation of coding in
    picture and sound.
    """
    clip = decode_clip(original)
    crf = int(rng.integers(_WORSE_CRF, _WORST_CRF + 1)) if variant == "worse" else _COPY_CRF
    first, last = 0, len(clip.frames)
    if variant == "smaller":
        short_side = min(clip.frames.shape[1:3])
        # H.264 with halved chroma has even sizes.
        clip = decode_clip(original, 2 * round(short_side * rng.uniform(_MIN_SIZE_SHARE, _MAX_SIZE_SHARE) / 2))
    elif variant in ("start_cut", "end_cut"):
        first, last = _kept_frames(rng, clip, at_start=variant == "start_cut")
    fps, rate = float(clip.fps), clip.sample_rate
    waveform = clip.waveform[round(first / fps * rate) : round(last / fps * rate)]
    write_video(path, clip.frames[first:last], clip.fps, waveform, rate, crf)
    return events.shifted(-first / fps), (last - first) / fps


def _kept_frames(rng: np.random.Generator, clip: DecodedClip, *, at_start: bool) -> tuple[int, int]:
    total = len(clip.frames)
    least = min(max(_MIN_KEPT_SHARE, _MIN_KEPT_SEC * float(clip.fps) / total), _MAX_KEPT_SHARE)
    kept = round(total * rng.uniform(least, _MAX_KEPT_SHARE))
    return (total - kept, total) if at_start else (0, kept)
