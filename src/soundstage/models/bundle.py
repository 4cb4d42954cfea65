"""The adapter on disk: weights, what they were made for, and a card; loads onto its own backbone only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from ..config import parse
from ..config.tree import ModelConfig, WindowConfig
from ..errors import ConfigError
from ..stages.files import atomic_path, write_json, write_text
from .audio.mel import LogMelOnset
from .backbones.base import Backbone
from .conditioned import AudioAdapters, check_budget, parameter_count

WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "adapter.safetensors", "adapter.json", "README.md"


def new_adapters(backbone: Backbone, model: ModelConfig) -> AudioAdapters:
    """Untrained adapters for `backbone`.

    Raises:
        ConfigError: they exceed the budget of trainable parameters.
    """
    feature_dim = LogMelOnset(model.audio).dim
    adapters = AudioAdapters(backbone.hidden_dim, len(backbone.blocks), feature_dim, model.adapter)
    check_budget(adapters, backbone.transformer, model.adapter.max_share)
    return adapters


def save_adapter(
    folder: Path, adapters: AudioAdapters, backbone: Backbone, model: ModelConfig, window: WindowConfig, stage: str
) -> None:
    """Write `adapter.safetensors`, `adapter.json` and the card."""
    folder.mkdir(parents=True, exist_ok=True)
    share = check_budget(adapters, backbone.transformer, model.adapter.max_share)
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in adapters.state_dict().items()}, temporary)
    about: dict[str, Any] = {
        "stage": stage,
        "family": backbone.family,
        "backbone_fingerprint": backbone.fingerprint,
        "stand_in": backbone.stand_in,
        "prediction": backbone.prediction,
        "trainable_parameters": parameter_count(adapters),
        "backbone_parameters": parameter_count(backbone.transformer),
        "trainable_share": share,
        "model": model.model_dump(mode="json"),
        "window": window.model_dump(mode="json"),
    }
    write_json(folder / CONFIG_FILE, about)
    write_text(folder / CARD_FILE, _card(about))


def load_adapter(folder: Path, backbone: Backbone) -> tuple[AudioAdapters, ModelConfig, WindowConfig]:
    """Load an adapter onto `backbone`.

    Raises:
        ConfigError: the adapter was trained on another backbone.
    """
    about = describe_adapter(folder)
    if about["backbone_fingerprint"] != backbone.fingerprint:
        raise ConfigError(
            f"adapter {folder} was trained on the {about['family']} backbone {about['backbone_fingerprint'][:16]}, "
            f"this one is {backbone.fingerprint[:16]}; load it onto its own backbone or train a new adapter"
        )
    model = parse(ModelConfig, about["model"], origin=str(folder / CONFIG_FILE))
    window = parse(WindowConfig, about["window"], origin=str(folder / CONFIG_FILE))
    adapters = new_adapters(backbone, model)
    adapters.load_state_dict(load_file(folder / WEIGHTS_FILE))
    return adapters, model, window


def describe_adapter(folder: Path) -> dict[str, Any]:
    """The content of `adapter.json`.

    Raises:
        ConfigError: no adapter in this folder.
    """
    path = folder / CONFIG_FILE
    if not path.exists():
        raise ConfigError(f"{folder} holds no adapter (no {CONFIG_FILE}); give a folder that training wrote")
    return dict(json.loads(path.read_text()))


def _card(about: dict[str, Any]) -> str:
    backbone = "a small stand-in backbone, itself trained on the pipeline's own video" if about["stand_in"] else "a"
    preconditioned = (
        "\nThe stand-in is preconditioned: it predicts the clean clip as a residual on the first frame, "
        "not a velocity as the pretrained video generators do.\n"
        if about["prediction"] == "clean_residual"
        else ""
    )
    window = about["window"]
    return (
        "# Audio adapter\n\n"
        f"Windowed audio cross-attention for {backbone} ({about['family']} family, fingerprint "
        f"`{about['backbone_fingerprint'][:16]}`). {about['trainable_parameters']} trainable parameters, "
        f"{about['trainable_share']:.2%} of the backbone's {about['backbone_parameters']}.\n"
        f"{preconditioned}\n"
        f"Input: a first frame, a caption, a sound. Output: {window['num_frames']} frames of "
        f"{window['size']}x{window['size']} at {window['fps']} a second. Last trained by stage `{about['stage']}`.\n\n"
        "Limits: it was trained on what its lineage names and promises nothing elsewhere.\n"
    )
