"""Checkpoints found, identified and refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from soundstage.config.tree import BackboneConfig, SoundstageConfig
from soundstage.errors import ConfigError
from soundstage.models.backbones.load import (
    FAMILIES,
    encoder_fingerprints,
    encoder_hashes,
    encoders,
    load_backbone,
    pretrained_backbone,
    pretrained_digest,
    reference_pretrained,
    window_shape,
)
from soundstage.models.backbones.pretrained import known_release, load_text, locate, part_hash

from .tiny import Saved, Shelf, video

PARTS = ["transformer", "vae", "text_encoder", "tokenizer", "scheduler"]


@pytest.fixture
def saved(shelf: Shelf) -> Saved:
    return shelf.get("ltx-0.9.5")


@pytest.fixture
def copy(saved: Saved, tmp_path: Path) -> Path:
    """A copy of a checkpoint that a test may break."""
    shutil.copytree(saved.folder, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def _alter(folder: Path) -> None:
    """Change one weight of the transformer."""
    path = next((folder / "transformer").glob("*.safetensors"))
    tensors = load_file(path)
    tensors["proj_out.bias"][0] += 1e-3
    save_file(tensors, path, metadata={"format": "pt"})


def _ltx(pretrained: Path | str) -> BackboneConfig:
    return BackboneConfig(family="ltx", pretrained=str(pretrained))


def test_a_checkpoint_is_loaded_whole_frozen_and_in_evaluation_mode(saved: Saved) -> None:
    made = saved.load()
    wanted = saved.pipeline.transformer.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in made.transformer.state_dict().items())
    assert not any(parameter.requires_grad for parameter in made.transformer.parameters())
    assert not any(module.training for module in made.transformer.modules())
    assert (made.origin, made.licence, made.stand_in) == (str(saved.folder), "unknown", False)
    assert type(made.scheduler()) is type(saved.pipeline.scheduler)


def test_half_precision_is_for_frozen_weights_and_text_not_for_pictures(saved: Saved) -> None:
    made = pretrained_backbone(saved.config.model_copy(update={"dtype": "bf16"}))
    assert made.transformer.dtype == torch.bfloat16
    assert made.text.encoder_module.dtype == torch.bfloat16
    assert made.codec.vae.dtype == torch.float32
    assert made.fingerprint == saved.load().fingerprint, "the files are the same, whatever the type in memory"


def test_the_fingerprint_tells_one_weight(saved: Saved, copy: Path) -> None:
    assert part_hash(copy, "transformer") == part_hash(saved.folder, "transformer")
    (copy / "transformer" / "README.md").write_text("a note changes no model\n")
    assert part_hash(copy, "transformer") == part_hash(saved.folder, "transformer")
    _alter(copy)
    assert part_hash(copy, "transformer") != part_hash(saved.folder, "transformer")
    assert part_hash(copy, "vae") == part_hash(saved.folder, "vae")


def test_the_fingerprint_follows_the_links_of_a_cache(saved: Saved, tmp_path: Path) -> None:
    # The hub's cache holds links to files named by their hashes.
    (tmp_path / "transformer").mkdir()
    for path in (saved.folder / "transformer").iterdir():
        (tmp_path / "transformer" / path.name).symlink_to(path)
    assert part_hash(tmp_path, "transformer") == part_hash(saved.folder, "transformer")


def test_a_reference_names_the_checkpoint_and_holds_none_of_it(copy: Path, tmp_path: Path) -> None:
    made = reference_pretrained(_ltx(copy), tmp_path / "backbone")
    assert [path.name for path in (tmp_path / "backbone").iterdir()] == ["backbone.json"]
    described = json.loads((tmp_path / "backbone" / "backbone.json").read_text())
    assert described["fingerprint"] == made.fingerprint
    assert described["first_frame"] == "clean_latent"
    assert load_backbone(tmp_path / "backbone").fingerprint == made.fingerprint
    _alter(copy)
    with pytest.raises(ConfigError, match=re.escape(f"{copy} has fingerprint {part_hash(copy, 'transformer')[:16]}")):
        load_backbone(tmp_path / "backbone")


def test_encoders_and_shapes_come_without_the_transformer(saved: Saved, copy: Path) -> None:
    shutil.rmtree(copy / "transformer")
    codec, text = encoders(_ltx(copy))
    made = saved.load()
    frames = video(saved.member)
    assert torch.equal(codec.encode(frames), made.codec.encode(frames))
    assert torch.equal(text.encode(["rain"]).embeddings, made.text.encode(["rain"]).embeddings)
    assert window_shape(_ltx(copy)) == made.codec_shape


def test_encoders_are_declared_by_name_and_hashed_by_content(saved: Saved, copy: Path) -> None:
    config = SoundstageConfig().model
    declared = encoder_fingerprints(_ltx("Lightricks/LTX-Video-0.9.5"), config.audio)
    assert declared["codec"] == "ltx:Lightricks/LTX-Video-0.9.5@newest:vae"
    assert encoder_hashes(_ltx(copy)) == encoder_hashes(saved.config)
    (copy / "tokenizer" / "added.json").write_text("{}\n")
    differing = encoder_hashes(_ltx(copy)).items() ^ encoder_hashes(saved.config).items()
    assert {part for part, _ in differing} == {"tokenizer"}


def test_stages_read_a_changed_folder_anew(copy: Path) -> None:
    def digest(config: BackboneConfig) -> str:
        tree = SoundstageConfig()
        return pretrained_digest(
            tree.model_copy(update={"model": tree.model.model_copy(update={"backbone": config})}), None
        )

    before = digest(_ltx(copy))
    assert before == digest(_ltx(copy)) != ""
    os.utime(copy / "vae" / "config.json", (0, 0))
    assert digest(_ltx(copy)) != before
    assert digest(BackboneConfig()) == digest(_ltx("Lightricks/LTX-Video-0.9.5")) == ""


@pytest.mark.parametrize("part", ["transformer", "scheduler", "vae"])
def test_a_missing_part_is_named_with_what_is_there(copy: Path, part: str) -> None:
    shutil.rmtree(copy / part)
    message = (
        f"model.backbone.pretrained={copy}: {copy} has no {part}; expected a model that diffusers' save_pretrained"
    )
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        pretrained_backbone(_ltx(copy))
    assert all(other in str(caught.value) for other in PARTS if other != part)


@pytest.mark.parametrize("content", [None, "{"], ids=["missing", "broken"])
def test_a_part_without_its_configuration_is_named(copy: Path, content: str | None) -> None:
    path = copy / "transformer" / "config.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=re.escape(f"{path} cannot be read")):
        pretrained_backbone(_ltx(copy))


def test_another_familys_checkpoint_is_refused(saved: Saved) -> None:
    message = (
        f"model.backbone.pretrained={saved.folder}: transformer is of class LTXVideoTransformer3DModel, family wan has "
        "WanTransformer3DModel; set model.backbone.family to the checkpoint's"
    )
    with pytest.raises(ConfigError, match=re.escape(message)):
        pretrained_backbone(BackboneConfig(family="wan", pretrained=str(saved.folder)))
    with pytest.raises(ConfigError, match="vae is of class AutoencoderKLLTXVideo, family cogvideox has"):
        window_shape(BackboneConfig(family="cogvideox", pretrained=str(saved.folder)))


def test_another_text_encoder_is_refused(copy: Path) -> None:
    path = copy / "text_encoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["CLIPTextModel"]}))
    with pytest.raises(ConfigError, match="text encoder CLIPTextModel; expected T5EncoderModel or UMT5EncoderModel"):
        load_text(FAMILIES["ltx"], _ltx(copy))


@pytest.mark.parametrize("name", ["/no/such/folder", "an owner/name", "a/b/c"])
def test_what_is_neither_folder_nor_hub_id_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{name!r} is neither a folder here nor a hub id of the form")):
        locate(name, None, ("transformer",))


def test_a_hub_that_cannot_be_reached_is_said_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A port that nobody listens on: connections are refused at once, wherever the tests run.
    from huggingface_hub import constants

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        begun = time.monotonic()
        message = "model.backbone.pretrained='somebody/a-model' (revision v1) is no folder here and cannot be fetched"
        with pytest.raises(ConfigError, match=re.escape(message)):
            pretrained_backbone(BackboneConfig(family="ltx", pretrained="somebody/a-model", revision="v1"))
    assert time.monotonic() - begun < 20


def test_releases_are_known_by_their_hub_id() -> None:
    found = known_release(FAMILIES, "zai-org/CogVideoX-5b-I2V")
    assert found is FAMILIES["cogvideox"].releases["cogvideox-5b-i2v"]
    assert known_release(FAMILIES, "somebody/a-model") is None
