"""What the sound alone tells: level, silence, clipping, and when something starts to sound."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft
from scipy.ndimage import maximum_filter1d, uniform_filter1d
from scipy.signal.windows import hann

FLOOR_DBFS = -120.0
SILENT_DBFS = -50.0
BLOCK_SEC = 0.1
_FULL_SCALE = 0.999

_HOP_SEC = 0.01
_WINDOW_SEC = 0.032
_BANDS = 40
_STRETCH = 64
_LOW_HZ = 60.0
_COMPRESSION = 100.0
_BEFORE_SEC, _AFTER_SEC = 0.15, 0.05
_MIN_GAP_SEC = 0.06
_MIN_RISE = 0.05


def loudness_dbfs(waveform: NDArray[np.float32]) -> float:
    """RMS level of (samples,) in dB of full scale, never under -120; a full-scale square wave is 0 dBFS.

    It is no loudness as heard (ITU-R BS.1770): low rumble counts as much as speech.
    """
    return float(_level_dbfs(waveform[None].astype(np.float64))[0]) if len(waveform) else FLOOR_DBFS


def silence_share(waveform: NDArray[np.float32], sample_rate: int) -> float:
    """Share of blocks of 0.1 s whose RMS level is under -50 dBFS, 0..1; no sound at all is 1.

    Isolated events with true silence between them score high and are none the worse for it.
    """
    block = round(BLOCK_SEC * sample_rate)
    blocks = len(waveform) // block
    if blocks == 0:
        return float(loudness_dbfs(waveform) < SILENT_DBFS)
    levels = _level_dbfs(waveform[: blocks * block].reshape(blocks, block).astype(np.float64))
    return float(np.mean(levels < SILENT_DBFS))


def clipping_share(waveform: NDArray[np.float32]) -> float:
    """Share of audio samples at full scale, 0..1. A recording clipped and then turned down is not found."""
    return float(np.mean(np.abs(waveform) >= _FULL_SCALE)) if len(waveform) else 0.0


def _level_dbfs(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    power = np.mean(blocks * blocks, axis=1)
    return np.asarray(np.maximum(10 * np.log10(np.maximum(power, 1e-20)), FLOOR_DBFS))


@dataclass(frozen=True)
class OnsetEnvelope:
    """Onset strength over time."""

    values: NDArray[np.float64]
    """(frames,), not negative; the unit is the rise of a log-compressed band magnitude, mean over bands"""
    rate: float
    """values a second"""
    start_sec: float
    """time of the first value"""

    @property
    def times_sec(self) -> NDArray[np.float64]:
        """Time of each value."""
        return np.asarray(self.start_sec + np.arange(len(self.values)) / self.rate)


def onset_envelope(waveform: NDArray[np.float32], sample_rate: int) -> OnsetEnvelope:
    """Spectral flux of (samples,): per band the rise of log magnitude against 20 ms before, falls cut to zero.

    flux[n] = mean_b max(0, log(1 + c |X[n, b]|) - log(1 + c |X[n - 2, b]|)), Hann windows of 32 ms, hop 10 ms, 40 bands
    of equal width on the mel scale (the log-filtered flux of Boeck, Krebs and Schedl, ISMIR 2012). Magnitudes are
    relative to the loudest of the clip, so the level of a recording does not matter. A slow swell, a bow stroke or a
    steady noise has no onset in this sense, nor has anything in the first 30 ms.
    """
    hop, window = round(_HOP_SEC * sample_rate), round(_WINDOW_SEC * sample_rate)
    magnitude = _band_magnitudes(waveform, sample_rate, hop, window)
    loudest = float(magnitude.max(initial=0.0))
    if loudest <= 0 or loudness_dbfs(waveform) <= FLOOR_DBFS:
        return OnsetEnvelope(np.zeros(len(magnitude)), sample_rate / hop, 0.0)
    compressed = np.log1p(_COMPRESSION * magnitude / loudest)
    rise = np.zeros(compressed.shape)
    # From the first window on that lies wholly inside: a sound that is there from the start has no onset.
    first = 2 + -(-(window // 2) // hop)
    rise[first:] = np.maximum(compressed[first:] - compressed[first - 2 : -2], 0.0)
    # Value n compares windows centred at n and n - 2 hops: the change lies between them.
    return OnsetEnvelope(rise.mean(axis=1), sample_rate / hop, -1.0 * hop / sample_rate)


def onset_times(envelope: OnsetEnvelope) -> NDArray[np.float64]:
    """Times of onsets in seconds, ascending: local maxima well over their surroundings, at least 60 ms apart.

    A value is an onset when it is the largest within 60 ms, and exceeds the mean of the last 150 and next 50 ms by
    0.05 of the clip's log range. In dense music soft notes under loud ones are missed.
    """
    values, rate = envelope.values, envelope.rate
    reach = max(1, round(_MIN_GAP_SEC * rate))
    before, after = round(_BEFORE_SEC * rate), round(_AFTER_SEC * rate)
    mean = uniform_filter1d(values, before + after + 1, mode="nearest", origin=(before - after) // 2)
    largest = maximum_filter1d(values, 2 * reach + 1, mode="nearest")
    candidates = np.flatnonzero((values >= largest) & (values >= mean + _MIN_RISE * np.log1p(_COMPRESSION)))
    kept: list[int] = []
    for index in candidates:
        if not kept or index - kept[-1] > reach:
            kept.append(int(index))
    return envelope.times_sec[kept]


def _band_magnitudes(waveform: NDArray[np.float32], sample_rate: int, hop: int, window: int) -> NDArray[np.float32]:
    """(frames, bands) sums of magnitude, frame n centred at sample n * hop."""
    padded = np.pad(waveform.astype(np.float32), (window // 2, window))
    frames = len(waveform) // hop + 1
    slices = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][:frames]
    taper, bands = _analysis(sample_rate, window)
    magnitude = np.empty((len(slices), bands.shape[1]), np.float32)
    # A stretch at a time stays in the processor's cache. Single precision errs by a millionth of the loudest.
    for start in range(0, len(slices), _STRETCH):
        spectrum = np.asarray(rfft(slices[start : start + _STRETCH] * taper, axis=1))
        # Not np.abs: its care against overflow takes three times as long.
        magnitude[start : start + _STRETCH] = np.sqrt(spectrum.real**2 + spectrum.imag**2) @ bands
    return magnitude


@lru_cache(maxsize=4)
def _analysis(sample_rate: int, window: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Hann window (window,), and (bins, bands) ones where a bin belongs to the band."""
    mel = np.linspace(_mel(_LOW_HZ), _mel(sample_rate / 2), _BANDS + 1)
    edges = np.unique(np.round(700 * (10 ** (mel / 2595) - 1) * window / sample_rate).astype(int))
    bins = np.arange(window // 2 + 1)[:, None]
    # The last band begins at the last edge but one and ends below the last.
    bands = (bins >= edges[:-1]) & (bins < edges[1:])
    return hann(window, sym=False).astype(np.float32), bands.astype(np.float32)


def _mel(hertz: float) -> float:
    """Mel of a frequency after O'Shaughnessy: 2595 log10(1 + f / 700)."""
    return float(2595 * np.log10(1 + hertz / 700))
