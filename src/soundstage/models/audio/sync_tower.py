"""The audio tower of a sync scorer as an encoder: what hears when things happen, learned from the clips themselves."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch

from ...config.load import parse
from ...config.tree import ScorerConfig
from ...errors import ConfigError, DataError
from ..sync.scorer import _MEL_SPREAD_FLOOR, CONFIG_FILE, _normalised, hop_sec, load_scorer
from ..sync.towers import AUDIO_TOWERS
from .base import AudioFeatures, FeatureGrid
from .sounds import rows_at_rate, shaped_as


class SyncTowerAudio:
    """The scorer's audio vectors, every `stride` mel frames from the first sample on.

    The sound is heard exactly as the scorer hears it: log-mel normalised by mean and spread of all the sound that is
    given. That, and the group norms of the convolutional tower, span the whole sound, so latency and receptive field
    are infinite; what happens at t still shows at t. Give windows about as long as those the scorer was trained on
    (`ScorerConfig.crop_sec`), margins included, and the same in training and use.
    """

    latency_sec = math.inf
    receptive_field_sec = math.inf

    def __init__(self, folder: Path, sample_rate: int) -> None:
        """Load the scorer saved in `folder`.

        Raises:
            ConfigError: `folder` holds no usable scorer.
        """
        try:
            self._scorer, about = load_scorer(folder)
        except DataError as error:
            raise ConfigError(str(error)) from error
        self._sample_rate = sample_rate
        self.grid = sync_tower_grid(folder)
        self.fingerprint = f"sync-tower:{about['fingerprint']} from {sample_rate} Hz"
        self.licence = str(about.get("licence", "as the clips that the scorer was trained on"))

    @torch.no_grad()
    def __call__(self, waveform: torch.Tensor, start_sec: float = 0.0) -> AudioFeatures:
        """Features of `waveform` (..., samples): see `AudioEncoder`."""
        scorer = self._scorer
        sound = rows_at_rate(waveform, self._sample_rate, scorer.sample_rate)
        vectors = scorer.audio(_normalised(scorer.mel(sound), (1, 2), _MEL_SPREAD_FLOOR))
        features = shaped_as(waveform, vectors.transpose(1, 2).contiguous())
        return AudioFeatures(features, self.grid.times_sec(features.shape[-2], start_sec))


def sync_tower_grid(folder: Path) -> FeatureGrid:
    """The grid by `scorer.json` alone.

    Raises:
        ConfigError: the file is missing or is not one of ours.
    """
    path = folder / CONFIG_FILE
    try:
        about = json.loads(path.read_text())
        config, rate = parse(ScorerConfig, about["config"], str(path)), int(about["sample_rate"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder} holds no sync scorer ({error}); expected {CONFIG_FILE} as `soundstage train scorer` writes it"
        ) from error
    stride = int(AUDIO_TOWERS[config.audio_tower].stride)  # type: ignore[attr-defined]
    return FeatureGrid(dim=config.embedding_dim, hop_sec=stride * hop_sec(rate))
