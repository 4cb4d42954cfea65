"""A pretrained checkpoint through the command line: encoded, trained on, judged, registered, and animated with.

The checkpoint is a tiny random LTX-Video of the real classes. Stages before `encode` have the configuration of the
demonstration, so they are taken from its workspace. The tests run in order.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from soundstage.config import load_config
from soundstage.media.decode import decode_clip
from soundstage.tracking.folders import resolve_model

from ..unit.models.backbones.tiny import Saved, Shelf
from .conftest import Demo, Place

STAGES = ["encode", "backbone", "pretrain", "finetune", "evaluate", "register"]
NAME = "soundstage-pretrained"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return Shelf(tmp_path_factory.mktemp("checkpoints")).get("ltx-0.9.5")


@pytest.fixture(scope="module")
def settings(saved: Saved) -> list[str]:
    """9 frames are two latents of LTX-Video, 32 pixels one latent pixel; tiny adapters over a tiny transformer."""
    chosen = {
        "model.backbone.family": "ltx",
        "model.backbone.pretrained": saved.folder,
        "window.num_frames": 9,
        "window.size": 32,
        "model.adapter.max_share": 1.0,
        "model.adapter.low_rank": 1,
        "registry.name": NAME,
    }
    return [part for key, value in chosen.items() for part in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def place(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A copy of the demonstration's workspace: what is trained here must not become its current result, and what
    other tests did to that workspace must not be found here."""
    root = tmp_path_factory.mktemp("pretrained") / "workspace"
    shutil.copytree(demo.snapshot, root, symlinks=True)
    return Place(root)


@pytest.fixture(scope="module")
def outputs(place: Place, settings: list[str]) -> dict[str, str]:
    """What each stage's command printed."""
    commands = {stage: [stage] for stage in STAGES}
    commands |= {stage: ["train", stage] for stage in ("backbone", "pretrain", "finetune")}
    return {stage: place.run(*commands[stage], *settings) for stage in STAGES}


@pytest.mark.usefixtures("outputs")
def test_shards_hold_the_checkpoints_latents(place: Place, saved: Saved) -> None:
    record = place.workspace.current("encode")
    index = json.loads((place.workspace.resolve(record.payload) / "index.json").read_text())
    assert index["fingerprints"]["codec"] == f"ltx:{saved.folder}@newest:vae"
    assert set(index["encoders"]) == {"vae", "text_encoder", "tokenizer", "audio.mel"}
    assert record.counts["samples"] > 0


def test_the_backbone_is_named_not_copied_and_nothing_is_trained(
    place: Place, outputs: dict[str, str], saved: Saved
) -> None:
    record = place.workspace.current("backbone")
    folder = place.workspace.resolve(record.payload)
    assert [path.name for path in (folder / "backbone").iterdir()] == ["backbone.json"]
    described = json.loads((folder / "backbone" / "backbone.json").read_text())
    assert (described["origin"], described["stand_in"]) == (str(saved.folder), False)
    assert record.counts["steps"] == 0
    assert f"pretrained: {saved.folder}" in record.notes["backbone"]


@pytest.mark.usefixtures("outputs")
def test_both_stages_train_adapters_for_this_checkpoint(place: Place, saved: Saved) -> None:
    fingerprint = saved.load().fingerprint
    for stage in ("pretrain", "finetune"):
        record = place.workspace.current(stage)
        about = json.loads((place.workspace.resolve(record.payload) / "adapter" / "adapter.json").read_text())
        assert (about["family"], about["backbone_fingerprint"]) == ("ltx", fingerprint)
        assert about["breakdown"]["low_rank"] > 0
        assert record.counts["steps"] > 0
        assert np.isfinite(record.metrics["final_train_loss"])


def _animate(place: Place, folder: Path, *arguments: str, code: int = 0) -> str:
    """Animate a picture with the demonstration's sound by the registered version, into `out.mp4` of `folder`."""
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(picture).save(folder / "image.png")
    sound = str(place.root / "animation.mp4")
    inputs = ["--image", str(folder / "image.png"), "--audio", sound, "--prompt", "a drum"]
    chosen = ["--model", f"models:/{NAME}@candidate", "--steps", "2", "--out", str(folder / "out.mp4")]
    return place.run("animate", *inputs, *chosen, *arguments, code=code)


@pytest.mark.usefixtures("outputs")
def test_a_version_is_registered_and_animates(place: Place, tmp_path: Path) -> None:
    folders = resolve_model(place.workspace, load_config("micro").tracking, f"models:/{NAME}@candidate")
    assert [path.name for path in folders.backbone.iterdir()] == ["backbone.json"]
    assert folders.adapter is not None
    _animate(place, tmp_path)
    clip = decode_clip(tmp_path / "out.mp4")
    assert (len(clip.frames), clip.fps) == (9, 6)
    assert abs(clip.waveform).max() > 0.01


@pytest.mark.usefixtures("outputs")
def test_a_changed_checkpoint_is_noticed(place: Place, saved: Saved, tmp_path: Path) -> None:
    # The version names the folder; what lies there now is another model.
    path = next((saved.folder / "transformer").glob("*.safetensors"))
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    try:
        output = " ".join(_animate(place, tmp_path, code=2).split())
    finally:
        path.write_bytes(before)
    assert "has fingerprint" in output
    assert "restore that checkpoint" in output


def test_a_window_that_the_family_does_not_take_stops_before_decoding(place: Place, settings: list[str]) -> None:
    output = place.run("encode", *settings, "--set", "window.num_frames=12", code=2)
    assert "takes 1 + 8 k frames; take 9 or 17" in " ".join(output.split())
