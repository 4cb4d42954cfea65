"""Words and motion of pictures: what is seen, and when it moves.

A picture word holds the signs of the 64 lowest coefficients of the cosine transform of a small grey picture, the usual
perceptual hash (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010), taken against
zero and not against their median. Beside it stands which signs are sure: a coefficient of nearly nothing, as symmetric
and flat pictures have many, changes its sign with every coding. Only signs that are sure on both sides are compared.
Where objects are at rest most of the time, clips of a kind look alike; their motion tells them apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

PICTURE_HZ = 8
MOTION_HZ = 24
MOTION_STEPS = 16
"""steps of the stored motion for one square root of a grey level"""
_SIZE = 32
_SURE = 0.25 * _SIZE  # a cosine wave with an amplitude of half a grey level, in the orthonormal transform


def _lowest() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the 64 lowest frequencies without the mean, by the sum of both, then by row."""
    order = sorted(((r, c) for r in range(12) for c in range(12) if r + c), key=lambda at: (sum(at), at))[:64]
    rows, columns = zip(*order, strict=True)
    return np.array(rows), np.array(columns)


_ROWS, _COLUMNS = _lowest()


def small_pictures(frames: NDArray[np.uint8], fps: float) -> NDArray[np.uint8]:
    """Grey pictures (ticks, 32, 32) at MOTION_HZ from `frames` (T, H, W, 3) RGB: the frame shown at each tick.

    The whole picture is squeezed to the square, so size and aspect do not matter; a crop or new borders do.

    Raises:
        ValueError: other shapes, or no frame.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
        raise ValueError(f"frames must be (T>0, H, W, 3), found {frames.shape}")
    shown = np.minimum(np.arange(_ticks(len(frames), fps)) * fps / MOTION_HZ, len(frames) - 1).astype(int)
    distinct, back = np.unique(shown, return_inverse=True)
    small = [Image.fromarray(frames[i]).convert("L").resize((_SIZE, _SIZE), Image.Resampling.BOX) for i in distinct]
    return np.stack([np.asarray(image) for image in small])[back]


def _ticks(num_frames: int, fps: float) -> int:
    return max(1, int(num_frames * MOTION_HZ / fps + 0.5))


def picture_words(small: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Signs and which of them are sure, each (ticks at PICTURE_HZ,), from `small` (ticks at MOTION_HZ, 32, 32).

    Failure cases: a flat or black picture has no sure sign; mirrored, turned, cropped or framed pictures have others.
    """
    chosen = small[:: MOTION_HZ // PICTURE_HZ].astype(np.float32)
    waves = dctn(chosen, axes=(1, 2), norm="ortho")[:, _ROWS, _COLUMNS]
    return _packed(waves > 0), _packed(np.abs(waves) > _SURE)


def _packed(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    packed = np.ascontiguousarray(np.packbits(bits, axis=1, bitorder="little"))
    return packed.view("<u8")[:, 0].astype(np.uint64)


def motion_steps(small: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Motion at each tick of `small`: the square root of the mean absolute grey difference to the tick before.

    In 1/MOTION_STEPS, at most 255; (ticks,), the first is 0. The root keeps weak motion beside strong.
    """
    change = np.abs(np.diff(small.astype(np.int16), axis=0)).mean(axis=(1, 2))
    steps = np.round(np.sqrt(change) * MOTION_STEPS)
    return np.concatenate([[0], np.minimum(steps, 255)]).astype(np.uint8)
