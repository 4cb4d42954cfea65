"""Long sounds: windows that cover them, seams that are exact where they can be and measured where they cannot."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from soundstage.config.tree import WindowConfig
from soundstage.errors import ConfigError
from soundstage.models.animate import Animator
from soundstage.models.long import LongPlan, animate_long, joined, measure_seams, plan_windows

from .folders import WINDOW, image, tiny_model, tiny_pretrained

RATE = 16000


@pytest.fixture(scope="module")
def animator(tmp_path_factory: pytest.TempPathFactory) -> Animator:
    return Animator.load(*tiny_model(tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize("window", [2, 6, 13, 33])
@pytest.mark.parametrize("stride", [1, 4, 8])
def test_windows_cover_every_frame_and_share_the_overlap(window: int, stride: int) -> None:
    window = 1 + stride * max(1, (window - 1) // stride)
    for overlap in range(1, window, stride):
        for frames in (1, window, window + 1, 3 * window - 1, 100):
            plan = plan_windows(Fraction(frames, 25), 25, window, overlap, stride)
            assert plan.num_frames == max(frames, window)
            covered = {frame for start in plan.starts for frame in range(start, start + window)}
            assert covered >= set(range(plan.num_frames))
            steps = np.diff(plan.starts)
            assert (steps == window - overlap).all()
            assert (steps % stride == 0).all()  # latents of neighbours hold the same frames
            # The last window is needed: without it the video would end too early.
            assert len(plan.starts) == 1 or plan.starts[-2] + window < plan.num_frames


def test_a_frame_that_starts_before_the_sound_ends_is_shown() -> None:
    assert plan_windows(Fraction(20, 6) + Fraction(1, 1000), 6, 6).num_frames == 21
    assert plan_windows(Fraction(20, 6), 6, 6).num_frames == 20


@pytest.mark.parametrize(
    ("window", "overlap", "stride", "advice"),
    [(9, 3, 4, "take 1 or 5"), (6, 0, 1, "take 1 or 2"), (6, 6, 1, "take 4 or 5")],
)
def test_an_overlap_that_cannot_be_is_answered_with_the_nearest(
    window: int, overlap: int, stride: int, advice: str
) -> None:
    with pytest.raises(ConfigError, match=advice):
        plan_windows(Fraction(10), 6, window, overlap, stride)


@pytest.mark.parametrize("stride", [1, 4, 8])
def test_the_overlap_that_nobody_names_is_legal(stride: int) -> None:
    for latents in range(1, 12):
        plan = plan_windows(Fraction(100), 6, 1 + stride * latents, None, stride)
        assert plan == plan_windows(Fraction(100), 6, 1 + stride * latents, plan.overlap_frames, stride)


@pytest.mark.parametrize("level", [0, 1, 77, 254, 255])
@pytest.mark.parametrize("overlap", [1, 3, 5])
def test_a_cross_fade_of_equal_videos_changes_nothing(level: int, overlap: int) -> None:
    plan = plan_windows(Fraction(20), 1, 6, overlap)
    made = joined([np.full((6, 4, 4, 3), level, np.uint8)] * len(plan.starts), plan)
    assert made.shape == (20, 4, 4, 3)
    assert (made == level).all()


def test_a_cross_fade_is_linear() -> None:
    plan = LongPlan(8, 6, 4, (0, 2))
    made = joined([np.full((6, 1, 1, 3), 40, np.uint8), np.full((6, 1, 1, 3), 80, np.uint8)], plan)
    assert made[:, 0, 0, 0].tolist() == [40, 40, 40, 50, 60, 70, 80, 80]


def test_a_sound_that_fits_one_window_gives_what_animate_gives(animator: Animator) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, RATE * 3 // 4).astype(np.float32)
    settings = {"seed": 5, "num_inference_steps": 2, "audio_guidance_scale": 2.0, "text_guidance_scale": 1.5}
    made = animate_long(animator, image(), sound, RATE, "a click", **settings)
    assert np.array_equal(made.frames, animator.animate(image(), sound, RATE, "a click", **settings))
    assert made.report.seams == ()
    assert made.report.seam_ratio is None


def test_every_window_hears_the_true_sound_around_it(animator: Animator, monkeypatch: pytest.MonkeyPatch) -> None:
    # The sample at t holds t itself, so what a window hears says where it was taken from.
    sound = np.arange(3 * RATE, dtype=np.float32) / RATE
    heard: list[NDArray[np.float32]] = []
    latents_batch = animator.latents_batch

    def watched(images: NDArray[np.uint8], sounds: NDArray[np.float32], *args: object, **kwargs: object) -> object:
        heard.append(sounds[0])
        return latents_batch(images, sounds, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(animator, "latents_batch", watched)
    made = animate_long(animator, image(), sound, RATE, "", overlap_frames=2, num_inference_steps=1)
    assert made.plan.starts == (0, 4, 8, 12)
    margin = WINDOW.audio_margin_sec
    for start, samples in zip(made.plan.starts, heard, strict=True):
        begin = start / WINDOW.fps - margin
        wanted = begin + np.arange(len(samples)) / RATE
        inside = (wanted > 1e-4) & (wanted < 3 - 1e-4)  # before the start and after the end there is silence
        # Half a sample of rounding where the window starts, and float32.
        assert samples[inside] == pytest.approx(wanted[inside], abs=1 / RATE)
        assert not samples[(wanted < -1e-4) | (wanted > 3)].any()
    assert len(heard[1]) == round((1.0 + 2 * margin) * RATE)


def test_a_window_starts_with_the_frame_that_the_one_before_it_made(animator: Animator) -> None:
    sound = np.random.default_rng(1).normal(0, 0.1, 2 * RATE).astype(np.float32)
    made = animate_long(animator, image(), sound, RATE, "a click", overlap_frames=2, seed=3, num_inference_steps=2)
    alone = animator.animate(image(), sound, RATE, "a click", seed=3, num_inference_steps=2)
    # Up to and with the first frame of the overlap, all frames are the first window's.
    assert np.array_equal(made.frames[:5], alone[:5])
    assert not np.array_equal(made.frames[5], alone[5])
    assert len(made.frames) == 12
    again = animate_long(animator, image(), sound, RATE, "a click", overlap_frames=2, seed=3, num_inference_steps=2)
    assert np.array_equal(made.frames, again.frames)


def sliding(frames: int, jump_at: int | None = None) -> NDArray[np.uint8]:
    """A wave that moves by the same amount from frame to frame; from `jump_at` on, half a wavelength further."""
    x = np.arange(64)
    phase = np.array([t * 0.2 + (np.pi if jump_at is not None and t >= jump_at else 0.0) for t in range(frames)])
    wave = 127.5 + 100 * np.sin(2 * np.pi * x[None] / 32 + phase[:, None])
    return np.repeat(np.repeat(wave[:, None, :, None], 8, 1), 3, 3).round().astype(np.uint8)


def test_smooth_motion_has_no_seams_and_a_planted_jump_is_one() -> None:
    plan = plan_windows(Fraction(40), 1, 16, 4)
    smooth = measure_seams(sliding(40), plan)
    assert [seam.frame for seam in smooth.seams] == [12, 24]
    # The same motion everywhere: what differs is where the wave meets the pixels and the 256 levels.
    assert smooth.seam_ratio == pytest.approx(1.0, abs=0.05)
    jumped = measure_seams(sliding(40, jump_at=26), plan)
    assert jumped.seams[0].ratio == pytest.approx(1.0, abs=0.05)
    # Half a wavelength moves a pixel by 200 sin, a step by 100 * 0.2 cos: ten times as much.
    assert jumped.seam_ratio == jumped.seams[1].ratio == pytest.approx(10.0, rel=0.05)
    assert jumped.seams[1].rank == 1.0
    # A jump elsewhere is none of a seam's.
    assert measure_seams(sliding(40, jump_at=20), plan).seam_ratio == pytest.approx(1.0, abs=0.05)


def test_drift_is_the_distance_from_the_first_frame() -> None:
    plan = plan_windows(Fraction(30), 1, 12, 3)
    fading = np.repeat(np.arange(100, 70, -1, dtype=np.uint8), 48).reshape(30, 4, 4, 3)  # a level darker each frame
    report = measure_seams(fading, plan)
    assert report.drift == plan.starts == (0, 9, 18)
    assert report.seam_ratio == 1.0  # so slow a change is no seam


def test_a_still_video_has_no_usual_change() -> None:
    plan = plan_windows(Fraction(10), 1, 6, 2)
    report = measure_seams(np.full((10, 4, 4, 3), 9, np.uint8), plan)
    assert (report.usual_change, report.seam_ratio, report.seams[0].change) == (0.0, None, 0.0)


def test_a_window_may_be_longer_than_the_trained_one(tmp_path: Path) -> None:
    folders = tiny_model(tmp_path)
    wide = Animator.load(*folders, WindowConfig(num_frames=9, fps=6, size=16, audio_margin_sec=0.3))
    made = animate_long(wide, image(), np.zeros(2 * RATE, np.float32), RATE, "", num_inference_steps=1)
    assert (made.plan.window_frames, made.plan.overlap_frames, len(made.frames)) == (9, 3, 12)


def test_windows_of_a_codec_that_packs_frames_meet_where_it_packs_them(tmp_path: Path) -> None:
    packed = Animator.load(*tiny_pretrained(tmp_path, "wan2.2-ti2v"))  # 9 frames at 24 fps, 4 to a latent
    sound = np.zeros(RATE, np.float32)
    made = animate_long(packed, image(), sound, RATE, "", overlap_frames=5, num_inference_steps=1)
    assert made.plan.starts == (0, 4, 8, 12, 16)
    assert made.frames.shape == (24, 64, 96, 3)
    alone = packed.animate(image(), sound, RATE, "", num_inference_steps=1)
    assert np.array_equal(made.frames[:5], alone[:5])
    with pytest.raises(ConfigError, match=r"packs 4 into a latent share 1 .* take 1 or 5"):
        animate_long(packed, image(), sound, RATE, "", overlap_frames=3)
