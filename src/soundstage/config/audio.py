"""Audio encoders by configuration: which features the adapters hear, under names that shards and adapters carry."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from .base import Config

_NAME_PATTERN = r"^[a-z][a-z0-9_]*$"


class LogMelConfig(Config):
    """Log-mel spectrogram and onset strength: the features that need no weights."""

    type: Literal["log_mel_onset"] = "log_mel_onset"
    hop_length: int = Field(160, ge=16, description="audio samples between two feature frames")
    n_fft: int = Field(512, ge=64, description="audio samples of an analysis window")
    num_mel_bins: int = Field(32, ge=8, description="mel bands")


class SyncTowerConfig(Config):
    """The audio tower of a saved sync scorer."""

    type: Literal["sync_tower"] = "sync_tower"
    scorer: str | None = Field(None, description="folder of a saved scorer; None: the pipeline's own curator")


class TransformersAudioConfig(Config):
    """A pretrained encoder through `transformers`: hidden states of chosen layers, side by side."""

    type: Literal["ast", "clap", "wav2vec2", "hubert", "whisper"]
    pretrained: str = Field(description="path or hub id")
    revision: str | None = Field(None, description="commit or tag on the hub; None takes the newest")
    layers: tuple[int, ...] = Field((-1,), min_length=1, description="hidden states taken; 0 is the embedding's output")
    hidden_size: int = Field(ge=1, description="width of a hidden state; stated so that budgets need no weights")
    licence: str = Field("unknown", description="licence of the weights")


class OnnxAudioConfig(Config):
    """A YAMNet-class network as an ONNX file: waveform in, one embedding a patch out."""

    type: Literal["onnx"] = "onnx"
    path: str = Field(description="ONNX file")
    input_name: str | None = Field(None, description="waveform input; None takes the only one")
    output_name: str | None = Field(None, description="embedding output; None takes the one of width `dim`")
    dim: int = Field(1024, ge=1, description="width of an embedding")
    sample_rate: int = Field(16000, ge=4000, description="Hz that the network expects")
    hop_sec: float = Field(0.48, gt=0, description="seconds between two embeddings")
    window_sec: float = Field(0.96, gt=0, description="seconds that an embedding sees, from its start on")
    licence: str = Field("unknown", description="licence of the weights")


AudioEncoderConfig = Annotated[
    LogMelConfig | SyncTowerConfig | TransformersAudioConfig | OnnxAudioConfig, Field(discriminator="type")
]


class AudioConfig(Config):
    """What is heard: waveform rate, and encoders by name; several together are multi-feature conditioning."""

    sample_rate: int = Field(16000, ge=4000, description="Hz of the waveforms that encoders are given")
    encoders: dict[str, AudioEncoderConfig] = Field(
        {"mel": LogMelConfig()}, description="encoders by name; null takes one that a preset names away"
    )

    @field_validator("encoders", mode="before")
    @classmethod
    def _null_takes_away(cls, value: object) -> object:
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _named_well(self) -> AudioConfig:
        import re

        if not self.encoders:
            raise ValueError(
                "model.audio.encoders names no encoder; name at least one, e.g. mel: {type: log_mel_onset}"
            )
        for name in self.encoders:
            if not re.match(_NAME_PATTERN, name):
                raise ValueError(f"encoder name {name!r} must be lower-case letters, digits and underscores")
        return self
