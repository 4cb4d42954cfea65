"""The scorer's audio tower as an encoder hears exactly what the scorer hears."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from soundstage.errors import ConfigError
from soundstage.models.audio.sync_tower import SyncTowerAudio, sync_tower_grid
from soundstage.models.sync import lag_correlation, load_scorer
from soundstage.models.sync.offsets import at_steps

from .makers import make_encoder


@pytest.mark.parametrize("tower", ["convolutional", "transformer", "ast"])
def test_its_vectors_are_those_that_the_scorer_compares(tmp_path: Path, tower: str) -> None:
    make_encoder(f"sync_tower_{tower}", tmp_path)
    scorer, _ = load_scorer(tmp_path)
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (2, 72, 32, 32), generator=generator).float()
    sound = 0.1 * torch.randn(2, 3 * 16000, generator=generator)
    encoder = SyncTowerAudio(tmp_path, 16000)
    with torch.no_grad():
        expected = scorer.correlations(frames, scorer.mel(sound))
        pixels = frames / 255
        spread = pixels.std((1, 2, 3), keepdim=True) + 0.05
        video = scorer.video((pixels - pixels.mean((1, 2, 3), keepdim=True)) / spread)
        times = (torch.arange(video.shape[-1]) + 0.5) / scorer.config.fps
        heard = at_steps(encoder(sound).features.transpose(1, 2), encoder.grid.hop_sec, times)
        found = lag_correlation(video, heard, scorer.reach, scorer.min_overlap)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_no_scorer_is_refused(tmp_path: Path) -> None:
    for build in (lambda: SyncTowerAudio(tmp_path / "none", 16000), lambda: sync_tower_grid(tmp_path / "none")):
        with pytest.raises(ConfigError, match=r"none holds no .*sync scorer"):
            build()


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    make_encoder("sync_tower_convolutional", tmp_path / "one")
    make_encoder("sync_tower_convolutional", tmp_path / "two", seed=1)
    (tmp_path / "two/scorer.safetensors").replace(tmp_path / "one/scorer.safetensors")
    with pytest.raises(ConfigError, match="weights and configuration have fingerprint"):
        SyncTowerAudio(tmp_path / "one", 16000)
