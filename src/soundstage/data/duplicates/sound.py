"""Sub-fingerprints of sound: 32 bits every 40 ms that survive coding, resampling and another level.

After Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002: with E(n, m) the energy of frame n
in band m, bit m of frame n is one where E(n, m) - E(n, m+1) - (E(n-1, m) - E(n-1, m+1)) > 0. Frames of 0.37 s overlap
nearly whole, so that a copy cut at any place has nearly the same bits. Departures from the paper: a hop of 40 ms for
11.6, since clips are searched whole, and bands from 200 to 5500 Hz for 300 to 2000, since this is no telephone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len, rfft

SOUND_HZ = 25
UNHEARD = 0
"""the word of a tick without usable sound; a word of zeros that was heard is stored as 1"""
_FRAME_SEC = 0.37
_BANDS = 33
_LOW_HZ, _HIGH_HZ = 200.0, 5500.0
_LOWEST_RATE = 4000
_FLOOR = 1e-8  # mean square of the bands, -80 dBFS: above what coding leaves of silence, under a quiet room
_STEADY = 0.01  # a spectrum that changes by less than this share has bits of rounding only


def sound_words(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.uint32]:
    """One 32-bit word each 1/SOUND_HZ s of `waveform` (samples,) in -1..1; (ticks,), empty under 0.37 s.

    Tick n hears the 0.37 s from n / SOUND_HZ on, and the same one tick earlier. Quiet ticks (under -80 dBFS) and ticks
    of a steady spectrum (a test tone) are UNHEARD. Failure cases: sped-up or re-pitched sound has other words, and
    sound that is loud only outside 200 to 5500 Hz has none.

    Raises:
        ValueError: not one channel, or under 4000 Hz.
    """
    if waveform.ndim != 1:
        raise ValueError(f"waveform must be (samples,), found {waveform.shape}")
    if sample_rate < _LOWEST_RATE:
        raise ValueError(f"sound at {sample_rate} Hz has too little to compare; use at least {_LOWEST_RATE} Hz")
    energy = _band_energies(waveform, sample_rate)
    if not len(energy):
        return np.zeros(0, np.uint32)
    slope = energy[:, :-1] - energy[:, 1:]
    bits = np.diff(slope, axis=0) > 0
    packed = np.ascontiguousarray(np.packbits(bits, axis=1, bitorder="little"))
    words = packed.view("<u4")[:, 0]
    loud = energy.sum(axis=1) > _FLOOR
    changing = np.abs(np.diff(energy, axis=0)).sum(axis=1) > _STEADY * energy[1:].sum(axis=1)
    heard = loud[1:] & loud[:-1] & changing
    # Tick 0 has no predecessor.
    return np.concatenate([[UNHEARD], np.where(heard, np.maximum(words, 1), UNHEARD)]).astype(np.uint32)


def _band_energies(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """Mean square of each frame in each of the 33 bands, equally wide in log frequency; (ticks, bands)."""
    frame = round(_FRAME_SEC * sample_rate)
    if len(waveform) < frame:
        return np.zeros((0, _BANDS), np.float32)
    starts = np.arange((len(waveform) - frame) * SOUND_HZ // sample_rate + 1) * sample_rate // SOUND_HZ
    windows = np.lib.stride_tricks.sliding_window_view(waveform, frame)[starts]
    taper = np.hanning(frame).astype(np.float32)
    length = next_fast_len(frame, real=True)
    power = np.abs(rfft(windows * taper, length, axis=1)) ** 2
    edges = np.geomspace(_LOW_HZ, min(_HIGH_HZ, 0.45 * sample_rate), _BANDS + 1)
    bins = np.round(edges / sample_rate * length).astype(int)
    # Parseval: twice, for the half of the spectrum that rfft leaves out.
    scale = 2.0 / (length * float((taper**2).sum()))
    return np.asarray(np.add.reduceat(power, bins, axis=1)[:, :_BANDS] * scale, dtype=np.float32)
