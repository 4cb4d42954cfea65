"""From an image and a sound to a video, through folders on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from soundstage.config.audio import AudioConfig, LogMelConfig
from soundstage.config.tree import WindowConfig
from soundstage.errors import ConfigError
from soundstage.models.adapter import AudioContext
from soundstage.models.animate import Animator, guidance_of
from soundstage.models.audio.load import feature_grids
from soundstage.models.backbones.stand_in import save_stand_in
from soundstage.models.bundle import new_adapters, save_adapter
from soundstage.models.sampling import Guidance
from soundstage.models.windows import audio_windows, frame_spans

from .makers import WINDOW, backbone, make_heard, model_config

# Two encoders of unlike hops and widths.
CONFIG = model_config(low_rank=1).model_copy(
    update={
        "audio": AudioConfig(
            encoders={"mel": LogMelConfig(num_mel_bins=16), "slow": LogMelConfig(hop_length=1600, num_mel_bins=8)}
        )
    }
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("model")
    made = backbone(CONFIG)
    adapters = new_adapters(made, feature_grids(CONFIG.audio), CONFIG)
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
    for other in ({"seed": 4}, {"seed": 3, "audio_guidance_scale": 4.0}, {"seed": 3, "text_guidance_scale": 4.0}):
        assert not np.array_equal(
            video, animator.animate(image(), click(0.4), 44100, "a click", num_inference_steps=2, **other)
        )
    assert not np.array_equal(
        video, animator.animate(image(), click(0.8), 44100, "a click", seed=3, num_inference_steps=2)
    )
    assert not np.array_equal(
        video, animator.animate(image(1), click(0.4), 44100, "a click", seed=3, num_inference_steps=2)
    )


def test_the_window_hears_the_sound_at_its_times(folders: tuple[Path, Path]) -> None:
    animator = Animator.load(*folders)
    heard = animator.window_sound(click(0.5), 44100, 0.2)
    rate, margin = CONFIG.audio.sample_rate, WINDOW.audio_margin_sec
    assert len(heard) == round((1.0 + 2 * margin) * rate)
    # Window time 0 is 0.2 s of the sound; the first `margin` seconds lie before it.
    assert np.flatnonzero(np.abs(heard) > 0.4)[0] / rate == pytest.approx(0.5 - 0.2 + margin, abs=0.001)


def test_every_encoder_hears_the_click_in_the_frames_around_it(folders: tuple[Path, Path]) -> None:
    # What frames attend to with a click against what they attend to in silence.
    animator, at_sec = Animator.load(*folders), 0.5
    assert animator.model.adapters is not None
    grids, window_sec = animator.model.adapters.grids, CONFIG.adapter.window_sec
    contexts, clips = [], [animator.window_sound(sound, 44100, 0.0) for sound in (click(at_sec), click(at_sec) * 0)]
    for clip in clips:
        heard = animator._heard(clip[None], WINDOW.num_frames)
        assert isinstance(heard, AudioContext)
        contexts.append(heard)
    assert torch.equal(contexts[0].visible, contexts[1].visible)
    differs = (contexts[0].tokens - contexts[1].tokens)[0].abs().amax(dim=-1) * contexts[0].visible
    # Tokens of an encoder stand together, in the encoders' order.
    times = animator.encoders["mel"](torch.from_numpy(clips[0]), -WINDOW.audio_margin_sec).times_sec
    fine = audio_windows(frame_spans(6, 6.0), times, window_sec, grids["mel"].hop_sec).index.shape[1]
    parts = {"mel": differs[:, :fine], "slow": differs[:, fine:]}
    for name, part in parts.items():
        hop = grids[name].hop_sec
        # The sound is 4.5 ms long; an analysis window hears 16 ms to either side, and onset strength a hop further.
        surely = [abs(f / 6 - at_sec) <= 1 / 12 + window_sec for f in range(6)]
        possibly = [abs(f / 6 - at_sec) <= 1 / 12 + window_sec + 1.5 * hop + 0.021 for f in range(6)]
        hears = (part.amax(dim=1) > 1e-3).tolist()
        assert any(surely)
        assert all(must <= found <= may for must, found, may in zip(surely, hears, possibly, strict=True))


def test_without_an_adapter_sound_changes_nothing(folders: tuple[Path, Path]) -> None:
    deaf = Animator.load(folders[0], None, WINDOW)
    video = deaf.animate(image(), click(0.4), 44100, "a click", num_inference_steps=2)
    assert np.array_equal(video, deaf.animate(image(), click(0.8), 44100, "a click", num_inference_steps=2))


def test_a_hearing_model_without_sound_is_the_backbone_with_its_update(folders: tuple[Path, Path]) -> None:
    settings = {"seeds": [0], "num_inference_steps": 2, "guidance": Guidance()}
    hears = Animator.load(*folders)
    video = hears.animate_batch(image()[None], None, ["a click"], **settings)
    deaf = Animator.load(folders[0], None, WINDOW)
    backbone_alone = deaf.animate_batch(image()[None], None, ["a click"], **settings)
    # The low-rank update is part of the model, heard or not; without it, this is the frozen backbone to the last bit.
    assert not np.array_equal(video, backbone_alone)
    assert hears.model.adapters is not None
    with torch.no_grad():
        for name, parameter in hears.model.adapters.updates.named_parameters():
            parameter.mul_(0.0 if name.endswith("up.weight") else 1.0)
    assert np.array_equal(hears.animate_batch(image()[None], None, ["a click"], **settings), backbone_alone)


def test_without_an_adapter_the_window_must_be_given(folders: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="window"):
        Animator.load(folders[0], None)


def test_a_window_may_be_longer_than_the_trained_one(folders: tuple[Path, Path]) -> None:
    animator = Animator.load(*folders, WindowConfig(num_frames=9, fps=6, size=16, audio_margin_sec=0.3))
    video = animator.animate(image(), click(1.2), 44100, "", num_inference_steps=1)
    assert video.shape == (9, 16, 16, 3)
    assert torch.is_grad_enabled()


def test_a_window_that_the_backbone_cannot_cut_is_refused(folders: tuple[Path, Path]) -> None:
    made = backbone(CONFIG.model_copy(update={"backbone": CONFIG.backbone.model_copy(update={"temporal_stride": 4})}))
    animator = Animator.load(*folders)
    animator.backbone = made
    with pytest.raises(ConfigError, match=r"window\.num_frames=6: .* take 5 or 9"):
        animator.animate(image(), click(0.4), 44100, "", num_inference_steps=1)


def test_no_scale_is_no_guidance() -> None:
    assert guidance_of(None, None) == Guidance(1.0, 1.0)
    assert guidance_of(0.0, 2.5) == Guidance(0.0, 2.5)
