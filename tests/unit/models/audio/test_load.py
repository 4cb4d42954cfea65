"""From configuration to encoders, and the weights that must travel with an adapter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from soundstage.config.audio import AudioConfig, LogMelConfig, SyncTowerConfig
from soundstage.errors import ConfigError
from soundstage.models.audio.load import (
    bundle_encoders,
    encode_sound,
    encoder_fingerprints,
    feature_grids,
    load_audio_encoders,
)

from .makers import make_encoder

TOWER = "sync_tower_convolutional"


def test_encoders_keep_names_and_order(tmp_path: Path) -> None:
    encoders = {"tower": make_encoder(TOWER, tmp_path), "mel": LogMelConfig(), "bands": LogMelConfig(num_mel_bins=8)}
    loaded = load_audio_encoders(AudioConfig(encoders=encoders))
    assert list(loaded) == list(encoder_sound := encode_sound(loaded, torch.zeros(16000), 0.0)) == list(encoders)
    assert [features.features.shape[-1] for features in encoder_sound.values()] == [8, 33, 9]
    assert list(encoder_fingerprints(loaded)) == ["audio.tower", "audio.mel", "audio.bands"]


def test_a_scorer_without_a_place_comes_from_the_bundle(tmp_path: Path) -> None:
    given = make_encoder(TOWER, tmp_path / "bundle/tower")
    by_name = AudioConfig(encoders={"tower": SyncTowerConfig()})
    by_path = AudioConfig(encoders={"tower": given})
    assert feature_grids(by_name, tmp_path / "bundle") == feature_grids(by_path)
    first, second = load_audio_encoders(by_name, tmp_path / "bundle"), load_audio_encoders(by_path)
    assert encoder_fingerprints(first) == encoder_fingerprints(second)
    for build in (load_audio_encoders, feature_grids):
        with pytest.raises(ConfigError, match=r"model\.audio\.encoders\.tower: .*names no scorer and none is bundled"):
            build(by_name)
        with pytest.raises(ConfigError, match=r"encoders\.tower: .*elsewhere/tower holds no"):
            build(by_name, tmp_path / "elsewhere")


def test_a_bundle_stands_on_its_own(tmp_path: Path) -> None:
    one = make_encoder(TOWER, tmp_path / "made/one")
    make_encoder(TOWER, tmp_path / "made/two", seed=1)
    config = AudioConfig(encoders={"one": one, "two": SyncTowerConfig(), "mel": LogMelConfig()})
    expected = encoder_fingerprints(load_audio_encoders(config, tmp_path / "made"))
    bundle_encoders(config, tmp_path / "made", tmp_path / "adapter/audio")
    assert sorted(path.name for path in (tmp_path / "adapter").rglob("*") if path.is_dir()) == ["audio", "one", "two"]

    (tmp_path / "made").rename(tmp_path / "gone")
    placeless = AudioConfig(encoders={"one": SyncTowerConfig(), "two": SyncTowerConfig(), "mel": LogMelConfig()})
    bundled = tmp_path / "adapter/audio"
    assert encoder_fingerprints(load_audio_encoders(placeless, bundled)) == expected
    # An adapter that was loaded is saved where it came from.
    bundle_encoders(placeless, bundled, bundled)
    assert encoder_fingerprints(load_audio_encoders(placeless, bundled)) == expected


def test_a_bundle_is_whole_or_not_there(tmp_path: Path) -> None:
    one = make_encoder(TOWER, tmp_path / "one")
    config = AudioConfig(encoders={"one": one, "two": SyncTowerConfig()})
    for source, message in ((None, "names no scorer"), (tmp_path / "none", "two holds no|holds no usable")):
        with pytest.raises(ConfigError, match=rf"encoders\.two: .*(?:{message})"):
            bundle_encoders(config, source, tmp_path / "adapter")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["one"]


def test_nothing_to_bundle_writes_nothing(tmp_path: Path) -> None:
    bundle_encoders(AudioConfig(), None, tmp_path / "adapter")
    assert not list(tmp_path.iterdir())


def test_the_default_pays_for_no_network_library() -> None:
    code = (
        "import sys; from soundstage.config.audio import AudioConfig; "
        "from soundstage.models.audio.load import load_audio_encoders; load_audio_encoders(AudioConfig()); "
        "print([name for name in ('transformers', 'onnxruntime', 'diffusers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
