"""Tiny audio networks of the real classes, saved as their libraries save them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from soundstage.config.audio import (
    AudioEncoderConfig,
    LogMelConfig,
    OnnxAudioConfig,
    SyncTowerConfig,
    TransformersAudioConfig,
)
from soundstage.config.tree import ScorerConfig

WIDTH = 16
SMALL: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def make_encoder(kind: str, folder: Path, seed: int = 0) -> AudioEncoderConfig:
    """An encoder of `kind`, its weights saved under `folder`."""
    if kind == "mel":
        return LogMelConfig()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind.startswith("sync_tower"):
            return _sync_tower(folder, kind.removeprefix("sync_tower_"))
        return MAKERS[kind](folder)


def _sync_tower(folder: Path, tower: str) -> SyncTowerConfig:
    from soundstage.models.sync import SyncScorer, save_scorer

    config = ScorerConfig(width=2, embedding_dim=8, audio_tower=tower)  # type: ignore[arg-type]
    save_scorer(folder, SyncScorer(config, 16000), {"role": "curator"})
    return SyncTowerConfig(scorer=str(folder))


def _ast(folder: Path) -> TransformersAudioConfig:
    """1.6 s a segment: 160 mel frames, a token every 10."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    ASTModel(ASTConfig(**SMALL, max_length=160, num_mel_bins=36)).save_pretrained(folder)
    ASTFeatureExtractor(max_length=160, num_mel_bins=36).save_pretrained(folder)
    return TransformersAudioConfig(type="ast", pretrained=str(folder), hidden_size=WIDTH)


def _clap(folder: Path) -> TransformersAudioConfig:
    """2 s a segment: 201 mel frames at 48 kHz over 256 columns, a token every 8."""
    from transformers import ClapAudioModel

    ClapAudioModel(clap_audio()).save_pretrained(folder)
    clap_extractor().save_pretrained(folder)
    return TransformersAudioConfig(type="clap", pretrained=str(folder), hidden_size=WIDTH)


def clap_audio(**changes: Any) -> Any:
    from transformers import ClapAudioConfig

    sizes = {"depths": [1, 1], "num_attention_heads": [1, 2], "patch_embeds_hidden_size": WIDTH // 2}
    return ClapAudioConfig(**sizes, hidden_size=WIDTH, spec_size=64, num_mel_bins=16, window_size=4, **changes)


def clap_extractor(**changes: Any) -> Any:
    from transformers import ClapFeatureExtractor

    return ClapFeatureExtractor(feature_size=16, max_length_s=2, **{"truncation": "rand_trunc", **changes})


def _waveform(kind: str, folder: Path) -> TransformersAudioConfig:
    import transformers

    config, model = {"wav2vec2": ("Wav2Vec2Config", "Wav2Vec2Model"), "hubert": ("HubertConfig", "HubertModel")}[kind]
    sizes = {"conv_dim": (WIDTH,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    network = getattr(transformers, model)(getattr(transformers, config)(**SMALL, **sizes))
    network.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return TransformersAudioConfig(type=kind, pretrained=str(folder), hidden_size=WIDTH)  # type: ignore[arg-type]


def _whisper(folder: Path) -> TransformersAudioConfig:
    """2 s a segment in place of 30."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    sizes = {"d_model": WIDTH, "encoder_layers": 2, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    words = {"vocab_size": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    network = WhisperModel(WhisperConfig(**sizes, **heads, **words, max_source_positions=100, max_target_positions=8))
    network.save_pretrained(folder)
    WhisperFeatureExtractor(chunk_length=2).save_pretrained(folder)
    return TransformersAudioConfig(type="whisper", pretrained=str(folder), hidden_size=WIDTH)


def _onnx(folder: Path) -> OnnxAudioConfig:
    folder.mkdir(parents=True, exist_ok=True)
    save_onnx(folder / "tiny.onnx")
    return OnnxAudioConfig(path=str(folder / "tiny.onnx"), dim=12)


def save_onnx(path: Path, rank: int = 1, seed: int = 0) -> None:
    """YAMNet's outline: 0.96 s windows every 0.48 s at 16 kHz; hears the middle of a window best."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    window, hop, dim = 15360, 7680, 12
    kernel = np.random.default_rng(seed).normal(size=(dim, 1, window)) * np.hanning(window)
    tensors = [numpy_helper.from_array(kernel.astype(np.float32), "kernel")]
    tensors += [numpy_helper.from_array(np.array([1, 1, -1]), "row"), numpy_helper.from_array(np.array([0]), "zero")]
    nodes = [
        helper.make_node("Reshape", ["waveform", "row"], ["sound"]),
        helper.make_node("Conv", ["sound", "kernel"], ["patches"], strides=[hop]),
        helper.make_node("Abs", ["patches"], ["loud"]),
        helper.make_node("Squeeze", ["loud", "zero"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["embeddings"], perm=[1, 0]),
        helper.make_node("ReduceMean", ["embeddings"], ["scores"], axes=[1], keepdims=1),
    ]
    shape = ["samples"] if rank == 1 else [1, "samples"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["patches", 1]),
            helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["patches", dim]),
        ],
        tensors,
    )
    # The oldest format that has all of this: any onnxruntime reads it.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


MAKERS: dict[str, Any] = {
    "ast": _ast,
    "clap": _clap,
    "wav2vec2": lambda folder: _waveform("wav2vec2", folder),
    "hubert": lambda folder: _waveform("hubert", folder),
    "whisper": _whisper,
    "onnx": _onnx,
}
KINDS = ["mel", "sync_tower_convolutional", "sync_tower_transformer", *MAKERS]
