"""Pretrained encoders: what they take from a checkpoint, and what they refuse."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from soundstage.config.audio import AudioConfig, TransformersAudioConfig
from soundstage.errors import ConfigError, DataError
from soundstage.models.audio.load import feature_grids, load_audio_encoders
from soundstage.models.audio.pretrained import PretrainedAudio, pretrained_grid

from .makers import SMALL, WIDTH, clap_audio, clap_extractor, make_encoder

PRETRAINED = ["ast", "clap", "wav2vec2", "hubert", "whisper"]
RATE = 16000


def made(kind: str, folder: Path, seed: int = 0) -> TransformersAudioConfig:
    config = make_encoder(kind, folder, seed)
    assert isinstance(config, TransformersAudioConfig)
    return config


def sound(seconds: float = 1.5) -> torch.Tensor:
    return 0.1 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", PRETRAINED)
def test_layers_stand_side_by_side(tmp_path: Path, kind: str) -> None:
    one = made(kind, tmp_path)
    last = PretrainedAudio(one, RATE)
    both = PretrainedAudio(one.model_copy(update={"layers": (-1, -2)}), RATE)
    assert (last.grid.dim, both.grid.dim) == (WIDTH, 2 * WIDTH)
    assert last.fingerprint != both.fingerprint
    features = both(sound()).features
    assert torch.equal(features[:, :WIDTH], last(sound()).features)
    assert not torch.allclose(features[:, :WIDTH], features[:, WIDTH:], atol=1e-3)
    counted = PretrainedAudio(one.model_copy(update={"layers": (2, 1)}), RATE)
    assert torch.equal(counted(sound()).features, features)
    assert counted.fingerprint == both.fingerprint


@pytest.mark.parametrize("kind", PRETRAINED)
def test_the_last_layer_is_what_the_network_returns(tmp_path: Path, kind: str) -> None:
    """Against the model called by hand, without our segments, trimming and folding."""
    import transformers

    config = made(kind, tmp_path)
    kinds = {"clap": transformers.ClapAudioModel}
    model = kinds.get(kind, transformers.AutoModel).from_pretrained(tmp_path).eval()
    model = model.get_encoder() if kind == "whisper" else model
    rate = 48000 if kind == "clap" else RATE
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path)
    waveform = 0.1 * torch.randn(round(1.6 * rate), generator=torch.Generator().manual_seed(0))
    padding = {"padding": "pad"} if kind == "clap" else {}
    inputs = extractor(waveform.numpy(), sampling_rate=rate, return_tensors="pt", **padding)
    with torch.no_grad():
        found = model(inputs.get("input_values", inputs.get("input_features")).float()).last_hidden_state[0]
    if kind == "ast":
        found = found[2:].reshape(3, -1, WIDTH).mean(0)
    if kind == "clap":
        found = found.mean(1).T
    features = PretrainedAudio(config, rate)(waveform).features
    torch.testing.assert_close(features, found[: len(features)], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", PRETRAINED)
def test_a_wrong_width_is_refused_before_weights_are_read(tmp_path: Path, kind: str) -> None:
    config = made(kind, tmp_path).model_copy(update={"hidden_size": 768})
    (tmp_path / "model.safetensors").unlink()
    for build in (lambda: PretrainedAudio(config, RATE), lambda: pretrained_grid(config)):
        with pytest.raises(ConfigError, match=f"width {WIDTH}, hidden_size=768"):
            build()


def test_a_layer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    config = made("ast", tmp_path / "ast").model_copy(update={"layers": (-1, 3)})
    with pytest.raises(ConfigError, match=r"no layers \[3\] to offer; choose from 0\.\.2, or from -3\.\.-1"):
        pretrained_grid(config)
    config = made("clap", tmp_path / "clap").model_copy(update={"layers": (0,)})
    with pytest.raises(ConfigError, match=r"no layers \[0\] to offer; choose from 1\.\.2, or from -2\.\.-1"):
        pretrained_grid(config)


def test_nothing_there_is_said_with_the_encoders_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    missing = TransformersAudioConfig(type="ast", pretrained=str(tmp_path / "none"), hidden_size=WIDTH)
    config = AudioConfig(encoders={"patches": missing})
    for build in (load_audio_encoders, feature_grids):
        with pytest.raises(ConfigError, match=rf"(?s)encoders\.patches: .*{re.escape(missing.pretrained)}.*save_pret"):
            build(config)


def test_weights_alone_are_not_enough(tmp_path: Path) -> None:
    config = made("whisper", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match=r"(?s)cannot be loaded: .*feature extractor included"):
        PretrainedAudio(config, RATE)


def test_broken_weights_are_refused(tmp_path: Path) -> None:
    config = made("hubert", tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="cannot be loaded"):
        PretrainedAudio(config, RATE)


def test_another_family_is_refused(tmp_path: Path) -> None:
    config = made("wav2vec2", tmp_path).model_copy(update={"type": "hubert"})
    with pytest.raises(ConfigError, match="of type 'wav2vec2', expected 'hubert'"):
        PretrainedAudio(config, RATE)


def test_an_extractor_of_another_network_is_refused(tmp_path: Path) -> None:
    import transformers

    config = made("whisper", tmp_path / "whisper")
    transformers.WhisperFeatureExtractor().save_pretrained(tmp_path / "whisper")
    with pytest.raises(ConfigError, match="gives 3000 mel frames, the network takes 200"):
        PretrainedAudio(config, RATE)
    config = made("ast", tmp_path / "ast")
    transformers.ASTFeatureExtractor(max_length=160, num_mel_bins=128).save_pretrained(tmp_path / "ast")
    with pytest.raises(ConfigError, match="gives 128 mel bands, the network takes 36"):
        PretrainedAudio(config, RATE)


def test_random_weights_are_refused(tmp_path: Path) -> None:
    """A checkpoint without some weights would load with random ones in their place."""
    from safetensors.torch import load_file, save_file

    config = made("ast", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["layernorm.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks 1 weights of ASTModel, e\.g\. layernorm\.weight"):
        PretrainedAudio(config, RATE)


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
def test_a_mask_that_only_training_needs_may_be_missing(tmp_path: Path, kind: str) -> None:
    from safetensors.torch import load_file, save_file

    config = made(kind, tmp_path)
    before = PretrainedAudio(config, RATE)(sound()).features
    weights = load_file(tmp_path / "model.safetensors")
    del weights["masked_spec_embed"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    one, two = PretrainedAudio(config, RATE), PretrainedAudio(config, RATE)
    assert one.fingerprint == two.fingerprint
    assert torch.equal(one(sound()).features, before)


@pytest.mark.parametrize("kind", ["ast", "wav2vec2"])
def test_checkpoints_with_a_head_are_taken_without_it(tmp_path: Path, kind: str) -> None:
    import transformers

    heads = {"ast": "ASTForAudioClassification", "wav2vec2": "Wav2Vec2ForCTC"}
    config = made(kind, tmp_path / "plain")
    model = getattr(transformers, heads[kind]).from_pretrained(tmp_path / "plain")
    model.save_pretrained(tmp_path / "headed")
    shutil.copy(tmp_path / "plain/preprocessor_config.json", tmp_path / "headed")
    headed = PretrainedAudio(config.model_copy(update={"pretrained": str(tmp_path / "headed")}), RATE)
    assert torch.equal(headed(sound()).features, PretrainedAudio(config, RATE)(sound()).features)


def test_half_precision_checkpoints_are_heard_in_single(tmp_path: Path) -> None:
    import transformers

    config = made("ast", tmp_path)
    transformers.ASTModel.from_pretrained(tmp_path).half().save_pretrained(tmp_path)
    assert PretrainedAudio(config, RATE)(sound()).features.dtype == torch.float32


def test_the_audio_half_of_a_whole_clap_is_found(tmp_path: Path) -> None:
    from transformers import ClapConfig, ClapModel, ClapTextConfig

    config = made("clap", tmp_path / "tower")
    tower = PretrainedAudio(config, RATE)
    text = ClapTextConfig(vocab_size=8, **SMALL, max_position_embeddings=8)
    whole = ClapModel(ClapConfig(text_config=text.to_dict(), audio_config=clap_audio().to_dict()))
    whole.audio_model.load_state_dict(tower._model.state_dict(), strict=False)
    whole.save_pretrained(tmp_path / "whole")
    clap_extractor().save_pretrained(tmp_path / "whole")
    found = PretrainedAudio(config.model_copy(update={"pretrained": str(tmp_path / "whole")}), RATE)
    assert found.grid == tower.grid
    assert torch.equal(found(sound()).features, tower(sound()).features)


def test_a_fused_clap_draws_nothing(tmp_path: Path) -> None:
    from transformers import ClapAudioModel

    ClapAudioModel(clap_audio(enable_fusion=True, fusion_type="aff_2d")).save_pretrained(tmp_path)
    clap_extractor(truncation="fusion").save_pretrained(tmp_path)
    encoder = PretrainedAudio(TransformersAudioConfig(type="clap", pretrained=str(tmp_path), hidden_size=WIDTH), RATE)
    batch = sound(5.0).expand(3, -1)
    state = np.random.get_state()[1].copy()
    features = encoder(batch).features
    assert (np.random.get_state()[1] == state).all()
    assert torch.equal(features[0], features[1])
    assert torch.equal(features[0], features[2])


@pytest.mark.parametrize("kind", PRETRAINED)
def test_too_short_a_sound_is_refused(tmp_path: Path, kind: str) -> None:
    encoder = PretrainedAudio(made(kind, tmp_path), RATE)
    rate = encoder._timing.sample_rate
    least = encoder._timing.least
    native = PretrainedAudio(encoder.config, rate)
    assert len(native(torch.zeros(least)).features) == 1
    with pytest.raises(DataError, match=f"needs at least {least}"):
        native(torch.zeros(least - 1))


def test_published_sizes_have_the_published_steps(tmp_path: Path) -> None:
    """Default configurations of the classes are those of the base checkpoints; only their timing is built here."""
    import transformers as t

    from soundstage.models.audio.families import FAMILIES

    found = {
        "ast": FAMILIES["ast"].timing(t.ASTConfig(), t.ASTFeatureExtractor()),
        "clap": FAMILIES["clap"].timing(t.ClapConfig(), t.ClapFeatureExtractor()),
        "wav2vec2": FAMILIES["wav2vec2"].timing(t.Wav2Vec2Config(), t.Wav2Vec2FeatureExtractor()),
        "whisper": FAMILIES["whisper"].timing(t.WhisperConfig(), t.WhisperFeatureExtractor()),
    }
    steps = {kind: timing.hop / timing.sample_rate for kind, timing in found.items()}
    # CLAP: 32 of 1024 columns a token, which span 1001 mel frames of 10 ms.
    assert steps == pytest.approx({"ast": 0.1, "clap": 0.32 * 1000 / 1023, "wav2vec2": 0.02, "whisper": 0.02})
    assert {kind: timing.step for kind, timing in found.items()} == {
        "ast": 101, "clap": 31, "wav2vec2": 0, "whisper": 1500
    }  # fmt: skip
    assert (found["wav2vec2"].hop, found["wav2vec2"].least) == (320, 400)
