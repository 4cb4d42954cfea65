"""Presets as files: each says what it is for, and full-size ones fit their release, their window and their ranks."""

from __future__ import annotations

from importlib import resources

import pytest

from soundstage.config import SoundstageConfig, load_config, preset_names
from soundstage.config.audio import TransformersAudioConfig
from soundstage.errors import ConfigError
from soundstage.models.backbones.base import Release
from soundstage.models.backbones.load import FAMILIES

RELEASES: dict[str, tuple[str, Release]] = {
    name: (family, release) for family, kind in FAMILIES.items() for name, release in kind.releases.items()
}
# Members whose checkpoint was not trained to be given a first frame: by the models' own papers and cards.
TEXT_ONLY = {"wan2.1-t2v-1.3b", "wan2.1-t2v-14b", "cogvideox-2b", "cogvideox-5b"}


@pytest.fixture(params=sorted(RELEASES))
def name(request: pytest.FixtureRequest) -> str:
    """A full-size preset: it has the name of its release."""
    return str(request.param)


@pytest.fixture
def config(name: str) -> SoundstageConfig:
    return load_config(name)


@pytest.mark.parametrize("preset", preset_names())
def test_a_preset_opens_with_when_to_use_it(preset: str) -> None:
    text = (resources.files("soundstage.config") / "presets" / f"{preset}.yaml").read_text()
    head = [line for line in text.split("\n\n")[0].splitlines() if line.startswith("#")]
    assert text.startswith("#")
    if preset in RELEASES:
        said = " ".join(line.removeprefix("# ") for line in head)
        assert "GPU" in said
        assert "Not run at full size here" in said
        assert ("experimental" in said) == (preset in TEXT_ONLY)


def test_backbone_is_the_pinned_release(name: str, config: SoundstageConfig) -> None:
    family, release = RELEASES[name]
    backbone = config.model.backbone
    assert (backbone.family, backbone.pretrained, backbone.revision) == (family, release.hub_id, release.revision)
    assert backbone.dtype == "bf16"
    assert config.registry.name == f"soundstage-{name}"


def test_window_is_near_what_the_release_was_made_for(name: str, config: SoundstageConfig) -> None:
    release = RELEASES[name][1]
    assert config.window.fps == release.native_fps
    assert config.window.frame_size == release.native_size
    assert config.window.num_frames <= release.native_frames
    assert config.window.duration_sec >= 1.9


def test_positions_that_were_learned_for_one_length_are_kept() -> None:
    """diffusers' `CogVideoXPatchEmbed` replaces them at any other length, silently."""
    assert load_config("cogvideox-5b-i2v").window.num_frames == 49


def test_clips_hold_a_window_at_its_size_and_rate(config: SoundstageConfig) -> None:
    ingest, window = config.ingest, config.window
    assert ingest.short_side >= min(window.frame_size)
    assert ingest.fps % window.fps == 0, "a window's instants should be frames of the clip"
    assert window.duration_sec <= ingest.min_duration_sec <= ingest.span_sec
    assert window.audio_margin_sec >= config.model.adapter.window_sec
    assert config.judge.fps == window.fps, "the judge must see the rate of generated windows"
    assert config.judge.crop_sec <= window.duration_sec


def test_adapter_has_heads_of_64_and_a_low_rank_update_where_the_first_frame_is_not_native(
    name: str, config: SoundstageConfig
) -> None:
    adapter = config.model.adapter
    assert adapter.inner_dim == 64 * adapter.heads
    assert (adapter.low_rank > 0) == (name in TEXT_ONLY)
    assert adapter.max_share == 0.019


def test_several_encoders_are_heard_each_pinned_and_licensed(config: SoundstageConfig) -> None:
    encoders = config.model.audio.encoders
    assert list(encoders) == ["mel", "whisper", "ast"]
    for encoder in encoders.values():
        if isinstance(encoder, TransformersAudioConfig):
            assert encoder.revision is not None
            assert len(encoder.revision) == 40
            assert encoder.licence != "unknown"


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_training_divides_over_its_ranks(config: SoundstageConfig, stage: str) -> None:
    train = getattr(config, stage)
    assert train.global_batch % (config.launcher.ranks * train.micro_batch) == 0
    assert (train.precision, train.zero_stage) == ("bf16", 2)
    # Without audio the low-rank update stays: those samples teach it. Where there is none they would teach nothing.
    assert (train.audio_dropout > 0) == (config.model.adapter.low_rank > 0)
    assert config.finetune.learning_rate < config.pretrain.learning_rate


def test_an_unknown_preset_is_answered_with_a_near_name() -> None:
    with pytest.raises(ConfigError, match=r"did you mean wan2\.1-t2v-1\.3b\?.*ltx-video-2b"):
        load_config("wan2.1-1.3b")
