"""From an image and a sound to a video, through folders on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from soundstage.config.tree import WindowConfig
from soundstage.errors import ConfigError
from soundstage.models.animate import Animator
from soundstage.models.backbones.wan import save_stand_in
from soundstage.models.bundle import new_adapters, save_adapter
from soundstage.models.sampling import Guidance

from .makers import WINDOW, backbone, make_heard, model_config

CONFIG = model_config()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("model")
    made = backbone(CONFIG)
    adapters = new_adapters(made, CONFIG)
    make_heard(adapters)
    save_stand_in(made, root / "backbone")
    save_adapter(root / "adapter", adapters, made, CONFIG, WINDOW, "finetune")
    return root / "backbone", root / "adapter"


def image(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (40, 24, 3), dtype=np.uint8)


def click(at_sec: float, rate: int = 44100) -> NDArray[np.float32]:
    sound = np.zeros(2 * rate, np.float32)
    sound[round(at_sec * rate) :][:200] = 0.8
    return sound


def test_a_video_depends_on_sound_and_seed_alone(folders: tuple[Path, Path]) -> None:
    animator = Animator.load(*folders)
    video = animator.animate(image(), click(0.4), 44100, "a click", seed=3, num_inference_steps=2)
    assert (video.shape, video.dtype, animator.fps) == ((6, 16, 16, 3), np.uint8, 6)
    again = Animator.load(*folders).animate(image(), click(0.4), 44100, "a click", seed=3, num_inference_steps=2)
    assert np.array_equal(video, again)
    for other in ({"seed": 4}, {"seed": 3, "audio_guidance_scale": 4.0}):
        assert not np.array_equal(
            video, animator.animate(image(), click(0.4), 44100, "a click", num_inference_steps=2, **other)
        )
    assert not np.array_equal(
        video, animator.animate(image(), click(0.8), 44100, "a click", seed=3, num_inference_steps=2)
    )


def test_the_window_hears_the_sound_at_its_times(folders: tuple[Path, Path]) -> None:
    animator = Animator.load(*folders)
    heard = animator.window_sound(click(0.5), 44100, 0.2)
    rate, margin = CONFIG.audio.sample_rate, WINDOW.audio_margin_sec
    assert len(heard) == round((1.0 + 2 * margin) * rate)
    # Window time 0 is 0.2 s of the sound; the first `margin` seconds lie before it.
    assert np.flatnonzero(np.abs(heard) > 0.4)[0] / rate == pytest.approx(0.5 - 0.2 + margin, abs=0.001)


def test_without_an_adapter_sound_changes_nothing(folders: tuple[Path, Path]) -> None:
    deaf = Animator.load(folders[0], None, WINDOW)
    video = deaf.animate(image(), click(0.4), 44100, "a click", num_inference_steps=2)
    assert np.array_equal(video, deaf.animate(image(), click(0.8), 44100, "a click", num_inference_steps=2))
    hears = Animator.load(*folders)
    settings = {"seeds": [0], "num_inference_steps": 2, "guidance": Guidance()}
    assert np.array_equal(video[None], hears.animate_batch(image()[None], None, ["a click"], **settings))


def test_without_an_adapter_the_window_must_be_given(folders: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="window"):
        Animator.load(folders[0], None)


def test_a_window_may_be_longer_than_the_trained_one(folders: tuple[Path, Path]) -> None:
    animator = Animator.load(*folders, WindowConfig(num_frames=9, fps=6, size=16, audio_margin_sec=0.3))
    video = animator.animate(image(), click(1.2), 44100, "", num_inference_steps=1)
    assert video.shape == (9, 16, 16, 3)
    assert torch.is_grad_enabled()
