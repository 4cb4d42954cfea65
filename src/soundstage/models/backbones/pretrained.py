"""Pretrained checkpoints in diffusers' layout, by path or hub id: found, identified, and loaded part by part.

A training process loads the transformer alone; codec and text encoder are loaded when something encodes or decodes.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import torch

from ...config.tree import BackboneConfig
from ...errors import ConfigError
from ...stages.files import sha256_file, sha256_text
from ..devices import compute_device
from .base import Backbone, Codec, CodecShape, Release, TextEncoder

Part = Literal["transformer", "vae", "text_encoder", "tokenizer", "scheduler"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
INDEX_FILE = "model_index.json"


def locate(pretrained: str, revision: str | None, parts: tuple[Part, ...]) -> Path:
    """The folder of a checkpoint: the given one, or the hub's, whose `parts` are fetched if they are not cached.

    Raises:
        ConfigError: no such folder or hub id, or the hub cannot be reached; a part that is not there.
    """
    folder = Path(pretrained).expanduser()
    if not folder.is_dir():
        folder = _from_hub(pretrained, revision, parts)
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"
        raise ConfigError(
            f"model.backbone.pretrained={pretrained}: {folder} has no {', '.join(missing)}; expected a model that "
            f"diffusers' save_pretrained wrote; found: {found}"
        )
    return folder


def _from_hub(hub_id: str, revision: str | None, parts: tuple[Part, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    patterns = [INDEX_FILE, *(f"{part}/*" for part in parts)]
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=patterns))
    except HFValidationError as error:
        raise ConfigError(
            f"model.backbone.pretrained={hub_id!r} is neither a folder here nor a hub id of the form owner/name"
        ) from error
    except Exception as error:  # of the hub, of its HTTP client, of the disk: they share no base class
        raise ConfigError(
            f"model.backbone.pretrained={hub_id!r} (revision {revision or 'newest'}) is no folder here and cannot be "
            f"fetched: {type(error).__name__}; check the name and the network, or give a folder"
        ) from error


def part_hash(folder: Path, part: Part) -> str:
    """SHA-256 over every file of a part, by name and content; symbolic links of the hub's cache are followed."""
    files = sorted(path for path in (folder / part).rglob("*") if path.is_file() and path.name != "README.md")
    with ThreadPoolExecutor() as pool:  # hashing leaves the interpreter's lock alone
        hashes = list(pool.map(sha256_file, files))
    named = [f"{path.relative_to(folder / part)} {digest}" for path, digest in zip(files, hashes, strict=True)]
    return sha256_text("\n".join(named))


def known_release(families: dict[str, type[Backbone]], pretrained: str) -> Release | None:
    """The release with this hub id, if it is one of ours."""
    releases = [release for family in families.values() for release in family.releases.values()]
    return next((release for release in releases if release.hub_id == pretrained), None)


def load_pretrained(kind: type[Backbone], config: BackboneConfig, licence: str) -> Backbone:
    """A pretrained backbone; its codec and text encoder follow when they are used.

    Raises:
        ConfigError: not there, of another class than the family's, or a member of it that we cannot serve.
    """
    import diffusers

    assert config.pretrained is not None
    folder = locate(config.pretrained, config.revision, ("transformer", "scheduler", "vae"))
    _refuse_second_transformer(folder, config)
    _check_class(folder / "transformer" / "config.json", kind.transformer_class, config)
    scheduler = _read(folder / "scheduler" / "scheduler_config.json")
    transformer_class: Any = getattr(diffusers, kind.transformer_class)
    transformer = transformer_class.from_pretrained(
        folder / "transformer", torch_dtype=DTYPES[config.dtype], local_files_only=True
    )
    backbone = kind(
        transformer=transformer,
        codec_shape=codec_shape(kind, config, folder),
        scheduler_class=str(scheduler.pop("_class_name")),
        scheduler_config=scheduler,
        fingerprint=part_hash(folder, "transformer"),
        licence=licence,
        origin=config.pretrained,
        folder=folder,
        load_codec=lambda: load_codec(kind, config),
        load_text=lambda: load_text(kind, config),
    )
    backbone.check()
    return backbone


def codec_shape(kind: type[Backbone], config: BackboneConfig, folder: Path | None = None) -> CodecShape:
    """Shape of a checkpoint's codec, from its configuration file."""
    assert config.pretrained is not None
    folder = folder or locate(config.pretrained, config.revision, ("vae",))
    _check_class(folder / "vae" / "config.json", kind.codec_class, config)
    return kind.read_codec_shape(_read(folder / "vae" / "config.json"))


def load_codec(kind: type[Backbone], config: BackboneConfig) -> Codec:
    """A checkpoint's autoencoder, in float32: it is small, and pictures show the roundings of half precision."""
    import diffusers

    assert config.pretrained is not None
    folder = locate(config.pretrained, config.revision, ("vae",))
    shape = codec_shape(kind, config, folder)
    vae_class: Any = getattr(diffusers, kind.codec_class)
    vae = vae_class.from_pretrained(folder / "vae", torch_dtype=torch.float32, local_files_only=True)
    return kind.make_codec(vae.eval().requires_grad_(False).to(compute_device()), shape)


def load_text(kind: type[Backbone], config: BackboneConfig) -> TextEncoder:
    """A checkpoint's text encoder and tokenizer, of the classes that its files name."""
    import transformers

    assert config.pretrained is not None
    folder = locate(config.pretrained, config.revision, ("text_encoder", "tokenizer"))
    shape = codec_shape(kind, config)
    name = _read(folder / "text_encoder" / "config.json")["architectures"][0]
    if name not in ("T5EncoderModel", "UMT5EncoderModel"):
        raise ConfigError(f"{config.pretrained}: text encoder {name}; expected T5EncoderModel or UMT5EncoderModel")
    encoder_class: Any = getattr(transformers, name)
    encoder = encoder_class.from_pretrained(folder / "text_encoder", dtype=DTYPES[config.dtype], local_files_only=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    return kind.make_text(encoder.eval().requires_grad_(False).to(compute_device()), tokenizer, shape)


def _refuse_second_transformer(folder: Path, config: BackboneConfig) -> None:
    """Wan 2.2 A14B has one transformer for high noise and one for low; the first alone would denoise half-way."""
    path = folder / INDEX_FILE
    listed = _read(path).get("transformer_2") if path.exists() else None
    if listed is not None and listed[0] is not None:
        raise ConfigError(
            f"model.backbone.pretrained={config.pretrained}: {INDEX_FILE} lists transformer_2, a second "
            "transformer for low noise; supported are checkpoints with one"
        )


def _read(path: Path) -> dict[str, Any]:
    """A configuration file of a part.

    Raises:
        ConfigError: it is not there, or no JSON.
    """
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}); expected the file that diffusers' save_pretrained writes there"
        ) from error


def _check_class(path: Path, expected: str, config: BackboneConfig) -> None:
    found = _read(path).get("_class_name")
    if found != expected:
        raise ConfigError(
            f"model.backbone.pretrained={config.pretrained}: {path.parent.name} is of class {found}, family "
            f"{config.family} has {expected}; set model.backbone.family to the checkpoint's"
        )
