"""Pretrained audio encoders through `transformers`: loading, segments, true times, choice of layers."""

from __future__ import annotations

import math
from typing import Any, cast

import torch

from ...config.audio import TransformersAudioConfig
from ...errors import ConfigError, DataError
from ..backbones.base import weights_fingerprint
from .base import AudioFeatures, FeatureGrid
from .families import FAMILIES, Timing
from .sounds import reach_sec, rows_at_rate, shaped_as

# Of a checkpoint's configuration: where it came from, not what it computes.
_PROVENANCE = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures")
# Used in training alone, and missing in some published checkpoints.
_TRAINING_ONLY = "masked_spec_embed"


class PretrainedAudio:
    """Hidden states of chosen layers, side by side along D.

    Sounds longer than the network takes are heard in segments one after another; a token hears its own segment alone,
    so latency and receptive field are a segment's length. Where the network takes any length both are infinite. Tokens
    are returned whose centre lies within the sound; those nearest its end hear the padding too.
    """

    def __init__(self, config: TransformersAudioConfig, sample_rate: int) -> None:
        """Load network and feature extractor.

        Raises:
            ConfigError: nothing usable at `config.pretrained`, or not what `config` says of it.
        """
        self.config = config
        self._sample_rate = sample_rate
        self._family = FAMILIES[config.type]
        network, self._extractor, self._timing = _described(config)
        self.grid = _grid(config, self._timing)
        self._layers = _chosen(config, self._family.layers(network))
        self._model = _loaded(config, self._family.models[network.model_type], self._family)
        self.licence = config.licence

        segment, rate = self._timing.segment, self._timing.sample_rate
        reach = reach_sec(sample_rate, rate)
        self.latency_sec = math.inf if segment is None else (segment - self._timing.first) / rate + reach
        self.receptive_field_sec = math.inf if segment is None else segment / rate + 2 * reach
        described = {name: value for name, value in self._model.config.to_dict().items() if name not in _PROVENANCE}
        settings = {
            "type": config.type,
            "layers": self._layers,
            "sample_rate": sample_rate,
            "network": repr(sorted(described.items())),
            "extractor": _settings(self._extractor),
        }
        self.fingerprint = f"{config.type}:{weights_fingerprint(self._model, settings)}"

    @torch.no_grad()
    def __call__(self, waveform: torch.Tensor, start_sec: float = 0.0) -> AudioFeatures:
        """Features of `waveform` (..., samples): see `AudioEncoder`.

        Raises:
            DataError: the sound is too short to hold one token.
        """
        sound = rows_at_rate(waveform, self._sample_rate, self._timing.sample_rate)
        if sound.shape[-1] < self._timing.least:
            raise DataError(
                f"sound of {sound.shape[-1]} samples at {self._timing.sample_rate} Hz is too short for encoder type "
                f"{self.config.type!r}; it needs at least {self._timing.least}"
            )
        features = shaped_as(waveform, self._segmented(sound))
        return AudioFeatures(features, self.grid.times_sec(features.shape[-2], start_sec))

    def _segmented(self, sound: torch.Tensor) -> torch.Tensor:
        """(N, samples) at the network's rate to (N, T, D)."""
        timing, samples = self._timing, sound.shape[-1]
        count = math.ceil((samples - timing.first) / timing.hop)
        if timing.segment is None or samples <= timing.segment:
            return self._states(sound)[:, :count]
        starts = [round(first * timing.hop) for first in range(0, count, timing.step)]
        parts = [self._states(sound[:, start : start + timing.segment])[:, : timing.step] for start in starts]
        return torch.cat(parts, dim=1)[:, :count]

    def _states(self, sound: torch.Tensor) -> torch.Tensor:
        states = self._family.hidden_states(self._model, self._extractor, list(sound.numpy()))
        return torch.cat([states[layer] for layer in self._layers], dim=-1).float()


def pretrained_grid(config: TransformersAudioConfig) -> FeatureGrid:
    """The grid by the configuration files beside the weights; weights are not read.

    Raises:
        ConfigError: as `PretrainedAudio`.
    """
    return _grid(config, _described(config)[2])


def _grid(config: TransformersAudioConfig, timing: Timing) -> FeatureGrid:
    rate = timing.sample_rate
    return FeatureGrid(config.hidden_size * len(config.layers), timing.hop / rate, timing.first / rate)


def _described(config: TransformersAudioConfig) -> tuple[Any, Any, Timing]:
    """Configuration of the network, its feature extractor, and what follows for times; all checked."""
    import transformers

    family = FAMILIES[config.type]
    try:
        network = transformers.AutoConfig.from_pretrained(config.pretrained, revision=config.revision)
        extractor = getattr(transformers, family.extractor).from_pretrained(config.pretrained, revision=config.revision)
    except (OSError, ValueError) as error:
        raise ConfigError(_unusable(config, error)) from error
    if network.model_type not in family.models:
        raise ConfigError(
            f"{config.pretrained} is of type {network.model_type!r}, expected {' or '.join(map(repr, family.models))}; "
            f"set `type` of this audio encoder, now {config.type!r}, to what it is"
        )
    if (width := family.width(network)) != config.hidden_size:
        raise ConfigError(f"{config.pretrained} has hidden states of width {width}, hidden_size={config.hidden_size}")
    _chosen(config, family.layers(network))
    try:
        return network, extractor, family.timing(network, extractor)
    except ValueError as error:
        raise ConfigError(f"{config.pretrained} cannot be used as audio encoder: {error}") from error


def _chosen(config: TransformersAudioConfig, offered: range) -> list[int]:
    """Layers as indices from 0 on."""
    chosen = [layer if layer >= 0 else layer + offered.stop for layer in config.layers]
    if wrong := [given for given, layer in zip(config.layers, chosen, strict=True) if layer not in offered]:
        raise ConfigError(
            f"{config.pretrained} has no layers {wrong} to offer; choose from {offered.start}..{offered.stop - 1}, or "
            f"from {offered.start - offered.stop}..-1 counted from the last"
        )
    return chosen


def _loaded(config: TransformersAudioConfig, name: str, family: Any) -> Any:
    import transformers
    from safetensors import SafetensorError

    kind = getattr(transformers, name)
    try:
        model, report = kind.from_pretrained(
            config.pretrained, revision=config.revision, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigError(_unusable(config, error)) from error
    missing = set(report["missing_keys"])
    if _TRAINING_ONLY in missing:
        # Left random it would give one checkpoint many fingerprints.
        torch.nn.init.zeros_(getattr(model, _TRAINING_ONLY))
    if missing := missing - {_TRAINING_ONLY}:
        raise ConfigError(
            f"{config.pretrained} lacks {len(missing)} weights of {name}, e.g. {min(missing)}; they would be random. "
            "Take a checkpoint of the whole network"
        )
    return cast(Any, family.encoder(model.eval().requires_grad_(False)))


def _settings(extractor: Any) -> str:
    described = {name: value for name, value in extractor.to_dict().items() if not hasattr(value, "shape")}
    return repr(sorted((name, value) for name, value in described.items() if name not in _PROVENANCE))


def _unusable(config: TransformersAudioConfig, error: Exception) -> str:
    return (
        f"audio encoder {config.pretrained!r} (revision {config.revision or 'newest'}) cannot be loaded: {error}\n"
        "Give a folder as save_pretrained writes it, feature extractor included, or the id of a model on the hub that "
        "this machine can reach or has in its cache"
    )
