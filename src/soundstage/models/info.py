"""What a configured model is, told without its weights: shapes, times, budget.

Transformer and adapters are built on torch's `meta` device, so the sizes told are those of the very modules that train.
Nothing is downloaded: a checkpoint known by its hub id has the shapes of its release, a folder those of its
configuration files. Of audio encoders that are on the hub, widths are as configured and times as their type has them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..config import SoundstageConfig
from ..config.audio import AudioEncoderConfig, SyncTowerConfig, TransformersAudioConfig
from ..config.tree import BackboneConfig, ScorerConfig, WindowConfig
from ..errors import ConfigError
from .audio.base import FeatureGrid
from .audio.load import feature_grids
from .backbones.base import Backbone
from .backbones.load import FAMILIES, release_on_meta
from .backbones.pretrained import _check_class, _read, codec_shape, known_release
from .backbones.stand_in import stand_in_on_meta
from .bundle import breakdown
from .conditioned import AudioAdapters, parameter_count, trainable_share
from .windows import audio_windows, frame_spans


class MetaModel(NamedTuple):
    """A model without weights."""

    backbone: Backbone
    adapters: AudioAdapters


def on_meta(config: SoundstageConfig) -> MetaModel:
    """The configured model on the `meta` device; the budget is not checked.

    Raises:
        ConfigError: a checkpoint that is neither a folder nor a known release, or an encoder that is not what the
            configuration says.
    """
    backbone = backbone_on_meta(config.model.backbone)
    with torch.device("meta"):
        return MetaModel(backbone, AudioAdapters(backbone, declared_grids(config), config.model.adapter))


def model_info(config: SoundstageConfig, model: MetaModel) -> dict[str, Any]:
    """Backbone, window, audio and budget of `config` and its `model`, as JSON takes them.

    A breach of the budget is told as `within_budget: false`, not refused.

    Raises:
        ConfigError: a window that the backbone does not take, or in which an encoder is silent.
    """
    backbone, adapters = model
    budget = config.model.adapter.max_share
    share = trainable_share(adapters, backbone.transformer)
    return {
        "preset": config.preset,
        "backbone": _about_backbone(config.model.backbone, backbone),
        "window": _about_window(config.window, backbone),
        "audio": _about_audio(config, model),
        "adapter": config.model.adapter.model_dump(mode="json"),
        "trainable_parameters": parameter_count(adapters),
        "trainable_share": share,
        "max_share": budget,
        "within_budget": share <= budget,
        "breakdown": breakdown(adapters),
    }


def backbone_on_meta(config: BackboneConfig) -> Backbone:
    """The configured backbone on the `meta` device: a stand-in, a folder by its configuration files, or a release.

    Raises:
        ConfigError: neither a folder nor a known release; a folder of another family, or of a member that we cannot
            serve.
    """
    if config.pretrained is None:
        return stand_in_on_meta(config)
    folder = Path(config.pretrained).expanduser()
    if folder.is_dir():
        return _folder_on_meta(config, folder)
    releases = {r.hub_id: (name, kind) for kind in FAMILIES.values() for name, r in kind.releases.items()}
    if config.pretrained not in releases:
        raise ConfigError(
            f"model.backbone.pretrained={config.pretrained!r} is no folder here and no release whose shape is known "
            f"without asking the hub; give a folder, or one of {', '.join(sorted(releases))}"
        )
    name, kind = releases[config.pretrained]
    if kind.family != config.family:
        raise ConfigError(
            f"model.backbone.pretrained={config.pretrained} is of family {kind.family}, model.backbone.family says "
            f"{config.family}; set it to {kind.family}"
        )
    return release_on_meta(name)


def _folder_on_meta(config: BackboneConfig, folder: Path) -> Backbone:
    import diffusers

    kind = FAMILIES[config.family]
    _check_class(folder / "transformer" / "config.json", kind.transformer_class, config)
    described = _read(folder / "transformer" / "config.json")
    scheduler = _read(folder / "scheduler" / "scheduler_config.json")
    with torch.device("meta"):
        transformer = getattr(diffusers, kind.transformer_class).from_config(described)

    def refuse() -> Any:
        raise ConfigError(f"{folder} was opened for its shapes alone; load it to encode or decode")

    backbone = kind(
        transformer=transformer.requires_grad_(False).eval(),
        codec_shape=codec_shape(kind, config, folder),
        scheduler_class=str(scheduler.pop("_class_name")),
        scheduler_config=scheduler,
        fingerprint="",
        licence="unknown",
        origin=str(folder),
        load_codec=refuse,
        load_text=refuse,
    )
    backbone.check()
    return backbone


def declared_grids(config: SoundstageConfig) -> dict[str, FeatureGrid]:
    """Where the features of the configured encoders lie, as far as that is known without the hub or a trained scorer.

    Raises:
        ConfigError: a folder that holds no encoder of the configured type.
    """
    return {name: _declared(name, each, config) for name, each in config.model.audio.encoders.items()}


def _declared(name: str, encoder: AudioEncoderConfig, config: SoundstageConfig) -> FeatureGrid:
    if isinstance(encoder, TransformersAudioConfig) and not Path(encoder.pretrained).expanduser().is_dir():
        return _type_grid(encoder)
    if isinstance(encoder, SyncTowerConfig) and encoder.scorer is None:
        if config.curator.pretrained is None:
            return _curator_grid(config.curator, config.ingest.sample_rate)
        encoder = encoder.model_copy(update={"scorer": config.curator.pretrained})
    return feature_grids(config.model.audio.model_copy(update={"encoders": {name: encoder}}))[name]


def _type_grid(config: TransformersAudioConfig) -> FeatureGrid:
    """By the library's defaults of the type, which are the first published checkpoint's."""
    import transformers

    from .audio.families import FAMILIES as AUDIO_FAMILIES

    family = AUDIO_FAMILIES[config.type]
    network = transformers.CONFIG_MAPPING[next(iter(family.models))]()
    timing = family.timing(network, getattr(transformers, family.extractor)())
    width = config.hidden_size * len(config.layers)
    return FeatureGrid(width, timing.hop / timing.sample_rate, timing.first / timing.sample_rate)


def _curator_grid(curator: ScorerConfig, sample_rate: int) -> FeatureGrid:
    from .sync.scorer import hop_sec
    from .sync.towers import AUDIO_TOWERS

    stride = int(AUDIO_TOWERS[curator.audio_tower].stride)  # type: ignore[attr-defined]
    return FeatureGrid(dim=curator.embedding_dim, hop_sec=stride * hop_sec(sample_rate))


def _about_backbone(config: BackboneConfig, backbone: Backbone) -> dict[str, Any]:
    """`native_...` and `text` are what a release states; None where nobody does."""
    release = known_release(FAMILIES, config.pretrained) if config.pretrained else None
    return {
        "family": backbone.family,
        "origin": backbone.origin,
        "hub_id": release.hub_id if release else None,
        "revision": config.revision,
        "licence": backbone.licence,
        "stand_in": backbone.stand_in,
        "dtype": "fp32" if backbone.stand_in else config.dtype,
        "parameters": parameter_count(backbone.transformer),
        "blocks": len(backbone.blocks),
        "hidden_dim": backbone.hidden_dim,
        "prediction": backbone.prediction,
        "scheduler": backbone.scheduler_class,
        "first_frame": backbone.first_frame,
        "first_frame_native": backbone.first_frame_native,
        "experimental": not backbone.first_frame_native,
        "temporal_stride": backbone.codec_shape.temporal_stride,
        "spatial_stride": backbone.codec_shape.spatial_stride,
        "native_fps": release.native_fps if release else None,
        "native_frames": release.native_frames if release else None,
        "native_size": list(release.native_size) if release else None,
        "text": release.text if release else _stand_in_text(config) if backbone.stand_in else None,
    }


def _stand_in_text(config: BackboneConfig) -> str:
    return f"UMT5 over bytes with random weights, width {config.text_dim}"


def _about_window(window: WindowConfig, backbone: Backbone) -> dict[str, Any]:
    height, width = window.frame_size
    latent_frames = backbone.check_window(window.num_frames, height, width)
    side = backbone.codec_shape.spatial_stride * backbone.spatial_patch
    return {
        "num_frames": window.num_frames,
        "latent_frames": latent_frames,
        "height": height,
        "width": width,
        "tokens": latent_frames * (height // side) * (width // side),
        "fps": window.fps,
        "seconds": float(window.duration_sec),
    }


def _about_audio(config: SoundstageConfig, model: MetaModel) -> dict[str, Any]:
    """By encoder; `features_per_latent_frame` is how many its window holds, the least and the most over frames."""
    window, shape = config.window, model.backbone.codec_shape
    spans = frame_spans(shape.latent_frames(window.num_frames), window.fps, shape.temporal_stride)
    length = float(window.duration_sec) + 2 * window.audio_margin_sec
    about = {}
    for name, grid in model.adapters.grids.items():
        encoder = config.model.audio.encoders[name]
        # Features whose time stamp lies within the sound that a sample holds, as encoders put them out.
        count = max(1, int((length - grid.first_sec) / grid.hop_sec + 1e-6) + 1)
        times = grid.times_sec(count, -window.audio_margin_sec)
        try:
            seen = audio_windows(spans, times, config.model.adapter.window_sec, grid.hop_sec).visible.sum(dim=1)
        except ValueError as error:
            raise ConfigError(f"model.audio.encoders.{name}: {error}") from error
        about[name] = {
            "type": encoder.type,
            "dim": grid.dim,
            "hop_sec": grid.hop_sec,
            "features_per_latent_frame": [int(seen.min()), int(seen.max())],
            "licence": _licence(encoder),
        }
    return about


def _licence(encoder: AudioEncoderConfig) -> str:
    if encoder.type == "log_mel_onset":
        from .audio.mel import LogMelOnset

        return LogMelOnset.licence
    if encoder.type == "sync_tower":
        return "as the clips that the scorer was trained on"
    return encoder.licence
