"""Optical flow of small grey frames, dense, by Lucas and Kanade on a pyramid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, uniform_filter

_SMALLEST_SIDE = 8
_BLUR = 0.8
_WINDOW = 7
_ITERATIONS = 3
_DAMPING = 30.0
_MAX_STEP = 0.5
_STRETCH = 32

Frames = NDArray[np.float32]


def mean_flow(frames: NDArray[np.uint8], fps: float) -> float:
    """Mean length of the optical flow of (T, H, W) grey frames over pixels and frame pairs, in frame widths a second.

    Unlike `motion` it hardly depends on brightness and contrast. Plain areas have no flow, so a small thing before a
    plain wall gives little; cuts, flashes and flicker give flow where nothing moves; beyond about a quarter of the
    width from frame to frame it is too small. 0 for a single frame.
    """
    if len(frames) < 2:
        return 0.0
    lengths = [
        np.hypot(*np.moveaxis(optical_flow(frames[start : start + _STRETCH + 1]), -1, 0)).mean(axis=(1, 2))
        for start in range(0, len(frames) - 1, _STRETCH)
    ]
    return float(np.concatenate(lengths).mean() * fps / frames.shape[2])


def optical_flow(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Displacement (down, right) in pixels from each of (T, H, W) grey frames to the next: (T - 1, H, W, 2).

    Lucas and Kanade (1981), iterated from coarse to fine as in Bouguet (2001), at every pixel: over a window of 7 x 7
    the displacement d minimises sum (next(x + d) - this(x))^2 + damping |step|^2. The damping, in squared grey levels
    a pixel, holds d still where there is nothing to see, and across an edge where only one direction shows.
    """
    pyramid = [frames.astype(np.float32)]
    while min(pyramid[-1].shape[1:]) >= 2 * _SMALLEST_SIDE:
        pyramid.append(gaussian_filter(pyramid[-1], (0, _BLUR, _BLUR))[:, ::2, ::2])
    flow = np.zeros((2, len(frames) - 1, *pyramid[-1].shape[1:]), np.float32)
    for level in reversed(pyramid):
        flow = _enlarged(flow, level.shape[1], level.shape[2])
        smooth = gaussian_filter(level, (0, _BLUR, _BLUR))
        flow = _refined(flow, smooth[:-1], smooth[1:])
    return np.moveaxis(flow, 0, -1)


def _enlarged(flow: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Flow of the next coarser level, whose pixel (y, x) is this level's (2 y, 2 x)."""
    if flow.shape[2:] == (height, width):
        return flow
    y, x = (
        np.minimum(np.arange(size) / 2, below - 1) for size, below in zip((height, width), flow.shape[2:], strict=True)
    )
    low_y, low_x = y.astype(int), x.astype(int)
    high_y, high_x = np.minimum(low_y + 1, flow.shape[2] - 1), np.minimum(low_x + 1, flow.shape[3] - 1)
    share_y, share_x = (y - low_y).astype(np.float32)[:, None], (x - low_x).astype(np.float32)
    rows = flow[:, :, low_y] * (1 - share_y) + flow[:, :, high_y] * share_y
    return np.asarray(2 * (rows[..., low_x] * (1 - share_x) + rows[..., high_x] * share_x), dtype=np.float32)


def _refined(flow: NDArray[np.float32], before: Frames, after: Frames) -> NDArray[np.float32]:
    down, right = (np.asarray(slope, np.float32) for slope in np.gradient(before, axis=(1, 2)))
    yy, xx, yx = (_window_mean(product) for product in (down * down, right * right, down * right))
    yy, xx = yy + _DAMPING, xx + _DAMPING
    determinant = yy * xx - yx * yx
    t, y, x = np.meshgrid(*(np.arange(size, dtype=np.float32) for size in before.shape), indexing="ij")
    bottom, right_end = before.shape[1] - 1, before.shape[2] - 1
    for _ in range(_ITERATIONS):
        y_there, x_there = y + flow[0], x + flow[1]
        there = map_coordinates(after, [t, y_there, x_there], order=1, mode="nearest")
        # What has left the picture is not known, and so no error.
        is_inside = (y_there >= 0) & (y_there <= bottom) & (x_there >= 0) & (x_there <= right_end)
        error = np.where(is_inside, there - before, 0.0)
        ye, xe = _window_mean(down * error), _window_mean(right * error)
        step = np.stack([xx * ye - yx * xe, yy * xe - yx * ye]) / determinant
        # The linear model holds for a pixel or so; the coarser levels have seen to the rest.
        flow = flow - step / np.maximum(1.0, np.hypot(*step) / _MAX_STEP)
    return flow


def _window_mean(values: Frames) -> Frames:
    return np.asarray(uniform_filter(values, (0, _WINDOW, _WINDOW), mode="nearest"))
