"""From configuration to encoders: by name, in the configured order."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ...config.audio import AudioConfig, AudioEncoderConfig, SyncTowerConfig
from ...errors import ConfigError
from ...stages.files import replace_directory
from .base import AudioEncoder, AudioFeatures, FeatureGrid


def load_audio_encoders(config: AudioConfig, bundled: Path | None = None) -> dict[str, AudioEncoder]:
    """The configured encoders; `bundled` holds, by encoder name, the weights that have no public name.

    Raises:
        ConfigError: an encoder cannot be loaded; the message names it.
    """
    encoders = {}
    for name, each in config.encoders.items():
        with _naming(name):
            encoders[name] = _ENCODERS[each.type](_placed(name, each, bundled), config.sample_rate)
    return encoders


def feature_grids(config: AudioConfig, bundled: Path | None = None) -> dict[str, FeatureGrid]:
    """The grids of the same encoders, from their descriptions alone: no weights are read.

    Raises:
        ConfigError: as `load_audio_encoders`, where the description already shows it.
    """
    grids = {}
    for name, each in config.encoders.items():
        with _naming(name):
            grids[name] = _GRIDS[each.type](_placed(name, each, bundled), config.sample_rate)
    return grids


def encode_sound(
    encoders: Mapping[str, AudioEncoder], waveform: torch.Tensor, start_sec: float
) -> dict[str, AudioFeatures]:
    """What each encoder hears in `waveform` (..., samples), whose first sample is at `start_sec`."""
    return {name: encoder(waveform, start_sec) for name, encoder in encoders.items()}


def encoder_fingerprints(encoders: Mapping[str, AudioEncoder]) -> dict[str, str]:
    """Fingerprints under the keys that shards and adapters carry: `audio.<name>`."""
    return {f"audio.{name}": encoder.fingerprint for name, encoder in encoders.items()}


def bundle_encoders(config: AudioConfig, source: Path | None, target: Path) -> None:
    """Copy the weights that have no public name, the sync scorers, to `target / NAME`: all of them or none.

    They are taken from the folder that the configuration gives, else from `source / NAME`.

    Raises:
        ConfigError: one of them is not there, or is not usable.
    """
    from ..sync.scorer import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
    from .sync_tower import SyncTowerAudio

    towers = {name: each for name, each in config.encoders.items() if isinstance(each, SyncTowerConfig)}
    staging = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        for name, each in towers.items():
            with _naming(name):
                folder, copy = _scorer_folder(name, each, source), staging / name
                copy.mkdir(parents=True)
                for file in (WEIGHTS_FILE, CONFIG_FILE, CARD_FILE):
                    if (folder / file).exists():
                        shutil.copyfile(folder / file, copy / file)
                # Loading compares weights with their description: of the copy.
                SyncTowerAudio(copy, config.sample_rate)
        for name in towers:
            replace_directory(staging / name, target / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _placed(name: str, config: AudioEncoderConfig, bundled: Path | None) -> AudioEncoderConfig:
    """The same with the scorer's folder filled in."""
    if not isinstance(config, SyncTowerConfig):
        return config
    return config.model_copy(update={"scorer": str(_scorer_folder(name, config, bundled))})


def _scorer_folder(name: str, config: SyncTowerConfig, bundled: Path | None) -> Path:
    if config.scorer is not None:
        return Path(config.scorer)
    if bundled is None:
        raise ConfigError(
            "type sync_tower names no scorer and none is bundled here; set `scorer` to a folder as `soundstage train "
            "scorer` writes it, or run in a pipeline whose curator was trained"
        )
    return bundled / name


@contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"model.audio.encoders.{name}: {error}") from error


# Imports stand inside: a configuration pays for the libraries of its own encoders.


def _log_mel(config: Any, sample_rate: int) -> AudioEncoder:
    from .mel import LogMelOnset

    return LogMelOnset(config, sample_rate)


def _sync_tower(config: Any, sample_rate: int) -> AudioEncoder:
    from .sync_tower import SyncTowerAudio

    return SyncTowerAudio(Path(config.scorer), sample_rate)


def _pretrained(config: Any, sample_rate: int) -> AudioEncoder:
    from .pretrained import PretrainedAudio

    return PretrainedAudio(config, sample_rate)


def _onnx(config: Any, sample_rate: int) -> AudioEncoder:
    from .onnx import OnnxAudio

    return OnnxAudio(config, sample_rate)


def _log_mel_grid(config: Any, sample_rate: int) -> FeatureGrid:
    from .mel import mel_grid

    return mel_grid(config, sample_rate)


def _sync_tower_grid(config: Any, sample_rate: int) -> FeatureGrid:  # noqa: ARG001 - the scorer has its own rate
    from .sync_tower import sync_tower_grid

    return sync_tower_grid(Path(config.scorer))


def _pretrained_grid(config: Any, sample_rate: int) -> FeatureGrid:  # noqa: ARG001 - the network has its own rate
    from .pretrained import pretrained_grid

    return pretrained_grid(config)


def _onnx_grid(config: Any, sample_rate: int) -> FeatureGrid:  # noqa: ARG001 - the configuration states it
    from .onnx import onnx_grid

    return onnx_grid(config)


_PRETRAINED = ("ast", "clap", "wav2vec2", "hubert", "whisper")
_ENCODERS: dict[str, Callable[[Any, int], AudioEncoder]] = {
    "log_mel_onset": _log_mel,
    "sync_tower": _sync_tower,
    "onnx": _onnx,
    **dict.fromkeys(_PRETRAINED, _pretrained),
}
_GRIDS: dict[str, Callable[[Any, int], FeatureGrid]] = {
    "log_mel_onset": _log_mel_grid,
    "sync_tower": _sync_tower_grid,
    "onnx": _onnx_grid,
    **dict.fromkeys(_PRETRAINED, _pretrained_grid),
}
