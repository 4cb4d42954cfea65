"""Picture words are signs of cosine coefficients that survive resizing and recolouring; motion has its unit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from soundstage.data.duplicates.picture import MOTION_STEPS, motion_steps, picture_words, small_pictures


def scene(seed: int, size: tuple[int, int] = (96, 96)) -> np.ndarray:
    """A smooth random picture (H, W, 3)."""
    rough = np.random.default_rng(seed).integers(0, 255, (7, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(rough).resize(size[::-1], Image.Resampling.BICUBIC))


def words(picture: np.ndarray) -> tuple[np.uint64, np.uint64]:
    signs, sure = picture_words(small_pictures(picture[None], 24))
    return signs[0], sure[0]


def bit_error(a: np.ndarray, b: np.ndarray) -> float:
    (signs_a, sure_a), (signs_b, sure_b) = words(a), words(b)
    sure = sure_a & sure_b
    return float(np.bitwise_count((signs_a ^ signs_b) & sure)) / int(np.bitwise_count(sure))


def test_bits_are_the_signs_of_the_cosine_transform() -> None:
    """Coefficients as the sums that define them, in float64."""
    small = small_pictures(scene(0)[None], 24)
    signs, sure = picture_words(small)
    order = sorted(((r, c) for r in range(12) for c in range(12) if r + c), key=lambda at: (sum(at), at))[:64]
    wave = np.cos(np.pi * (2 * np.arange(32) + 1)[None, :] * np.arange(12)[:, None] / 64)
    for bit, (row, column) in enumerate(order):
        norm = np.sqrt((1 if row else 0.5) * (1 if column else 0.5)) / 16
        value = norm * (wave[row][:, None] * wave[column][None, :] * small[0].astype(np.float64)).sum()
        if abs(value) > 1e-3:
            assert bool(signs[0] >> np.uint64(bit) & np.uint64(1)) == (value > 0)
        if abs(abs(value) - 8.0) > 1e-3:
            assert bool(sure[0] >> np.uint64(bit) & np.uint64(1)) == (abs(value) > 8.0)


@pytest.mark.parametrize("size", [(32, 32), (48, 48), (180, 320), (54, 30)])
def test_size_and_aspect_do_not_matter(size: tuple[int, int]) -> None:
    copy = np.asarray(Image.fromarray(scene(1)).resize(size[::-1], Image.Resampling.BICUBIC))
    assert bit_error(scene(1), copy) < 0.05


def test_colours_hardly_matter_and_other_pictures_are_other() -> None:
    image = Image.fromarray(scene(2))
    recoloured = ImageEnhance.Color(ImageEnhance.Brightness(image).enhance(0.8)).enhance(1.4)
    assert bit_error(scene(2), np.asarray(recoloured)) < 0.08
    strangers = [bit_error(scene(a), scene(b)) for a in range(10, 20) for b in range(20, 30)]
    assert 0.4 < np.mean(strangers) < 0.6
    # Upper bits of such smooth pictures are unsure: a few strangers have only some 30 bits to differ in.
    assert min(strangers) > 0.15
    assert bit_error(scene(2), scene(2)[:, ::-1]) > 0.3


@pytest.mark.parametrize("level", [0, 90, 255])
def test_a_flat_picture_has_no_sure_sign(level: int) -> None:
    assert words(np.full((40, 40, 3), level, np.uint8))[1] == 0


def test_motion_is_the_root_of_the_grey_difference() -> None:
    levels = [0, 0, 100, 104, 104, 255]
    small = np.stack([np.full((32, 32), level, np.uint8) for level in levels])
    assert motion_steps(small).tolist() == [
        0,
        0,
        10 * MOTION_STEPS,
        2 * MOTION_STEPS,
        0,
        round(MOTION_STEPS * 151**0.5),
    ]
    half = small.copy()
    half[2:, :16] = 0
    assert motion_steps(half)[2] == round(MOTION_STEPS * 50**0.5)
    # The largest number of grey levels fits one byte.
    assert motion_steps(np.stack([small[0], small[5]])).tolist() == [0, 255]


@pytest.mark.parametrize(
    ("fps", "shown"),
    [(24, [0, 1, 2, 3, 4, 5]), (12, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]), (48, [0, 2, 4]), (30, [0, 1, 2, 3, 5])],
)
def test_a_tick_shows_the_frame_of_its_time(fps: int, shown: list[int]) -> None:
    frames = np.stack([np.full((8, 8, 3), 40 * level, np.uint8) for level in range(6)])
    assert (small_pictures(frames, fps)[:, 0, 0] // 40).tolist() == shown


def test_pictures_come_eight_times_a_second() -> None:
    small = np.zeros((25, 32, 32), np.uint8)
    small[::3] = 1
    assert len(picture_words(small)[0]) == 9


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (4, 8, 8), (4, 8, 8, 1)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="frames must be"):
        small_pictures(np.zeros(shape, np.uint8), 24)
