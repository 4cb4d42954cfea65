"""Motion correlation: whether generated motion happens when true motion happens.

Our own measure. It needs the true video, so it fits clips whose motion is wholly explained by first frame and sound.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def motion_energy(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean absolute luma difference of neighbouring frames, 0..1: (T, H, W, 3) -> (T - 1,)."""
    luma = frames.astype(np.float64) @ _LUMA / 255.0
    return np.asarray(np.abs(np.diff(luma, axis=0)).mean(axis=(1, 2)))


def motion_correlation(generated: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float | None:
    """Pearson correlation of the motion energies of two videos (T, H, W, 3) of equal length, -1..1.

    0 when the generated video does not move at all: it follows nothing. None when the true one does not: there is
    nothing to follow, and the clip must be left out and counted.
    """
    if len(generated) != len(truth):
        raise ValueError(f"videos of {len(generated)} and {len(truth)} frames cannot be correlated")
    found, wanted = motion_energy(generated), motion_energy(truth)
    found, wanted = found - found.mean(), wanted - wanted.mean()
    if not np.any(np.abs(wanted) > 1e-12):
        return None
    norm = float(np.linalg.norm(found) * np.linalg.norm(wanted))
    return float(found @ wanted) / norm if norm > 1e-12 else 0.0
