"""The camera: whether the whole picture moves together, or only a thing in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2

STEP_SEC = 1 / 6
_GRID = 6
_MAX_SHIFT = 1 / 3
_SEEN_LEVEL = 2.0
_EXPLAINED = 0.7
_MIN_CHANGED_BLOCKS = 0.2
_MIN_EXPLAINED_BLOCKS = 0.7


def pan_share(frames: NDArray[np.uint8], fps: float) -> float:
    """Share of steps of 1/6 s over which the whole picture moves together, 0..1.

    `frames` is (T, H, W) grey. Phase correlation (Kuglin and Hines, 1975) of the two frames of a step gives one shift
    in whole pixels. The step is a pan when two tenths of a grid of 6 x 6 blocks change by over 2 grey levels, and that
    shift is not zero and explains the picture: of the blocks that differ by so much with or without it, in seven tenths
    the shift leaves less than 0.7 of the difference. The still background of a moving thing becomes worse by the shift,
    and so tells it from a pan.

    Missed: less than half a pixel of the small frames in a step (at 48 pixels 0.06 widths a second) or more than a
    third of the picture, zoom and rotation about the centre, a pan behind a large fixed overlay. A thing that fills a
    fifth of the picture before a plain background counts as a pan. 0 for a clip shorter than a step.
    """
    seen = frames[:: max(1, round(fps * STEP_SEC))].astype(np.float32)
    if len(seen) < 2:
        return 0.0
    everywhere = np.ones((1, *seen.shape[1:]), np.bool_)
    changed = (_block_errors(seen[:-1], seen[1:], everywhere) > _SEEN_LEVEL).mean(axis=(1, 2)) >= _MIN_CHANGED_BLOCKS
    before, after = seen[:-1][changed], seen[1:][changed]
    if not len(before):
        return 0.0
    shifts = _common_shifts(before, after)
    moved, covered = _shifted(before, shifts)
    still_error, moved_error = (_block_errors(picture, after, covered) for picture in (before, moved))
    is_seen = np.maximum(still_error, moved_error) > _SEEN_LEVEL
    is_explained = is_seen & (moved_error < _EXPLAINED * still_error)
    is_pan = is_explained.sum(axis=(1, 2)) >= np.maximum(1, _MIN_EXPLAINED_BLOCKS * is_seen.sum(axis=(1, 2)))
    return float(np.sum(is_pan & shifts.any(axis=1)) / (len(seen) - 1))


def _block_errors(
    before: NDArray[np.float32], after: NDArray[np.float32], covered: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Mean absolute difference of (N, H, W) pictures in each of 6 x 6 blocks, over the pixels covered: (N, 6, 6)."""
    rows, columns = (_membership(size) for size in before.shape[1:])
    area = np.maximum(rows @ covered.astype(np.float32) @ columns.T, 1.0)
    return np.asarray(rows @ (np.abs(after - before) * covered) @ columns.T / area)


def _common_shifts(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.int64]:
    """(N, 2) shifts (down, right) in pixels that take pictures (N, H, W) to others, by phase correlation."""
    height, width = before.shape[1:]
    # Without the taper the jump from one border to the opposite one would correlate at zero shift.
    taper = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]).astype(np.float32)
    first, second = (rfft2((x - x.mean(axis=(1, 2), keepdims=True)) * taper) for x in (before, after))
    cross = second * np.conj(first)
    surface = irfft2(cross / (np.abs(cross) + 1e-3), s=(height, width))
    down, right = (np.minimum(np.arange(size), size - np.arange(size)) <= size * _MAX_SHIFT for size in (height, width))
    surface = np.where(down[:, None] & right, surface, -np.inf)
    y, x = np.unravel_index(surface.reshape(len(surface), -1).argmax(axis=1), (height, width))
    return np.stack([(y + height // 2) % height - height // 2, (x + width // 2) % width - width // 2], axis=1)


def _shifted(frames: NDArray[np.float32], shifts: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Each of (N, H, W) frames moved by its shift, and where the moved one covers the picture."""
    height, width = frames.shape[1:]
    y, x = np.arange(height) - shifts[:, :1], np.arange(width) - shifts[:, 1:]
    covered = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None]
    index = np.arange(len(frames))[:, None, None]
    return frames[index, y.clip(0, height - 1)[:, :, None], x.clip(0, width - 1)[:, None]], covered


def _membership(size: int) -> NDArray[np.float32]:
    """(6, size): one where a pixel lies in the block, so that a product with it sums over blocks."""
    edges, pixels = np.linspace(0, size, _GRID + 1).astype(int), np.arange(size)
    return np.asarray((pixels >= edges[:-1, None]) & (pixels < edges[1:, None]), dtype=np.float32)
