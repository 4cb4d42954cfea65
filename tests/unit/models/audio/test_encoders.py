"""Every audio encoder keeps the contract: what sounds at t shows at t, and no further than it says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from soundstage.config.audio import AudioConfig, AudioEncoderConfig
from soundstage.models.audio.base import AudioEncoder
from soundstage.models.audio.load import encode_sound, encoder_fingerprints, feature_grids, load_audio_encoders

from .makers import KINDS, make_encoder

START_SEC = -0.5
# How far from a click the network's nearest token may be centred, for what a token hears before attention: half a hop
# and half its own window.
LOCAL_SEC = {
    "mel": 0.005 + 0.016,
    "sync_tower_convolutional": 0.005 + 0.016 + 0.12,
    "sync_tower_transformer": 0.010 + 0.016 + 0.08,
    "ast": 0.050 + 0.0875,
    "clap": 0.032 + 0.032 + 0.012,
    "wav2vec2": 0.010 + 0.0125,
    "hubert": 0.010 + 0.0125,
    "whisper": 0.010 + 0.0125 + 0.015,
    "onnx": 0.240 + 0.1,
}
FINITE = ("mel", "ast", "clap", "whisper", "onnx")
# These bring each sound to unit variance: on a bed that the click does not outweigh, it is the click that differs.
# Random weights favour one tap of their first layers: up to 2 mel frames, or a few of AST's 16.
BIAS_SEC = {
    "mel": 0.004,
    "sync_tower_convolutional": 0.025,
    "sync_tower_transformer": 0.025,
    "ast": 0.035,
    "clap": 0.008,
    "wav2vec2": 0.003,
    "hubert": 0.003,
    "whisper": 0.012,
    "onnx": 0.05,
}
NOISE = {kind: 0.05 if kind in ("wav2vec2", "hubert") else 1e-3 for kind in KINDS}


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, AudioEncoderConfig]:
    folder = tmp_path_factory.mktemp("encoders")
    return {kind: make_encoder(kind, folder / kind) for kind in KINDS}


@pytest.fixture(scope="module", params=[16000, 22050], ids=["16kHz", "22kHz"])
def rate(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def encoders(configs: dict[str, AudioEncoderConfig], rate: int) -> dict[str, AudioEncoder]:
    return load_audio_encoders(AudioConfig(sample_rate=rate, encoders=configs))


def noise(kind: str, rate: int, duration_sec: float, count: int = 1) -> torch.Tensor:
    """(count, samples) of faint noise."""
    return NOISE[kind] * torch.randn(count, round(duration_sec * rate), generator=torch.Generator().manual_seed(3))


def clicked(sound: torch.Tensor, rate: int, at_sec: float) -> torch.Tensor:
    """With a click of 2 ms centred on `at_sec`, counted from `START_SEC` on."""
    index = torch.arange(sound.shape[-1]) - round((at_sec - START_SEC) * rate)
    return sound + torch.sinc(index / 4) * (index.abs() <= rate // 1000)


def change(encoder: AudioEncoder, quiet: torch.Tensor, loud: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How much each feature vector differs, and its time stamp."""
    before, after = encoder(quiet, START_SEC), encoder(loud, START_SEC)
    return (after.features - before.features).norm(dim=-1), after.times_sec


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at_sec", [0.0, 0.37, 1.1, 2.6, 3.2])
def test_a_click_shows_at_its_time_and_no_further(
    encoders: dict[str, AudioEncoder], rate: int, kind: str, at_sec: float
) -> None:
    encoder, quiet = encoders[kind], noise(kind, rate, 4.5)[0]
    changes, times = change(encoder, quiet, clicked(quiet, rate, at_sec))
    assert abs(float(times[changes.argmax()]) - at_sec) <= LOCAL_SEC[kind] + 1e-3

    latest, earliest = at_sec + encoder.receptive_field_sec, at_sec - encoder.latency_sec
    outside = (times < earliest - 1e-3) | (times > latest + 1e-3)
    assert not changes[outside].any(), "features changed that the encoder says cannot hear the click"
    assert math.isfinite(encoder.receptive_field_sec) == math.isfinite(encoder.latency_sec) == (kind in FINITE)
    assert bool(outside.any()) == (kind in FINITE), "the sound must be long enough to show where the field ends"


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_heard_as_its_sounds_are(encoders: dict[str, AudioEncoder], rate: int, kind: str) -> None:
    encoder, times_of_click = encoders[kind], [0.2, 1.9, 3.0]
    quiet = noise(kind, rate, 4.5, count=3)
    loud = torch.stack([clicked(row, rate, at) for row, at in zip(quiet, times_of_click, strict=True)])
    together = encoder(loud, START_SEC)
    assert together.features.dtype == torch.float32
    assert not together.features.requires_grad
    for index, at_sec in enumerate(times_of_click):
        alone = encoder(loud[index], START_SEC)
        assert torch.equal(alone.times_sec, together.times_sec)
        # Batched and single kernels sum in different orders.
        torch.testing.assert_close(together.features[index], alone.features, atol=2e-4, rtol=1e-3)
        changes = (together.features[index] - encoder(quiet, START_SEC).features[index]).norm(dim=-1)
        assert abs(float(together.times_sec[changes.argmax()]) - at_sec) <= LOCAL_SEC[kind] + 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_time_stamps_are_centred(encoders: dict[str, AudioEncoder], rate: int, kind: str) -> None:
    """Clicks all over two hops are placed too early as much as too late."""
    encoder, at_sec = encoders[kind], 1.0 + torch.arange(24) / 12 * encoders[kind].grid.hop_sec
    quiet = noise(kind, rate, 4.5).expand(len(at_sec), -1)
    loud = torch.stack([clicked(row, rate, at) for row, at in zip(quiet, at_sec.tolist(), strict=True)])
    changes, times = change(encoder, quiet, loud)
    assert abs(float((times[changes.argmax(1)] - at_sec).mean())) <= BIAS_SEC[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_features_tile_the_sound(encoders: dict[str, AudioEncoder], rate: int, kind: str) -> None:
    encoder = encoders[kind]
    for duration_sec in (2.0, 4.5, 9.0):
        found = encoder(noise(kind, rate, duration_sec)[0], START_SEC)
        grid = encoder.grid
        assert found.features.shape == (len(found.times_sec), grid.dim)
        torch.testing.assert_close(found.times_sec, grid.times_sec(len(found.times_sec), START_SEC))
        assert float(found.times_sec[0]) == pytest.approx(START_SEC + grid.first_sec)
        # The last feature stands for what is near the end; a window that must fit in starts up to a hop before it.
        left = START_SEC + duration_sec - float(found.times_sec[-1])
        assert -1e-3 <= left <= grid.hop_sec + grid.first_sec + 2e-3


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in FINITE])
def test_twice_the_sound_keeps_its_first_half(encoders: dict[str, AudioEncoder], rate: int, kind: str) -> None:
    encoder = encoders[kind]
    whole = noise(kind, rate, 9.0)[0]
    half, full = encoder(whole[: len(whole) // 2], START_SEC), encoder(whole, START_SEC)
    known = half.times_sec < START_SEC + 4.5 - encoder.latency_sec - 1e-3
    assert known.sum() > 3
    count = int(known.sum())
    torch.testing.assert_close(full.features[:count], half.features[:count], atol=1e-5, rtol=1e-4)
    changes, times = change(encoder, whole, clicked(whole, rate, 7.3))
    assert abs(float(times[changes.argmax()]) - 7.3) <= LOCAL_SEC[kind] + 1e-3


def test_features_repeat_bit_for_bit(
    configs: dict[str, AudioEncoderConfig], encoders: dict[str, AudioEncoder], rate: int
) -> None:
    again = load_audio_encoders(AudioConfig(sample_rate=rate, encoders=configs))
    assert encoder_fingerprints(again) == encoder_fingerprints(encoders)
    sound = clicked(noise("mel", rate, 3.0), rate, 1.0)
    first, second = encode_sound(encoders, sound, START_SEC), encode_sound(again, sound, START_SEC)
    assert list(first) == list(configs)
    for name, features in first.items():
        assert torch.equal(features.features, second[name].features), name


def test_grids_need_no_weights(
    configs: dict[str, AudioEncoderConfig], encoders: dict[str, AudioEncoder], rate: int
) -> None:
    grids = feature_grids(AudioConfig(sample_rate=rate, encoders=configs))
    assert grids == {name: encoder.grid for name, encoder in encoders.items()}
    assert list(grids) == list(configs)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mel"])
def test_fingerprints_know_weights_but_not_places(tmp_path: Path, kind: str) -> None:
    made = {name: make_encoder(kind, tmp_path / name, seed) for name, seed in (("one", 0), ("same", 0))}
    if kind == "onnx":
        from .makers import save_onnx

        (tmp_path / "other").mkdir()
        save_onnx(tmp_path / "other/tiny.onnx", seed=1)
        made["other"] = made["one"].model_copy(update={"path": str(tmp_path / "other/tiny.onnx")})
    else:
        made["other"] = make_encoder(kind, tmp_path / "other", seed=1)
    found = encoder_fingerprints(load_audio_encoders(AudioConfig(encoders=made)))
    assert found["audio.one"] == found["audio.same"] != found["audio.other"]


def test_fingerprints_know_the_rate(configs: dict[str, AudioEncoderConfig]) -> None:
    names = {name: configs[name] for name in ("mel", "ast", "onnx", "sync_tower_convolutional")}
    low, high = (
        encoder_fingerprints(load_audio_encoders(AudioConfig(sample_rate=rate, encoders=names)))
        for rate in (16000, 22050)
    )
    assert all(low[name] != high[name] for name in low)
