import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from soundstage.curation.signals import clipping_share, loudness_dbfs, onset_envelope, onset_times, silence_share
from soundstage.curation.signals import sound as sound_signals
from tests.unit.curation.makers import RATE, clicks, irregular

SHARED = Path(__file__).parents[5] / "shared" / "data" / "clips"


def test_level_of_a_sine_is_three_decibels_under_its_peak() -> None:
    sine = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    assert loudness_dbfs(sine) == pytest.approx(-3.01, abs=0.01)
    assert loudness_dbfs(0.1 * sine) == pytest.approx(-23.01, abs=0.01)
    assert loudness_dbfs(np.zeros(RATE, np.float32)) == -120.0


def test_silence_share_counts_blocks() -> None:
    sound = np.zeros(2 * RATE, np.float32)
    sound[: RATE // 2] = 0.1
    assert silence_share(sound, RATE) == pytest.approx(0.75)
    assert silence_share(np.zeros(0, np.float32), RATE) == 1.0


def test_clipping_share_counts_samples_at_full_scale() -> None:
    sound = np.linspace(-0.5, 0.5, 1000).astype(np.float32)
    assert clipping_share(sound) == 0.0
    sound[:50], sound[50:100] = 1.0, -1.0
    assert clipping_share(sound) == pytest.approx(0.1)


def test_onsets_of_clicks_lie_within_fifteen_milliseconds() -> None:
    events = irregular(6.0)
    found = onset_times(onset_envelope(clicks(events, 6.0), RATE))
    assert len(found) == len(events)
    np.testing.assert_allclose(found, events, atol=0.015)


def test_band_magnitudes_are_sums_of_scipys_spectrum() -> None:
    """In double precision, over more windows than are worked on at a time."""
    waveform = clicks(irregular(1.5), 1.5)
    spectrum = ShortTimeFFT(hann(512, sym=False), hop=160, fs=RATE, phase_shift=None)
    reference = np.abs(spectrum.stft(waveform.astype(float), p0=0, p1=len(waveform) // 160 + 1))
    mel = np.linspace(*(2595 * np.log10(1 + hertz / 700) for hertz in (60.0, RATE / 2)), 41)
    edges = np.unique(np.round(700 * (10 ** (mel / 2595) - 1) * 512 / RATE).astype(int))
    expected = [reference[low:high].sum(axis=0) for low, high in pairwise(edges)]
    found = sound_signals._band_magnitudes(waveform, RATE, 160, 512)
    np.testing.assert_allclose(found, np.transpose(expected), rtol=1e-4, atol=1e-4 * np.max(expected))


def test_onset_envelope_ignores_the_level_of_the_recording() -> None:
    sound = clicks(irregular(3.0), 3.0)
    np.testing.assert_allclose(onset_envelope(sound, RATE).values, onset_envelope(0.1 * sound, RATE).values, atol=1e-5)


def test_steady_noise_and_silence_have_no_onset() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=0.1, size=4 * RATE).astype(np.float32)
    assert len(onset_times(onset_envelope(noise, RATE))) == 0
    assert len(onset_times(onset_envelope(np.zeros(RATE, np.float32), RATE))) == 0


def test_onsets_of_real_clips_agree_with_the_annotation() -> None:
    """The outside judge is a table of onsets on which two other detectors agree within 35 ms."""
    table = SHARED / "events.csv"
    if not table.exists():
        pytest.skip("annotated real clips are not in ../shared/data/clips")
    av = pytest.importorskip("av")
    names = ["anvil_hammer.mp4", "stick_hits_metal.mp4", "synth_ball_tabla.mp4", "chopping_cabbage.mp4"]
    with table.open() as stream:
        events = [(row["file"], float(row["audio_time_s"])) for row in csv.DictReader(stream)]
    found_right = reference_found = found_all = reference_all = 0
    for name in names:
        with av.open(str(SHARED / name)) as container:
            resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
            parts = [p.to_ndarray()[0] for frame in container.decode(audio=0) for p in resampler.resample(frame)]
        found = onset_times(onset_envelope(np.concatenate(parts).astype(np.float32), RATE))
        reference = np.array([time for file, time in events if file == name])
        near = np.abs(found[:, None] - reference[None]) < 0.05
        found_right, found_all = found_right + int(near.any(1).sum()), found_all + len(found)
        reference_found, reference_all = reference_found + int(near.any(0).sum()), reference_all + len(reference)
    assert reference_found / reference_all >= 0.9
    assert found_right / found_all >= 0.9
