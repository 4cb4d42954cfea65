"""Pictures to the size that a window asks for, and small ones to a size that people see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHOWN_PIXELS = 128


def enlarged(frames: NDArray[np.uint8], target: int = SHOWN_PIXELS) -> NDArray[np.uint8]:
    """Repeat pixels of (T, H, W, 3) until the height is about `target`; every pixel stays what it was."""
    factor = max(1, target // frames.shape[1])
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def fitted_frames(frames: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Centre-crop (T, H, W, 3) to the wanted aspect and scale it to (T, height, width, 3), averaging if it shrinks."""
    have_height, have_width = frames.shape[1:3]
    scale = min(have_height / height, have_width / width)
    crop_height, crop_width = height * scale, width * scale
    left, top = (have_width - crop_width) / 2, (have_height - crop_height) / 2
    box = (left, top, left + crop_width, top + crop_height)
    scaled = [Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR, box=box) for frame in frames]
    return np.stack([np.asarray(image) for image in scaled])
