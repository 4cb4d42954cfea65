import numpy as np
import pytest
from numpy.typing import NDArray

from soundstage.curation.signals import count_cuts
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
