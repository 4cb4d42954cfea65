from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from soundstage.curation.signals import pan_share
from soundstage.media.decode import decode_clip
from tests.unit.curation.makers import FPS, irregular, pulses

SHARED = Path(__file__).parents[5] / "shared" / "data" / "clips"


def _texture(height: int = 200, width: int = 400, seed: int = 0) -> NDArray[np.float64]:
    rough = gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), 2.0)
    return np.asarray(128 + 60 * rough / rough.std()).clip(0, 255)


def _panned(down: float, right: float, seconds: float = 3.0) -> NDArray[np.uint8]:
    """A window of 48 x 64 that moves over a texture, (down, right) pixels a frame."""
    texture = _texture()
    places = [(70 + round(down * i), 60 + round(right * i)) for i in range(round(seconds * FPS))]
    return np.stack([texture[y : y + 48, x : x + 64] for y, x in places]).astype(np.uint8)


@pytest.mark.parametrize(
    ("down", "right"),
    [(0.0, 1.0), (0.0, 0.25), (0.5, -0.5), (0.0, 3.5)],
    ids=["right", "slowly", "diagonally", "fast"],
)
def test_a_camera_that_turns_moves_the_whole_picture(down: float, right: float) -> None:
    assert pan_share(_panned(down, right), FPS) >= 0.9


def test_noise_of_the_sensor_hides_no_pan() -> None:
    noisy = _panned(0.0, 1.0) + np.random.default_rng(1).normal(scale=6, size=(72, 48, 64))
    assert pan_share(noisy.clip(0, 255).astype(np.uint8), FPS) >= 0.9


def test_half_a_pan_is_half() -> None:
    moving = _panned(0.0, 1.0)
    assert pan_share(np.concatenate([moving, np.repeat(moving[-1:], len(moving), axis=0)]), FPS) == pytest.approx(
        0.5, abs=0.05
    )


def _crossing(side: int) -> NDArray[np.uint8]:
    """A textured square that crosses a textured background."""
    frames = np.repeat(_texture()[None, :48, :64], 72, axis=0)
    thing = _texture(seed=5)[:side, :side]
    for i, frame in enumerate(frames):
        left = round(i * (64 - side) / 71)
        frame[8 : 8 + side, left : left + side] = thing
    return frames.astype(np.uint8)


def _flickering() -> NDArray[np.uint8]:
    light = 0.7 + 0.3 * np.sin(np.arange(72))
    return np.asarray(_texture()[None, :48, :64] * light[:, None, None]).astype(np.uint8)


@pytest.mark.parametrize(
    "frames",
    [
        np.full((72, 48, 48), 90, np.uint8),
        np.repeat(_texture()[None, :48, :64].astype(np.uint8), 72, axis=0),
        _crossing(20),
        _crossing(32),
        pulses(irregular(3.0), 3.0),
        np.random.default_rng(0).integers(0, 255, (72, 48, 64), dtype=np.uint8),
        _flickering(),
        np.zeros((1, 48, 48), np.uint8),
    ],
    ids=["plain", "still", "a thing", "a large thing", "a jumping square", "noise", "flicker", "one frame"],
)
def test_what_is_no_pan(frames: NDArray[np.uint8]) -> None:
    assert pan_share(frames, FPS) == 0.0


def test_real_pans_and_real_tripods() -> None:
    if not (SHARED / "manifest.csv").exists():
        pytest.skip("described real clips are not in ../shared/data/clips")
    names = ("crowd_pan.mp4", "drum_kit_topdown.mp4", "dog_shihtzu_bark.mp4")
    clips = [decode_clip(SHARED / name, 48, "gray") for name in names]
    panned, *static = (pan_share(clip.frames, float(clip.fps)) for clip in clips)
    assert panned > 0.8
    assert max(static) < 0.05
