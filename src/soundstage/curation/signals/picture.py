"""What single pictures tell: darkness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLACK_LUMA = 0.04


def black_share(frames: NDArray[np.uint8]) -> float:
    """Share of frames whose mean luma is under 0.04 of full scale, 0..1.

    `frames` is (T, H, W) grey. Fails on what is dark by nature: fireworks or a stage at night count as black, and a
    title card with large bright letters does not.
    """
    return float(np.mean(frames.mean(axis=(1, 2)) < BLACK_LUMA * 255))
