"""Small real models on disk, as training leaves them: a backbone's folder and adapters that add something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soundstage.config.audio import AudioConfig, LogMelConfig
from soundstage.config.tree import AdapterConfig, BackboneConfig, ModelConfig, WindowConfig
from soundstage.models.audio.load import feature_grids
from soundstage.models.backbones.base import Backbone
from soundstage.models.backbones.load import reference_pretrained
from soundstage.models.backbones.stand_in import save_stand_in
from soundstage.models.bundle import new_adapters, save_adapter

from .backbones.tiny import MEMBERS
from .makers import WINDOW, backbone, make_heard, model_config

__all__ = ["WINDOW", "image", "tiny_model", "tiny_pretrained"]


def tiny_model(root: Path, seed: int = 0) -> tuple[Path, Path]:
    """Folders of a random stand-in and of adapters."""
    config = model_config()
    made = backbone(config, seed)
    save_stand_in(made, root / "backbone")
    return root / "backbone", _adapter(root / "adapter", made, config, WINDOW)


def tiny_pretrained(root: Path, name: str) -> tuple[Path, Path]:
    """Folders of a reference to a tiny checkpoint, which lies in `root / checkpoint`, and of adapters."""
    member = MEMBERS[name]
    member.build().save_pretrained(root / "checkpoint")
    config = ModelConfig(
        backbone=BackboneConfig(family=member.family, pretrained=str(root / "checkpoint")),
        audio=AudioConfig(encoders={"mel": LogMelConfig(num_mel_bins=16)}),
        adapter=AdapterConfig(inner_dim=4, heads=2, audio_dim=8, max_share=1.0),
    )
    made = reference_pretrained(config.backbone, root / "backbone")
    window = WindowConfig(
        num_frames=member.num_frames, fps=member.fps, size=member.height, width=member.width, audio_margin_sec=0.3
    )
    return root / "backbone", _adapter(root / "adapter", made, config, window)


def _adapter(folder: Path, made: Backbone, config: ModelConfig, window: WindowConfig) -> Path:
    adapters = new_adapters(made, feature_grids(config.audio), config)
    make_heard(adapters)
    save_adapter(folder, adapters, made, config, window, "finetune")
    return folder


def image(seed: int = 0) -> NDArray[np.uint8]:
    """Noise, (40, 24, 3)."""
    return np.random.default_rng(seed).integers(0, 255, (40, 24, 3), dtype=np.uint8)
