"""Sound longer than the window: overlapping windows, each beginning with a picture that the one before it made.

    frames      0 . . . . . . . . . . . . . . . . . .
    window 0    [- - - - - - - - ~ ~]
    window 1                    [~ ~ - - - - - - - -]     ~ overlap, cross-faded

What this cannot do: a window knows of the ones before it by one frame alone. Speed and direction of what moves are not
carried over a seam; what left the picture before it is forgotten. Pictures drift, for every window starts from
generated ones: errors of colour, sharpness and shape add up with the number of windows, and nothing brings them back.
Where the two windows disagree in the overlap, the cross-fade shows both at once.

Two things are measured. Jumps: the change at seams over the usual one. Drift: how far each window's first frame is from
the video's, which grows with what moves too, so that it is to be read against what the scene does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..media.sound import resample
from .animate import DEFAULT_STEPS, Animator, guidance_of

_SEED_STRIDE = 1_000_003
_DEFAULT_SHARE = 4


@dataclass(frozen=True)
class LongPlan:
    """Windows over a video.

    num_frames: of the whole video. window_frames: of each window. overlap_frames: shared by neighbours. starts: first
    frame of each window; the last may run past the end, and what lies there is cut.
    """

    num_frames: int
    window_frames: int
    overlap_frames: int
    starts: tuple[int, ...]


@dataclass(frozen=True)
class Seam:
    """How the picture changes where one window hands over to the next.

    frame: the first of the overlap. change: the largest mean absolute difference between neighbouring frames within
    it, in levels of 0..255. ratio: `change` over the median change of the frames away from seams; None where that is 0,
    for a video that stands still says nothing of what is usual. rank: share of the changes away from seams that are
    smaller.
    """

    frame: int
    change: float
    ratio: float | None
    rank: float


@dataclass(frozen=True)
class SeamReport:
    """All seams of a video.

    usual_change: median change away from them. drift: of each window, the mean absolute difference between its first
    frame and the video's, in levels of 0..255; the first is 0.
    """

    usual_change: float
    seams: tuple[Seam, ...]
    drift: tuple[float, ...]

    @property
    def seam_ratio(self) -> float | None:
        """The worst seam's ratio, so that none hides among others; None without seams, or if the video stands still."""
        ratios = [seam.ratio for seam in self.seams if seam.ratio is not None]
        return max(ratios, default=None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON files."""
        return asdict(self) | {"seam_ratio": self.seam_ratio}


@dataclass(frozen=True)
class LongVideo:
    """frames: (T, height, width, 3) uint8; and how they were put together."""

    frames: NDArray[np.uint8]
    plan: LongPlan
    report: SeamReport


def plan_windows(
    duration_sec: Fraction, fps: int, window_frames: int, overlap_frames: int | None = None, temporal_stride: int = 1
) -> LongPlan:
    """Windows that cover a sound: every frame that starts before its end, and one whole window at least.

    `overlap_frames` None is about a quarter of the window. A codec of stride s packs frames 1 + s k: with an overlap of
    1 + s j, both windows pack the shared frames alike.

    Raises:
        ConfigError: an overlap that the codec's stride does not allow, or that leaves a window nothing of its own.
    """
    overlap = _legal_overlap(window_frames, overlap_frames, temporal_stride)
    num_frames = max(window_frames, ceil(duration_sec * fps))
    starts = [0]
    while starts[-1] + window_frames < num_frames:
        starts.append(starts[-1] + window_frames - overlap)
    return LongPlan(num_frames, window_frames, overlap, tuple(starts))


def _legal_overlap(window_frames: int, overlap_frames: int | None, stride: int) -> int:
    if overlap_frames is None:
        return 1 + (window_frames - 1) // _DEFAULT_SHARE // stride * stride
    legal = range(1, window_frames, stride)
    if overlap_frames not in legal:
        nearest = sorted(sorted(legal, key=lambda frames: abs(frames - overlap_frames))[:2])
        raise ConfigError(
            f"overlap of {overlap_frames} frames: windows of {window_frames} frames whose codec packs {stride} into a "
            f"latent share 1 + {stride} k frames, fewer than a window; take {' or '.join(map(str, nearest))}"
        )
    return overlap_frames


def animate_long(
    animator: Animator,
    image: NDArray[np.uint8],
    waveform: NDArray[np.float32],
    sample_rate: int,
    caption: str,
    *,
    overlap_frames: int | None = None,
    seed: int = 0,
    num_inference_steps: int | None = None,
    audio_guidance_scale: float | None = None,
    text_guidance_scale: float | None = None,
) -> LongVideo:
    """One video as long as `waveform` (samples,), from `image` (H, W, 3); arguments as of `Animator.animate`.

    Each window hears the sound around it, margins included. A sound that fits into one window gives what `animate`
    gives.

    Raises:
        ConfigError: as `plan_windows`.
    """
    window = animator.window
    plan = plan_windows(
        Fraction(len(waveform), sample_rate),
        window.fps,
        window.num_frames,
        overlap_frames,
        animator.backbone.codec_shape.temporal_stride,
    )
    rate = animator.config.audio.sample_rate
    sound = resample(waveform, sample_rate, rate)
    videos: list[NDArray[np.uint8]] = []
    for index, start in enumerate(plan.starts):
        first = image if index == 0 else videos[-1][-plan.overlap_frames]
        video = animator.animate_batch(
            first[None],
            animator.window_sound(sound, rate, start / window.fps)[None],
            [caption],
            seeds=[seed + index * _SEED_STRIDE],
            num_inference_steps=num_inference_steps or DEFAULT_STEPS,
            guidance=guidance_of(audio_guidance_scale, text_guidance_scale),
        )[0]
        videos.append(video)
    frames = joined(videos, plan)
    return LongVideo(frames, plan, measure_seams(frames, plan))


def joined(videos: Sequence[NDArray[np.uint8]], plan: LongPlan) -> NDArray[np.uint8]:
    """The windows' videos, each (window_frames, H, W, 3), as one of (num_frames, H, W, 3).

    Over an overlap of n frames the new window's share rises 0, 1/n, 2/n, ...: its first frame is the old window's.
    """
    frames = np.empty((plan.starts[-1] + plan.window_frames, *videos[0].shape[1:]), np.uint8)
    overlap = plan.overlap_frames
    share = (np.arange(overlap, dtype=np.float32) / overlap)[:, None, None, None]
    for index, (start, video) in enumerate(zip(plan.starts, videos, strict=True)):
        if index == 0:
            frames[: plan.window_frames] = video
            continue
        mixed = (1 - share) * frames[start : start + overlap] + share * video[:overlap]
        frames[start : start + overlap] = np.round(mixed).astype(np.uint8)
        frames[start + overlap : start + plan.window_frames] = video[overlap:]
    return frames[: plan.num_frames]


def measure_seams(frames: NDArray[np.uint8], plan: LongPlan) -> SeamReport:
    """What `SeamReport` states, of frames (T, H, W, 3) that were put together by `plan`."""
    changes = np.array([_difference(before, after) for before, after in pairwise(frames)])
    # Change t is from frame t to t + 1. The new window's share first grows from `start` to `start + 1`; the last change
    # that it still grows in is the one out of the overlap.
    spans = [slice(start, start + plan.overlap_frames) for start in plan.starts[1:]]
    away = np.ones(len(changes), bool)
    for span in spans:
        away[span] = False
    usual = float(np.median(changes[away])) if away.any() else 0.0
    seams = []
    for span in spans:
        change = float(changes[span].max())
        rank = float((changes[away] < change).mean()) if away.any() else 0.0
        seams.append(Seam(span.start, change, change / usual if usual > 0 else None, rank))
    drift = tuple(_difference(frames[0], frames[start]) for start in plan.starts)
    return SeamReport(usual, tuple(seams), drift)


def _difference(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    return float(np.abs(after.astype(np.int16) - before).mean())
