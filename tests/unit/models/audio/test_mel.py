"""Log-mel features against an independent computation, and their time stamps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchaudio
from numpy.typing import NDArray

from soundstage.config.audio import LogMelConfig
from soundstage.models.audio import mel
from soundstage.models.audio.mel import LogMelOnset


def reference(waveform: NDArray[np.float64], config: LogMelConfig, sample_rate: int) -> NDArray[np.float64]:
    """log10 mel power (T, bands): zero padding, periodic Hann, FFT power, HTK mel triangles, all in float64."""
    n, hop = config.n_fft, config.hop_length
    padded = np.pad(waveform, n // 2)
    starts = range(0, len(waveform) + 1, hop)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    power = np.stack([np.abs(np.fft.rfft(padded[s : s + n] * hann)) ** 2 for s in starts])
    bank = torchaudio.functional.melscale_fbanks(n // 2 + 1, 0.0, sample_rate / 2, config.num_mel_bins, sample_rate)
    return np.asarray(np.log10(power @ bank.double().numpy() + mel._LOG_FLOOR))


RATE = 16000
CASES = [(LogMelConfig(), RATE), (LogMelConfig(hop_length=256, n_fft=1024, num_mel_bins=20), 22050)]


@pytest.mark.parametrize(("config", "rate"), CASES, ids=["16kHz", "22kHz"])
def test_features_equal_an_independent_computation(config: LogMelConfig, rate: int) -> None:
    rng = np.random.default_rng(0)
    t = np.arange(rate) / rate
    sound = 0.5 * np.sin(2 * np.pi * 440 * t) * np.exp(-3 * t) + rng.normal(scale=0.01, size=len(t))
    sound[: len(t) // 4] = 0.0
    log_mel = reference(sound, config, rate)
    scaled = (log_mel - mel._LOG_CENTRE) / mel._LOG_SCALE
    rise = np.maximum(np.diff(scaled, axis=0, prepend=scaled[:1]), 0).mean(axis=1, keepdims=True) * 4

    extractor = LogMelOnset(config, rate)
    found = extractor(torch.from_numpy(sound.astype(np.float32)))
    assert found.features.shape == (len(log_mel), extractor.grid.dim)
    # float32 FFTs err by about 1e-6 of a frame's loudest bin, which quiet bands see relative to the floor.
    np.testing.assert_allclose(found.features.numpy(), np.concatenate([scaled, rise], axis=1), atol=2e-3)


@pytest.mark.parametrize("at_sec", [0.0, 0.313, 0.75, 1.4])
def test_a_click_is_loudest_at_its_time(at_sec: float) -> None:
    config, margin = LogMelConfig(), 0.5
    sound = torch.zeros(round(2.5 * RATE))
    sound[round((at_sec + margin) * RATE)] = 1.0
    found = LogMelOnset(config, RATE)(sound, -margin)
    loudest = int(found.features[:, :-1].sum(dim=1).argmax())
    # The Hann window peaks in its middle: the frame centred nearest to the click wins, at most half a hop away.
    assert abs(float(found.times_sec[loudest]) - at_sec) <= config.hop_length / RATE / 2 + 1e-6
    onset = float(found.times_sec[int(found.features[:, -1].argmax())])
    assert -config.n_fft / 2 / RATE - 1e-6 <= onset - at_sec <= 1e-6


def test_silence_is_flat_and_rounding_noise_is_silence() -> None:
    extractor = LogMelOnset(LogMelConfig(), RATE)
    silence = extractor(torch.zeros(16000)).features
    assert torch.equal(silence, silence[:1].expand_as(silence))
    generator = torch.Generator().manual_seed(0)
    rounding = (torch.rand(16000, generator=generator) - 0.5) / 32768
    assert (extractor(rounding).features - silence).abs().max() < 0.02


def test_a_batch_equals_its_samples() -> None:
    extractor = LogMelOnset(LogMelConfig(), RATE)
    sounds = torch.randn(3, 8000, generator=torch.Generator().manual_seed(1))
    together = extractor(sounds).features
    for index in range(3):
        torch.testing.assert_close(extractor(sounds[index]).features, together[index], atol=1e-5, rtol=0)
