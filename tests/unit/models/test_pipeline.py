"""The pipeline of diffusers' kind: the animator's videos through another door, and folders that bring them back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from soundstage.errors import ConfigError
from soundstage.models.animate import Animator
from soundstage.models.backbones.load import load_backbone
from soundstage.models.pipeline import AudioSyncPipeline
from soundstage.models.sampling import Guidance

from .folders import image, tiny_model, tiny_pretrained

RATE = 16000
SOUND = np.random.default_rng(0).normal(0, 0.2, RATE).astype(np.float32)
SETTINGS: dict[str, Any] = {"num_inference_steps": 2, "seed": 3, "audio_guidance_scale": 2.0, "guidance_scale": 1.5}
LTX = "ltx-0.9.5"


@pytest.fixture(scope="module", params=["stand-in", "wan2.2-ti2v", LTX, "cogvideox-5b-dpm"])
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("model")
    return tiny_model(root) if request.param == "stand-in" else tiny_pretrained(root, request.param)


@pytest.fixture
def pipeline(folders: tuple[Path, Path]) -> AudioSyncPipeline:
    return AudioSyncPipeline(Animator.load(*folders))


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> AudioSyncPipeline:
    return AudioSyncPipeline(Animator.load(*tiny_model(tmp_path_factory.mktemp("stand_in"))))


def video(pipeline: AudioSyncPipeline, **changed: Any) -> NDArray[np.float32]:
    frames: NDArray[np.float32] = pipeline(image(), "a click", (SOUND, RATE), **SETTINGS | changed).frames
    return frames


def test_it_is_the_animator(pipeline: AudioSyncPipeline) -> None:
    direct = pipeline.animator.animate(
        image(),
        SOUND,
        RATE,
        "a click",
        seed=3,
        num_inference_steps=2,
        audio_guidance_scale=2.0,
        text_guidance_scale=1.5,
    )
    assert np.array_equal(np.round(video(pipeline) * 255), direct[None])
    assert isinstance(pipeline, diffusers.DiffusionPipeline)
    assert not any(module.training for module in (pipeline.transformer, pipeline.text_encoder, pipeline.animator.model))


def test_the_round_trip_gives_the_same_video_bit_for_bit(pipeline: AudioSyncPipeline, tmp_path: Path) -> None:
    wanted = video(pipeline)
    pipeline.save_pretrained(tmp_path / "saved")
    # It needs nothing from where it came from, and may be carried elsewhere.
    moved = (tmp_path / "saved").rename(tmp_path / "elsewhere")
    loaded = AudioSyncPipeline.from_pretrained(moved)
    assert np.array_equal(video(loaded), wanted)
    assert loaded.animator.backbone.describe() | {"origin": ""} == pipeline.animator.backbone.describe() | {
        "origin": ""
    }
    # Loaded ones save themselves again, over what is there.
    loaded.save_pretrained(moved)
    assert np.array_equal(video(AudioSyncPipeline.from_pretrained(str(moved))), wanted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere"]


def test_the_folder_says_what_it_holds(pipeline: AudioSyncPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "saved")
    saved = tmp_path / "saved"
    index = json.loads((saved / "model_index.json").read_text())
    assert index["_class_name"] == "AudioSyncPipeline"
    assert index["transformer"] == ["diffusers", type(pipeline.transformer).__name__]
    assert (index["vae"] == [None, None]) == (pipeline.vae is None)
    about = json.loads((saved / "adapter" / "adapter.json").read_text())
    assert about["backbone_fingerprint"] == json.loads((saved / "backbone.json").read_text())["fingerprint"]
    assert about["licences"]["backbone"]
    assert {path.name for path in (saved / "adapter").iterdir()} >= {"adapter.safetensors", "README.md"}
    # Diffusers itself finds each part under its name.
    part = getattr(diffusers, index["transformer"][1]).from_pretrained(saved / "transformer")
    ours = pipeline.transformer.state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in part.state_dict().items())


def test_without_its_backbone_the_folder_names_the_checkpoint(tmp_path: Path) -> None:
    pipeline = AudioSyncPipeline(Animator.load(*tiny_pretrained(tmp_path / "made", LTX)))
    pipeline.save_pretrained(tmp_path / "small", include_backbone=False)
    assert sorted(path.name for path in (tmp_path / "small").iterdir()) == ["adapter", "backbone.json"]
    wanted = video(pipeline)
    assert np.array_equal(video(AudioSyncPipeline.from_pretrained(tmp_path / "small")), wanted)
    # The checkpoint moves: it is given by hand, and named by what is saved from then on.
    moved = (tmp_path / "made" / "checkpoint").rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"model\.backbone\.pretrained="):
        AudioSyncPipeline.from_pretrained(tmp_path / "small")
    loaded = AudioSyncPipeline.from_pretrained(tmp_path / "small", backbone=moved)
    assert np.array_equal(video(loaded), wanted)
    loaded.save_pretrained(tmp_path / "small", include_backbone=False)
    assert np.array_equal(video(AudioSyncPipeline.from_pretrained(tmp_path / "small")), wanted)


def test_an_adapter_of_another_backbone_is_refused(stand_in: AudioSyncPipeline, tmp_path: Path) -> None:
    stand_in.save_pretrained(tmp_path / "saved")
    other, _ = tiny_model(tmp_path / "other", seed=1)
    for given in (other, load_backbone(other)):
        with pytest.raises(ConfigError, match="load it onto its own backbone"):
            AudioSyncPipeline.from_pretrained(tmp_path / "saved", backbone=given)
    for name in ("transformer", "backbone.json"):
        target = tmp_path / "saved" / name
        if target.is_dir():
            shutil.rmtree(target)
            shutil.copytree(other / name, target)
        else:
            shutil.copyfile(other / name, target)
    with pytest.raises(ConfigError, match="load it onto its own backbone"):
        AudioSyncPipeline.from_pretrained(tmp_path / "saved")


def test_folders_that_cannot_be_are_named(stand_in: AudioSyncPipeline, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no pipeline \(expected backbone.json and adapter/\)"):
        AudioSyncPipeline.from_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="include_backbone=True"):
        stand_in.save_pretrained(tmp_path / "small", include_backbone=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="holds files that are no pipeline"):
        stand_in.save_pretrained(tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    deaf = AudioSyncPipeline(Animator(stand_in.animator.backbone, stand_in.animator.model, *_settings(stand_in), {}))
    with pytest.raises(ConfigError, match="has no adapter"):
        deaf.save_pretrained(tmp_path / "deaf")


def _settings(pipeline: AudioSyncPipeline) -> tuple[Any, Any]:
    return pipeline.animator.config, pipeline.animator.window


def test_pictures_and_sounds_come_in_many_forms(stand_in: AudioSyncPipeline, tmp_path: Path) -> None:
    wanted = video(stand_in)
    picture = Image.fromarray(image())
    picture.save(tmp_path / "image.png")
    stereo = np.stack([SOUND * 2, SOUND * 0])
    for given in (picture, tmp_path / "image.png", str(tmp_path / "image.png")):
        for sound in (SOUND, torch.from_numpy(SOUND), stereo):
            assert np.array_equal(stand_in(given, "a click", (sound, RATE), **SETTINGS).frames, wanted)


def test_outputs_are_as_diffusers_has_them(pipeline: AudioSyncPipeline) -> None:
    frames = video(pipeline)
    window = pipeline.animator.window
    assert frames.shape == (1, window.num_frames, *window.frame_size, 3)
    assert (frames.dtype, frames.min() >= 0, frames.max() <= 1) == (np.float32, True, True)
    call = {"image": image(), "prompt": "a click", "audio": (SOUND, RATE)} | SETTINGS
    pictures = pipeline(**call, output_type="pil")
    assert pictures.frame_rate == window.fps
    assert np.array_equal(np.stack([np.asarray(each) for each in pictures.frames[0]]), np.round(frames[0] * 255))
    latents = pipeline(**call, output_type="latent").frames
    assert np.array_equal(pipeline.animator.decoded(latents), np.round(frames * 255))
    (only,) = pipeline(**call, return_dict=False)
    assert np.array_equal(only, frames)


def test_a_batch_is_its_videos(stand_in: AudioSyncPipeline) -> None:
    pictures, sounds = [image(0), image(1)], [(SOUND, RATE), (SOUND[::-1].copy(), RATE)]
    both = stand_in(pictures, ["a click", "a knock"], sounds, num_inference_steps=2, seed=[3, 4]).frames
    for index, (picture, prompt, sound) in enumerate(zip(pictures, ["a click", "a knock"], sounds, strict=True)):
        alone = stand_in(picture, prompt, sound, num_inference_steps=2, seed=3 + index).frames[0]
        # Matrix products of another size round otherwise: one level of 255 at most.
        assert np.abs(both[index] - alone).max() <= 1.01 / 255


def test_noise_comes_from_the_generator_that_is_given(stand_in: AudioSyncPipeline) -> None:
    def drawn(generator: Any) -> NDArray[np.float32]:
        return video(stand_in, seed=None, generator=generator)

    generator = torch.Generator().manual_seed(7)
    first, second = drawn(generator), drawn(generator)
    assert not np.array_equal(first, second)  # its state moves on
    assert np.array_equal(drawn(torch.Generator().manual_seed(7)), first)
    assert np.array_equal(drawn([torch.Generator().manual_seed(7)]), first)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        free = drawn(None)
        torch.manual_seed(1)
        assert np.array_equal(drawn(None), free)


def test_another_scheduler_is_honoured_and_other_components_are_not(tmp_path: Path) -> None:
    pipeline = AudioSyncPipeline(Animator.load(*tiny_model(tmp_path)))
    euler = video(pipeline)
    pipeline.scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(pipeline.scheduler.config, shift=5.0)
    assert not np.array_equal(video(pipeline), euler)
    pipeline.scheduler = diffusers.CogVideoXDDIMScheduler(prediction_type="v_prediction")
    with pytest.raises(ValueError, match="is for v_prediction, this backbone was trained for velocity"):
        video(pipeline)
    pipeline.transformer = pipeline.text_encoder
    with pytest.raises(ValueError, match="transformer was replaced"):
        video(pipeline)


def test_devices_and_types_move_as_diffusers_moves_them(tmp_path: Path) -> None:
    pipeline = AudioSyncPipeline(Animator.load(*tiny_pretrained(tmp_path, LTX)))
    wanted = video(pipeline)
    assert pipeline.to("cpu") is pipeline
    assert np.array_equal(video(pipeline), wanted)
    pipeline.to(dtype=torch.bfloat16)
    assert {pipeline.transformer.dtype, pipeline.text_encoder.dtype} == {torch.bfloat16}
    assert {parameter.dtype for parameter in pipeline.animator.model.adapters.parameters()} == {torch.float32}
    assert pipeline.vae.dtype == torch.float32
    rounded = video(pipeline)
    assert np.isfinite(rounded).all()
    assert not np.array_equal(rounded, wanted)
    # What is saved is what was loaded, in its own type.
    pipeline.save_pretrained(tmp_path / "saved")
    assert np.array_equal(video(AudioSyncPipeline.from_pretrained(tmp_path / "saved")), wanted)
    pipeline.to("meta")
    everything = (pipeline.animator.model, pipeline.vae, pipeline.text_encoder)
    assert {tensor.device.type for module in everything for tensor in module.parameters()} == {"meta"}


def test_all_that_the_transformer_is_given_lies_on_its_device(tmp_path: Path) -> None:
    # The device that every machine has and that is not the CPU; it computes shapes alone.
    animator = Animator.load(*tiny_model(tmp_path)).to("meta")
    found: set[str] = set()

    def watch(_module: torch.nn.Module, _args: Any, given: dict[str, Any]) -> None:
        found.update(value.device.type for value in given.values() if isinstance(value, torch.Tensor))

    animator.backbone.transformer.register_forward_pre_hook(watch, with_kwargs=True)
    latents = animator.latents_batch(
        image()[None], None, ["a click"], seeds=[0], num_inference_steps=2, guidance=Guidance(text=2.0)
    )
    assert (found, latents.device.type) == ({"meta"}, "meta")


def test_diffusers_sees_the_components(pipeline: AudioSyncPipeline) -> None:
    assert sorted(pipeline.components) == ["scheduler", "text_encoder", "tokenizer", "transformer", "vae"]
    assert pipeline.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output_type": "gif"}, "output_type='gif'; known are np, pil, latent"),
        ({"prompt": ["a", "b"]}, "1 images, 2 prompts, 1 sounds"),
        ({"image": np.zeros((4, 4, 3))}, r"uint8 \(H, W, 3\), found float64"),
        ({"audio": SOUND}, r"audio must be \(waveform, sample_rate\), found ndarray"),
        ({"audio": (np.zeros(9, np.int16), RATE)}, "waveform must be float .* found int16"),
        ({"generator": torch.Generator()}, "both generator and seed were given"),
        ({"seed": [1, 2]}, "2 seeds or generators for 1 videos"),
    ],
)
def test_arguments_that_cannot_be_are_named(
    stand_in: AudioSyncPipeline, arguments: dict[str, Any], message: str
) -> None:
    call = {"image": image(), "prompt": "a click", "audio": (SOUND, RATE)} | SETTINGS | arguments
    with pytest.raises(ValueError, match=message):
        stand_in(**call)
