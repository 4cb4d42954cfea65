import numpy as np
import pytest
from numpy.typing import NDArray

from soundstage.curation.signals import count_cuts
from soundstage.curation.signals.cuts import find_cuts
from tests.unit.curation.makers import pulses


def _scene(seed: int, seconds: float = 1.0) -> NDArray[np.uint8]:
    return pulses([0.3, 0.8], seconds, seed=seed)


def test_each_hard_cut_is_counted_once() -> None:
    assert count_cuts(_scene(1)) == 0
    assert count_cuts(np.concatenate([_scene(1), _scene(2)])) == 1
    assert count_cuts(np.concatenate([_scene(1), _scene(2), _scene(3)])) == 2


def test_a_cut_blended_over_two_pairs_is_one_cut() -> None:
    first, second = _scene(1), _scene(2)
    blend = ((first[-1].astype(float) + second[0]) / 2).astype(np.uint8)
    assert count_cuts(np.concatenate([first, blend[None], second])) == 1


def _with_flash(frames: NDArray[np.uint8], length: int) -> NDArray[np.uint8]:
    flashed = frames.copy()
    flashed[10 : 10 + length] = 255
    return flashed


def _brighter(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    bright = frames.astype(float)
    bright[12:] = bright[12:] * 0.6 + 90
    return bright.astype(np.uint8)


def _jumping_object(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    jumped = frames.copy()
    jumped[:12, 4:24, 2:22] = 255
    jumped[12:, 20:40, 24:44] = 255
    return jumped


def _pan(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([np.roll(frames[0], 7 * max(0, min(i - 8, 8)), axis=1) for i in range(len(frames))])


@pytest.mark.parametrize(
    "make",
    [lambda f: _with_flash(f, 1), lambda f: _with_flash(f, 3), _brighter, _jumping_object, _pan],
    ids=["flash of the whole picture", "longer flash", "light goes on", "an object jumps", "a fast pan"],
)
def test_what_is_no_cut(make) -> None:  # type: ignore[no-untyped-def]
    assert count_cuts(make(_scene(1))) == 0


def test_an_uneven_frame_size_is_handled() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (2, 9, 13), dtype=np.uint8)
    assert count_cuts(np.concatenate([np.repeat(frames[:1], 8, 0), np.repeat(frames[1:], 8, 0)])) == 1


def _cut_beside_an_event(large: bool) -> NDArray[np.uint8]:
    """Two shots of which one holds a disc that turns bright two frames before the cut; it changes more than the cut."""
    first, second = np.full((12, 48, 48), 60, np.uint8), np.full((12, 48, 48), 100, np.uint8)
    size = 28 if large else 12
    first[10:, 8 : 8 + size, 8 : 8 + size] = 250
    second[:, 20:44, 30:44] = 30
    return np.concatenate([first, second])


@pytest.mark.parametrize("large", [False, True])
def test_a_thing_that_moves_beside_a_cut_does_not_hide_it(large: bool) -> None:
    assert count_cuts(_cut_beside_an_event(large)) == 1


def test_two_alike_shots_are_a_cut_and_a_new_light_over_a_moving_thing_is_none() -> None:
    rows = np.linspace(40, 90, 48)[:, None]
    first = np.repeat(np.broadcast_to(rows, (48, 48))[None], 12, axis=0).astype(np.uint8)
    second = first + np.uint8(30)
    first[:, 14:34, 10:30] = 220
    second[:, 15:35, 12:32] = 235
    assert np.corrcoef(first[0].ravel(), second[0].ravel())[0, 1] > 0.75
    assert count_cuts(np.concatenate([first, second])) == 1
    for seed in range(1, 6):
        assert count_cuts(_brighter(_scene(seed))) == 0


def test_a_cut_between_scenes_of_one_brightness_is_seen_in_colour() -> None:
    grey = np.full((24, 48, 48), 100, np.uint8)
    grey[:12, 10:20, 10:20], grey[12:, 30:40, 24:40] = 160, 40
    chroma = np.full((24, 2, 16, 16), 128, np.uint8)
    chroma[12:, 0] += 6
    assert count_cuts(grey) == 0
    assert find_cuts(grey, chroma=chroma) == [12]
    # A coloured light that goes on leaves edges and brightness as they are.
    lit = np.repeat(grey[:1], 24, axis=0)
    assert find_cuts(lit, chroma=chroma) == []
