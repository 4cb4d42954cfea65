"""The adapter on disk: weights, what they were made for, and a card; loads onto its own backbone only.

adapter.safetensors     every new parameter
adapter.json            backbone, budget, encoders and where their features lie, window, model configuration
encoders/NAME/          audio encoders that have no public name: the curator's tower
README.md               the card
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from ..config import parse
from ..config.tree import ModelConfig, WindowConfig
from ..errors import ConfigError
from ..stages.files import atomic_path, write_json, write_text
from .audio.base import FeatureGrid
from .audio.load import bundle_encoders
from .backbones.base import Backbone
from .conditioned import AudioAdapters, check_budget, parameter_count

WEIGHTS_FILE, CONFIG_FILE, CARD_FILE, ENCODERS_FOLDER = "adapter.safetensors", "adapter.json", "README.md", "encoders"


def new_adapters(backbone: Backbone, grids: Mapping[str, FeatureGrid], model: ModelConfig) -> AudioAdapters:
    """Untrained adapters for `backbone` and the features that lie on `grids`.

    Raises:
        ConfigError: they exceed the budget of trainable parameters.
    """
    adapters = AudioAdapters(backbone, grids, model.adapter)
    check_budget(adapters, backbone.transformer, model.adapter.max_share)
    return adapters


def breakdown(adapters: AudioAdapters) -> dict[str, int]:
    """Trainable parameters by what they are for."""
    parts = {"projector": adapters.projector, "attentions": adapters.attentions, "low_rank": adapters.updates}
    return {name: parameter_count(module) for name, module in parts.items()}


def save_adapter(
    folder: Path,
    adapters: AudioAdapters,
    backbone: Backbone,
    model: ModelConfig,
    window: WindowConfig,
    stage: str,
    encoders: Path | None = None,
) -> None:
    """Write weights, configuration, card, and the encoders without a public name, which lie in `encoders`."""
    folder.mkdir(parents=True, exist_ok=True)
    share = check_budget(adapters, backbone.transformer, model.adapter.max_share)
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in adapters.state_dict().items()}, temporary)
    bundle_encoders(model.audio, encoders, folder / ENCODERS_FOLDER)
    about: dict[str, Any] = {
        "stage": stage,
        "family": backbone.family,
        "backbone_fingerprint": backbone.fingerprint,
        "backbone": backbone.describe(),
        "stand_in": backbone.stand_in,
        "prediction": backbone.prediction,
        "trainable_parameters": parameter_count(adapters),
        "breakdown": breakdown(adapters),
        "backbone_parameters": parameter_count(backbone.transformer),
        "trainable_share": share,
        "grids": {name: asdict(grid) for name, grid in adapters.grids.items()},
        "licences": licences(backbone, model),
        "model": model.model_dump(mode="json"),
        "window": window.model_dump(mode="json"),
    }
    write_json(folder / CONFIG_FILE, about)
    write_text(folder / CARD_FILE, _card(about))


def licences(backbone: Backbone, model: ModelConfig) -> dict[str, str]:
    """Licence of every set of weights that the model needs beside the adapter's own."""
    stated = {f"audio.{name}": getattr(encoder, "licence", None) for name, encoder in model.audio.encoders.items()}
    return {"backbone": backbone.licence} | {name: licence for name, licence in stated.items() if licence is not None}


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
    grids = {name: FeatureGrid(**grid) for name, grid in about["grids"].items()}
    adapters = new_adapters(backbone, grids, model)
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
    stated = about["backbone"]
    name = f"`{stated['origin']}`"
    if about["stand_in"]:
        name = "a small stand-in backbone, itself trained on the pipeline's own video"
    window = about["window"]
    parts = ", ".join(f"{part} {count}" for part, count in about["breakdown"].items() if count)
    terms = "; ".join(f"{what}: {licence}" for what, licence in about["licences"].items())
    text = (
        "# Audio adapter\n\n"
        f"Windowed audio cross-attention for {name} ({about['family']} family, fingerprint "
        f"`{about['backbone_fingerprint'][:16]}`). {about['trainable_parameters']} trainable parameters ({parts}), "
        f"{about['trainable_share']:.2%} of the backbone's {about['backbone_parameters']}.\n\n"
        f"Hears: {', '.join(about['grids'])}. Licences of the weights it needs: {terms}.\n\n"
        f"Input: a first frame, a caption, a sound. Output: {window['num_frames']} frames of "
        f"{window['size']}x{window['width'] or window['size']} (height x width) at {window['fps']} a second. Last "
        f"trained by stage `{about['stage']}`.\n"
    )
    if about["prediction"] == "clean_residual":
        text += (
            "\nThe stand-in is preconditioned: it predicts the clean clip as a residual on the first frame, not a "
            "velocity as the pretrained video generators do.\n"
        )
    if not stated["first_frame_native"]:
        text += (
            "\n**Experimental:** this backbone was not trained to be given its first frame; it is given as a clean "
            "first latent, and whether that is learned must be measured.\n"
        )
    return text + "\nLimits: it was trained on what its lineage names and promises nothing elsewhere.\n"
