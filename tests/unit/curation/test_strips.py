"""The picture of a clip: where in it frames, clicks and flashes stand, read back from its pixels."""

import io
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from soundstage.curation.strips import draw_strip
from soundstage.media.decode import DecodedClip
from tests.unit.curation.makers import FPS, RATE, clicks, pulses

DURATION = 4.0


def _clip(times: list[float]) -> DecodedClip:
    grey = pulses(times, DURATION, size=96)
    return DecodedClip(np.repeat(grey[..., None], 3, axis=3), Fraction(FPS), clicks(times, DURATION), RATE)


def _pixels(png: bytes) -> NDArray[np.int64]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.int64)


def _highest(pixels: NDArray[np.int64], colour: tuple[int, int, int]) -> float:
    """Time in seconds of the highest point of the curve in this colour, below the frames."""
    near = np.abs(pixels[96:] - np.array(colour)).sum(axis=2) < 60
    rows, columns = np.nonzero(near)
    top = columns[rows <= rows.min() + 1]
    return float(top.mean() / pixels.shape[1] * DURATION)


def test_frames_stand_in_order_above_their_time() -> None:
    clip = _clip([1.0])
    pixels = _pixels(draw_strip(clip))
    assert pixels.shape == (96 + 64, 8 * 96, 3)
    for i in range(8):
        shown = clip.frames[int((i + 0.5) * len(clip.frames) / 8)].astype(np.int64)
        assert np.abs(pixels[:96, 96 * i + 1 : 96 * (i + 1)] - shown[:, 1:]).mean() < 3  # a palette of 256 colours


def test_onset_and_motion_peak_where_the_event_is() -> None:
    for event in (1.0, 2.8):
        pixels = _pixels(draw_strip(_clip([event])))
        assert abs(_highest(pixels, (31, 111, 208)) - event) < 0.05
        assert abs(_highest(pixels, (216, 110, 0)) - event) < 0.05


def test_a_corrected_sound_is_drawn_where_the_correction_puts_it() -> None:
    pixels = _pixels(draw_strip(_clip([2.0]), audio_shift_sec=0.5))
    assert abs(_highest(pixels, (31, 111, 208)) - 2.5) < 0.05
    assert abs(_highest(pixels, (216, 110, 0)) - 2.0) < 0.05


def test_noise_of_a_still_picture_is_no_motion() -> None:
    rng = np.random.default_rng(0)
    noise = (100 + (rng.random((96, 96, 96)) < 0.0002)).astype(np.uint8)
    clip = DecodedClip(np.repeat(noise[..., None], 3, axis=3), Fraction(FPS), clicks([1.0], DURATION), RATE)
    rows, _ = np.nonzero(np.abs(_pixels(draw_strip(clip))[96:] - np.array((216, 110, 0))).sum(axis=2) < 60)
    assert rows.min() > 32  # under half of the height


def test_silence_and_a_single_frame_can_be_drawn_and_bytes_repeat() -> None:
    still = DecodedClip(np.full((1, 80, 60, 3), 99, np.uint8), Fraction(24), np.zeros(0, np.float32), RATE)
    assert _pixels(draw_strip(still)).shape == (144, 480, 3)
    assert draw_strip(_clip([1.0])) == draw_strip(_clip([1.0]))
