"""Sound words follow their formula, do not hear level, and hear nothing in silence and steady tones."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from soundstage.data.duplicates.sound import SOUND_HZ, UNHEARD, sound_words

RATE = 16000


def noise(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """Noise whose level and colour change, as sound does."""
    rng = np.random.default_rng(seed)
    wave = rng.normal(size=round(seconds * RATE))
    wave = np.convolve(wave, rng.normal(size=9), "same")
    return (0.05 * wave * (1.2 + np.sin(np.arange(len(wave)) / rng.uniform(900, 2000)))).astype(np.float32)


def bit_error(a: np.ndarray, b: np.ndarray) -> float:
    count = min(len(a), len(b))
    return float(np.bitwise_count(a[1:count] ^ b[1:count]).sum()) / (32 * (count - 1))


def test_words_are_the_signs_that_haitsma_and_kalker_define() -> None:
    """Band energies by a plain float64 transform, bit by bit; signs of nearly nothing may fall either way."""
    wave = noise(1.0)
    words = sound_words(wave, RATE)
    frame = round(0.37 * RATE)
    assert len(words) == (len(wave) - frame) // (RATE // SOUND_HZ) + 1
    taper = np.hanning(frame)
    length = 6000  # what scipy takes for 5920
    edges = np.round(np.geomspace(200, 5500, 34) / RATE * length).astype(int)
    energies = []
    for tick in range(len(words)):
        part = wave[tick * RATE // SOUND_HZ :][:frame].astype(np.float64) * taper
        power = np.abs(np.fft.rfft(part, length)) ** 2
        energies.append([power[low:high].sum() for low, high in pairwise(edges)])
    for tick in range(1, len(words)):
        for band in range(32):
            now, before = energies[tick], energies[tick - 1]
            value = now[band] - now[band + 1] - (before[band] - before[band + 1])
            if abs(value) > 1e-5 * max(now):
                assert bool(words[tick] >> np.uint32(band) & np.uint32(1)) == (value > 0)


def test_level_is_not_heard_and_other_sound_is_other() -> None:
    wave = noise(3.0)
    words = sound_words(wave, RATE)
    assert bit_error(words, sound_words(wave * np.float32(0.1), RATE)) < 0.001
    # 60 words of which about nine are independent, 32 bits each: the error of strangers is 0.5 within five sigma.
    assert abs(bit_error(words, sound_words(noise(3.0, 1), RATE)) - 0.5) < 5 * 0.5 / np.sqrt(9 * 32)


def test_a_cut_between_two_ticks_changes_few_bits() -> None:
    wave = noise(3.0)
    # Half a tick is the worst place; the paper's own hop is a quarter of ours.
    assert bit_error(sound_words(wave, RATE), sound_words(wave[320:], RATE)) < 0.15


@pytest.mark.parametrize(
    "wave",
    [
        np.zeros(RATE, np.float32),
        np.full(RATE, 0.5, np.float32),
        (1e-5 * np.random.default_rng(0).normal(size=RATE)).astype(np.float32),
        (0.5 * np.sin(np.arange(RATE) * 2 * np.pi * 440 / RATE)).astype(np.float32),
    ],
    ids=["silence", "constant", "under -80 dBFS", "steady tone"],
)
def test_nothing_is_heard_where_nothing_happens(wave: NDArray[np.float32]) -> None:
    assert (sound_words(wave, RATE) == UNHEARD).all()


def test_the_floor_lies_at_minus_80_dbfs() -> None:
    white = np.random.default_rng(0).normal(size=2 * RATE).astype(np.float32)
    # Two thirds of white noise lie between 200 and 5500 of 8000 Hz: 1.8 dB less.
    assert (sound_words(white * np.float32(10 ** (-77 / 20)), RATE)[1:] != UNHEARD).all()
    assert (sound_words(white * np.float32(10 ** (-79 / 20)), RATE) == UNHEARD).all()


def test_short_and_odd_input() -> None:
    assert len(sound_words(np.zeros(0, np.float32), RATE)) == 0
    assert len(sound_words(noise(0.36), RATE)) == 0
    assert len(sound_words(noise(0.38), RATE)) == 1
    with pytest.raises(ValueError, match=r"waveform must be \(samples,\), found \(2, 100\)"):
        sound_words(np.zeros((2, 100), np.float32), RATE)
    with pytest.raises(ValueError, match="sound at 1000 Hz has too little"):
        sound_words(noise(3.0), 1000)
