"""What single pictures tell: darkness, blur, and bars at the borders."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLACK_LUMA = 0.04
_BAR_LEVEL = 24
_BAR_FRAMES = 0.95
_MAX_FRAMES = 24


def black_share(frames: NDArray[np.uint8]) -> float:
    """Share of frames whose mean luma is under 0.04 of full scale, 0..1.

    `frames` is (T, H, W) grey. Fails on what is dark by nature: fireworks or a stage at night count as black, and a
    title card with large bright letters does not.
    """
    return float(np.mean(frames.mean(axis=(1, 2)) < BLACK_LUMA * 255))


def sharpness(frames: NDArray[np.uint8]) -> float:
    """Median over frames of the variance of the Laplacian of (T, H, W) grey frames, in squared grey levels.

    At most 24 frames, evenly spread, are looked at.

    L = 4 f(y, x) - f(y - 1, x) - f(y + 1, x) - f(y, x - 1) - f(y, x + 1) without the outermost pixels (Pech-Pacheco et
    al., "Diatom autofocusing in brightfield microscopy", ICPR 2000). It is that of the small frames, so it finds only a
    blur wide enough to outlive their reduction, and compares clips scored at one size. A plain wall is as low as a
    blurred street; noise, overlaid text and sharpening halos raise it. 0 when a side has fewer than three pixels.
    """
    frames = _spread(frames)
    count, height, width = frames.shape
    if min(height, width) < 3:
        return 0.0
    flat = frames.reshape(count, -1).astype(np.int16)
    # Whole pictures as one row of pixels: neighbours above and below are a width away, and the loops long.
    laplacian = np.zeros((count, height * width), np.int16)
    inner = laplacian[:, width:-width]
    np.multiply(flat[:, width:-width], 4, out=inner)
    for offset in (0, 2 * width, width - 1, width + 1):
        inner -= flat[:, offset : offset + inner.shape[1]]
    values = laplacian.reshape(frames.shape)[:, 1:-1, 1:-1].reshape(count, -1).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    return float(np.median(np.einsum("tp,tp->t", values, values) / values.shape[1]))


def letterbox_share(frames: NDArray[np.uint8]) -> float:
    """Share of the area of (T, H, W) grey frames that is a dark bar at a border, 0..1.

    A bar is a run of rows or columns from a border in which no pixel exceeds 24 of 255 in at least 95 % of the frames
    (at most 24 of them, evenly spread). Exact to one row or column of the small frames on each side. A night sky or a
    dark stage that reaches the border counts as a bar; a bar with a logo, a subtitle or a colour does not. A clip dark
    all over has no bars: `black_share` tells of it.
    """
    frames = _spread(frames)
    height, width = frames.shape[1:]
    rows = _inside(frames.max(axis=2))
    columns = _inside(frames.max(axis=1))
    return 1.0 - rows * columns / (height * width) if rows and columns else 0.0


def _spread(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blur and bars stay for a shot: some frames tell as much as all."""
    if len(frames) <= _MAX_FRAMES:
        return frames
    return np.asarray(frames[np.linspace(0, len(frames) - 1, _MAX_FRAMES).round().astype(int)])


def _inside(brightest: NDArray[np.uint8]) -> int:
    """Number of rows (or columns) between the bars; `brightest` is (T, rows)."""
    bright = np.flatnonzero((brightest <= _BAR_LEVEL).mean(axis=0) < _BAR_FRAMES)
    return int(bright[-1] - bright[0] + 1) if len(bright) else 0
