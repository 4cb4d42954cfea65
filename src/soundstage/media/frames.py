"""Pictures to the square size that a window asks for, and small ones to a size that people see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHOWN_PIXELS = 128


def enlarged(frames: NDArray[np.uint8], target: int = SHOWN_PIXELS) -> NDArray[np.uint8]:
    """Repeat pixels of (T, H, W, 3) until the height is about `target`; every pixel stays what it was."""
    factor = max(1, target // frames.shape[1])
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def square_frames(frames: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Centre-crop (T, H, W, 3) to a square and scale it to (T, size, size, 3), averaging when it shrinks."""
    height, width = frames.shape[1:3]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    scaled = [Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR, box=box) for frame in frames]
    return np.stack([np.asarray(image) for image in scaled])
