"""The scorer on disk and what it says: round trips, refusals, silence, frame rates, and sense in its estimates."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from soundstage.config.tree import ScorerConfig
from soundstage.errors import DataError
from soundstage.models.sync import SyncScorer, load_scorer, save_scorer
from soundstage.models.sync.scorer import CONFIG_FILE, WEIGHTS_FILE, hop_sec, squares
from tests.unit.curation.makers import FPS, RATE, clicks, irregular, pulses

SECONDS = 2.0
EVENTS = irregular(SECONDS)


def tiny(**changes: Any) -> ScorerConfig:
    values: dict[str, Any] = {"width": 4, "embedding_dim": 8, "frame_size": 16, "fps": 12, "num_mel_bins": 16}
    return ScorerConfig(**(values | changes))


def scorer(seed: int = 0, rate: int = RATE, **changes: Any) -> SyncScorer:
    torch.manual_seed(seed)
    return SyncScorer(tiny(**changes), rate).eval()


@pytest.fixture(scope="module")
def frames() -> Any:
    return pulses(EVENTS, SECONDS)


@pytest.fixture(scope="module")
def sound() -> Any:
    return clicks(EVENTS, SECONDS)


def test_a_scorer_that_comes_back_says_the_same(tmp_path: Path, frames: Any, sound: Any) -> None:
    made = scorer(audio_tower="transformer", video_tower="recurrent")
    fingerprint = save_scorer(tmp_path / "scorer", made, {"role": "judge", "measured": {"seen_clips": 9.0}})
    found, about = load_scorer(tmp_path / "scorer")
    assert (about["fingerprint"], about["role"], about["sample_rate"]) == (fingerprint, "judge", RATE)
    assert found.config == made.config
    assert found.estimate(frames, FPS, sound) == made.estimate(frames, FPS, sound)
    assert found.estimate(frames, FPS, sound) is not None
    assert not found.training
    assert "seen_clips: 9.0" in (tmp_path / "scorer" / "README.md").read_text()


def test_the_fingerprint_knows_weights_configuration_and_rate(tmp_path: Path) -> None:
    made = [scorer(), scorer(), scorer(1), scorer(rate=8000), scorer(max_offset_sec=1.0)]
    prints = [save_scorer(tmp_path / str(number), item, {}) for number, item in enumerate(made)]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def exchange_weight(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS_FILE)
    weights["lag_scale"] += 0.1
    save_file(weights, folder / WEIGHTS_FILE)


def edit(folder: Path, **changes: Any) -> None:
    about = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps(about | changes))


DAMAGE = {
    "weights exchanged": (exchange_weight, r"weights and configuration have fingerprint \w{16}, stated \w{16}"),
    "weights gone": (lambda folder: (folder / WEIGHTS_FILE).unlink(), WEIGHTS_FILE),
    "no description": (lambda folder: (folder / CONFIG_FILE).unlink(), CONFIG_FILE),
    "no JSON": (lambda folder: (folder / CONFIG_FILE).write_text("{"), "holds no usable sync scorer"),
    "other rate": (lambda folder: edit(folder, sample_rate=8000), "have fingerprint"),
    "unknown tower": (lambda folder: edit(folder, config={"video_tower": "none"}), "video_tower"),
    "not a mapping": (lambda folder: (folder / CONFIG_FILE).write_text("[]"), "holds no usable sync scorer"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_no_scorer_or_another_one_is_refused(name: str, tmp_path: Path) -> None:
    damage, message = DAMAGE[name]
    save_scorer(tmp_path / "scorer", scorer(), {})
    damage(tmp_path / "scorer")
    with pytest.raises(DataError, match=message):
        load_scorer(tmp_path / "scorer")


def test_a_folder_without_a_scorer_is_named_with_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere holds no usable sync scorer.*soundstage train scorer"):
        load_scorer(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "case",
    ["silence", "dither", "constant sound", "one picture", "flicker", "too few frames", "hardly any sound", "no sound"],
)
def test_nothing_is_said_of_what_cannot_be_compared(case: str, frames: Any, sound: Any) -> None:
    rng = np.random.default_rng(0)
    pictures, waveform = {
        "silence": (frames, np.zeros_like(sound)),
        "dither": (frames, rng.integers(-1, 2, len(sound)).astype(np.float32) / 2**15),
        "flicker": (frames[:1] + rng.integers(0, 4, frames.shape, np.uint8), sound),
        "constant sound": (frames, np.full_like(sound, 0.25)),
        "one picture": (np.repeat(frames[:1], len(frames), axis=0), sound),
        "too few frames": (frames[: round(0.6 * FPS)], sound),
        "hardly any sound": (frames, sound[:200]),
        "no sound": (frames, sound[:0]),
    }[case]
    assert scorer().estimate(pictures, FPS, waveform) is None


def test_a_small_change_and_a_quiet_sound_are_judged(frames: Any, sound: Any) -> None:
    moving = np.repeat(frames[:1], len(frames), axis=0)
    moving[20:, :12, :12] += 6
    assert scorer().estimate(moving, FPS, sound / 1000) is not None


def test_the_shortest_clip_that_can_be_shifted_is_judged(frames: Any, sound: Any) -> None:
    # 8 steps of 1/12 s are 0.6 s and more; one frame more than steps.
    found = scorer().estimate(frames[: 2 * 9], FPS, sound[: round(0.75 * RATE)])
    assert found is not None
    assert all(math.isfinite(value) for value in vars(found).values())


@pytest.mark.parametrize(
    ("source_fps", "fps", "expected"),
    [
        (24, 6, [0, 4, 8, 12, 16, 20]),
        (30, 24, [round(k * 30 / 24) for k in range(24)]),
        (12, 24, [min(round(k / 2), 11) for k in range(24)]),
        (30000 / 1001, 10, [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]),
    ],
    ids=["24 to 6", "30 to 24", "12 to 24", "ntsc to 10"],
)
def test_frames_are_taken_by_time(source_fps: float, fps: int, expected: list[int]) -> None:
    count = round(source_fps)
    pictures = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, 20, 30)).copy()
    prepared = scorer(fps=fps).prepare(pictures, source_fps)
    assert prepared.shape == (len(expected), 16, 16)
    assert prepared[:, 0, 0].tolist() == expected
    assert (prepared == prepared[:, :1, :1]).all()


def test_squares_average_blocks() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 48), dtype=np.uint8)
    expected = pictures.reshape(3, 16, 2, 16, 3).mean((2, 4))
    assert np.abs(squares(pictures, 16) - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_mel_frames_lie_at_the_times_they_are_said_to(rate: int) -> None:
    made = scorer(rate=rate)
    waveform = torch.zeros(1, 3 * rate)
    waveform[0, round(2.5 * rate)] = 1.0
    # Energy around the click is symmetric: its middle is the frame at the click's time.
    energy = made.mel(waveform)[0].exp().sum(0) - made.mel(torch.zeros_like(waveform))[0].exp().sum(0)
    middle = float((energy * torch.arange(len(energy))).sum() / energy.sum())
    assert middle * hop_sec(rate) == pytest.approx(2.5, abs=0.002)


def peaks(made: SyncScorer, at: list[int], height: float = 0.9) -> torch.Tensor:
    correlations = torch.full((2 * made.reach + 1,), 0.0)
    correlations[[made.reach + lag for lag in at]] = height
    return correlations


def test_one_sharp_peak_is_certain_and_a_comb_of_equal_ones_is_not() -> None:
    made = scorer()
    with torch.no_grad():
        made.lag_scale.fill_(math.log(30.0))
    single = made.describe(peaks(made, [5]))
    assert single.sync_offset_sec == pytest.approx(5 / 12)
    assert single.sync_confidence > 0.999
    comb = made.describe(peaks(made, [-12, -8, -4, 0, 4, 8, 12]))
    assert comb.sync_confidence == pytest.approx(1 / 7, abs=0.01)
    assert comb.synchronisability < single.synchronisability / 5


def test_an_estimate_is_what_the_calibrations_say() -> None:
    made = scorer()
    correlations = torch.linspace(-0.4, 0.6, 2 * made.reach + 1)[torch.randperm(2 * made.reach + 1)]
    found = made.describe(correlations)
    values = correlations.double().numpy()
    best = int(values.argmax())
    lag_scale, place, match = (p.detach().exp().numpy() for p in (made.lag_scale, made.place, made.match))
    weights = np.exp(lag_scale * values) / np.exp(lag_scale * values).sum()
    assert weights.sum() == pytest.approx(1.0)
    # 0.1 s at 12 frames a second is one step on either side.
    assert found.sync_confidence == pytest.approx(weights[max(0, best - 1) : best + 2].sum(), rel=1e-5)
    assert found.sync_score == pytest.approx(place[0] * values[made.reach] + made.place[1].item(), rel=1e-5)
    assert found.sync_match == pytest.approx(match[0] * values[best] + made.match[1].item(), rel=1e-5)
    belongs = 1 / (1 + np.exp(-found.sync_match))
    assert found.synchronisability == pytest.approx(found.sync_confidence * belongs, rel=1e-6)


@pytest.mark.parametrize(("fps", "steps"), [(6, 1), (12, 1), (24, 2), (26, 2), (60, 6)])
def test_confidence_counts_lags_within_a_tenth_of_a_second_or_one_step(fps: int, steps: int) -> None:
    made = scorer(fps=fps)
    flat = made.describe(torch.zeros(2 * made.reach + 1).index_fill(0, torch.tensor([made.reach]), 1e-6))
    assert flat.sync_confidence == pytest.approx((2 * steps + 1) / (2 * made.reach + 1), rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_offset_sec": 0.25}, "leaves no wrong place to learn from at 12 frames"),
        ({"crop_sec": 0.7}, "too few to shift picture against sound"),
        ({"audio_tower": "ast", "num_mel_bins": 40}, "num_mel_bins=40 is no multiple"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_a_configuration_that_cannot_learn_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changes)
