"""All channels of a sound to one.

The mix is that of Recommendation ITU-R BS.775 for one loudspeaker: left and right by 0.7071, centre by 1, others by
0.5, low-frequency effects left out; divided by the sum of the weights, so that it never exceeds full scale. Channels
without names count alike.
"""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

_ITU = {"FL": np.sqrt(0.5), "FR": np.sqrt(0.5), "FC": 1.0, "LFE": 0.0, "LFE2": 0.0}
_ITU_OTHER = 0.5
_NAMELESS = ("NONE", "UNK", "UNSD", "AMBI", "USR")
# A mix with less than this of the loudest channel's energy is one whose channels cancel. One lone channel of 7.1
# leaves 0.013.
_CANCELLED_SHARE = 0.01
# PyAV counts one plane too many in a frame of eight and reads beyond it.
_MOST_PLANES = 7


def weights(names: tuple[str, ...]) -> NDArray[np.float32]:
    """Share of each channel, called as FFmpeg does, in the mix; (channels,), summing to 1."""
    if any(name.startswith(_NAMELESS) for name in names):
        found = np.ones(len(names))
    else:
        found = np.array([_ITU.get(name, _ITU_OTHER) for name in names])
    if not found.any():
        found = np.ones(len(names))
    return np.asarray(found / found.sum(), np.float32)


def samples_of(frame: av.AudioFrame) -> NDArray[np.float32]:
    """Samples of a decoded block, (channels, samples), full scale at 1."""
    if frame.format.is_planar and frame.layout.nb_channels > _MOST_PLANES:
        packed = av.AudioResampler(format="flt", layout=frame.layout, rate=frame.sample_rate)
        (frame,) = packed.resample(frame)
    block: NDArray[Any] = frame.to_ndarray()
    if not frame.format.is_planar:
        block = block.reshape(-1, frame.layout.nb_channels).T
    middle, scale = {"u1": (128.0, 128.0), "i2": (0.0, 2.0**15), "i4": (0.0, 2.0**31)}.get(block.dtype.str[1:], (0, 1))
    return np.asarray((block - middle) / scale, np.float32)


class Mixer:
    """Mixes block after block and keeps account of what the mix loses."""

    def __init__(self, only: int | None = None) -> None:
        self._only = only
        self._mixed = 0.0
        self._energy: NDArray[np.float64] = np.zeros(0)

    def mono(self, frame: av.AudioFrame) -> NDArray[np.float32]:
        """One channel, (samples,): the mix, or channel `only` where the block has it."""
        block = samples_of(frame)
        names = tuple(channel.name for channel in frame.layout.channels)
        # Values that are no numbers are refused once the sound is complete.
        with np.errstate(invalid="ignore", over="ignore"):
            mix = np.asarray(weights(names) @ block)
            self._account(block, mix)
        return block[self._only] if self._only is not None and self._only < len(block) else mix

    def _account(self, block: NDArray[np.float32], mix: NDArray[np.float32]) -> None:
        grown = max(len(self._energy), len(block)) - len(self._energy)
        self._energy = np.pad(self._energy, (0, grown))
        self._energy[: len(block)] += np.einsum("cs,cs->c", block, block, dtype=np.float64)
        self._mixed += float(np.einsum("s,s->", mix, mix, dtype=np.float64))

    def instead(self) -> int | None:
        """The loudest channel when the mix has lost nearly all its energy (opposite phase), else None."""
        if not len(self._energy) or self._mixed >= _CANCELLED_SHARE * self._energy.max():
            return None
        return int(self._energy.argmax())
