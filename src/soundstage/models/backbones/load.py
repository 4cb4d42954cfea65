"""Backbones and their encoders from configuration: the one place that knows the families by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ...config import parse
from ...config.audio import AudioConfig
from ...config.tree import BackboneConfig
from ...errors import ConfigError
from ...stages.files import sha256_text, write_json
from .base import (
    DESCRIPTION_FILE,
    Backbone,
    Codec,
    CodecShape,
    TextEmbedding,
    TextEncoder,
    read_description,
    weights_fingerprint,
)
from .codecs import PixelCodec
from .cogvideox import CogVideoXBackbone
from .ltx import LtxBackbone
from .pretrained import codec_shape, known_release, load_codec, load_pretrained, load_text, locate, part_hash
from .stand_in import StandIn, create_stand_in, load_stand_in, stand_in_text
from .wan import WanBackbone

FAMILIES: dict[str, type[Backbone]] = {kind.family: kind for kind in (WanBackbone, LtxBackbone, CogVideoXBackbone)}


def pretrained_backbone(config: BackboneConfig) -> Backbone:
    """The configured checkpoint, frozen and in evaluation mode."""
    assert config.pretrained is not None
    release = known_release(FAMILIES, config.pretrained)
    backbone = load_pretrained(FAMILIES[config.family], config, release.licence if release else "unknown")
    backbone.transformer.requires_grad_(False).eval()
    return backbone


def release_on_meta(name: str) -> Backbone:
    """A known release at full size on torch's `meta` device: its shapes and counts, without a weight in memory.

    Raises:
        ConfigError: no release of this name.
    """
    import diffusers

    kind = next((family for family in FAMILIES.values() if name in family.releases), None)
    if kind is None:
        known = sorted(release for family in FAMILIES.values() for release in family.releases)
        raise ConfigError(f"no release {name!r} is known; known are {', '.join(known)}")
    release = kind.releases[name]
    scheduler = dict(release.scheduler)
    with torch.device("meta"):
        transformer = getattr(diffusers, kind.transformer_class)(**release.transformer)

    def refuse() -> Any:
        raise ConfigError(
            f"{name} was opened for its shapes alone, nothing of it is loaded; to encode or decode, set "
            f"model.backbone.pretrained={release.hub_id} or a folder that holds it"
        )

    backbone = kind(
        transformer=transformer.requires_grad_(False).eval(),
        codec_shape=release.codec,
        scheduler_class=str(scheduler.pop("_class_name")),
        scheduler_config=scheduler,
        fingerprint="",
        licence=release.licence,
        origin=release.hub_id,
        load_codec=refuse,
        load_text=refuse,
    )
    backbone.check()
    return backbone


def load_backbone(folder: Path) -> Backbone:
    """The backbone that the stage `backbone` or a saved pipeline left in `folder`, frozen and in evaluation mode.

    Where `backbone.json` names a checkpoint and the folder holds that checkpoint's parts too, they are what is loaded.

    Raises:
        ConfigError: it is not there, or not the one that was described.
    """
    description = read_description(folder)
    if "config" not in description:
        stand_in = load_stand_in(folder)
        stand_in.folder = folder
        stand_in.transformer.requires_grad_(False).eval()
        return stand_in
    config = parse(BackboneConfig, description["config"], origin=str(folder / DESCRIPTION_FILE))
    if (folder / "transformer").is_dir():
        config = config.model_copy(update={"pretrained": str(folder), "revision": None})
    backbone = pretrained_backbone(config)
    backbone.origin, backbone.licence = description["origin"], description["licence"]
    if backbone.fingerprint != description["fingerprint"]:
        raise ConfigError(
            f"{config.pretrained} has fingerprint {backbone.fingerprint[:16]}, {folder / DESCRIPTION_FILE} was written "
            f"for {description['fingerprint'][:16]}; restore that checkpoint, or rerun `soundstage train backbone`"
        )
    return backbone


def reference_pretrained(config: BackboneConfig, folder: Path) -> Backbone:
    """Write `backbone.json` that names the configured checkpoint instead of copying it; returns it loaded."""
    backbone = pretrained_backbone(config)
    write_json(folder / DESCRIPTION_FILE, backbone.describe() | {"config": config.model_dump(mode="json")})
    return backbone


def new_backbone(config: BackboneConfig, seed: int) -> StandIn:
    """An untrained stand-in.

    Raises:
        ConfigError: the configuration names a checkpoint, which would be trained over in silence.
    """
    if config.pretrained is not None:
        raise ConfigError(
            f"model.backbone.pretrained={config.pretrained!r} is a checkpoint to load; a stand-in is made only where "
            "none is named: set it to null"
        )
    return create_stand_in(config, seed)


def encoders(config: BackboneConfig) -> tuple[Codec, TextEncoder]:
    """What the encode stage needs of a backbone: its codec and its text encoder, without the transformer."""
    return encoder_codec(config), encoder_text(config)


def encoder_codec(config: BackboneConfig) -> Codec:
    """The codec of a backbone alone."""
    if config.pretrained is None:
        return PixelCodec(config.temporal_stride)
    return load_codec(FAMILIES[config.family], config)


def encoder_text(config: BackboneConfig) -> TextEncoder:
    """The text encoder of a backbone alone: of a checkpoint it is the largest part but one."""
    if config.pretrained is None:
        return stand_in_text(config.text_dim)
    return load_text(FAMILIES[config.family], config)


def encoder_fingerprints(config: BackboneConfig, audio: AudioConfig) -> dict[str, str]:
    """Identity of every encoder as declared: a shard index carries it, a reader compares it.

    Of pretrained ones that is name, revision and settings, so that a training process need not have them at hand; what
    their files hold stands beside it in the index, written by the encode stage.
    """
    return {**_backbone_fingerprints(config), "audio": audio.canonical_json()}


def _backbone_fingerprints(config: BackboneConfig) -> dict[str, str]:
    if config.pretrained is None:
        text = stand_in_text(config.text_dim).encoder_module
        settings = {"class": type(text).__name__, "text_dim": config.text_dim}
        return {"codec": PixelCodec(config.temporal_stride).name, "text": weights_fingerprint(text, settings)}
    name = f"{config.family}:{config.pretrained}@{config.revision or 'newest'}"
    return {"codec": f"{name}:vae", "text": f"{name}:text_encoder:{config.dtype}"}


def encoder_hashes(config: BackboneConfig) -> dict[str, str]:
    """SHA-256 of a checkpoint's encoders; empty for the stand-in, whose fingerprints say it all."""
    if config.pretrained is None:
        return {}
    folder = locate(config.pretrained, config.revision, ("vae", "text_encoder", "tokenizer"))
    return {part: part_hash(folder, part) for part in ("vae", "text_encoder", "tokenizer")}


def window_shape(config: BackboneConfig) -> CodecShape:
    """Shape of the configured codec, from its configuration alone."""
    if config.pretrained is None:
        codec = PixelCodec(config.temporal_stride)
        return CodecShape(codec.channels, codec.temporal_stride, codec.spatial_stride)
    return codec_shape(FAMILIES[config.family], config)


def pretrained_digest(config: Any, workspace: object) -> str:  # noqa: ARG001 -- the catalogue's signature
    """What lies at the configured checkpoint, for the cache key of stages that read it: empty for the stand-in.

    A folder is told by the size and time of its files: its content is hashed when it is used. A hub id is told by its
    name and revision, which the stage's configuration holds already.
    """
    backbone: BackboneConfig = config.model.backbone
    if backbone.pretrained is None or not (folder := Path(backbone.pretrained).expanduser()).is_dir():
        return ""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    told = [f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    return sha256_text("\n".join(told))


@torch.no_grad()
def encode_captions(text: TextEncoder, captions: list[str]) -> TextEmbedding:
    """Embeddings of captions, one at a time so that padding and batch cannot change a bit."""
    return TextEmbedding.cat([text.encode([caption]) for caption in captions])
