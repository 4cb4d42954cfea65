import random

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from soundstage.curation.signals import count_learned_cuts


def _scene(seed: int, frames: int = 25) -> NDArray[np.uint8]:
    """(T, 27, 48, 3): blocks of colour, over which a bright square moves."""
    blocks = np.random.default_rng(seed).integers(0, 255, (3, 6, 3))
    background = np.kron(blocks, np.ones((9, 8, 1)))
    pictures = np.repeat(background[None], frames, axis=0)
    for i, picture in enumerate(pictures):
        picture[9:15, i : i + 6] = 240
    return pictures.astype(np.uint8)


def _dissolve(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.uint8]:
    share = np.clip(np.arange(len(first)) / (len(first) - 1), 0, 1)[:, None, None, None]
    return np.asarray(first * (1 - share) + second * share).astype(np.uint8)


def test_hard_cuts_are_counted_and_dissolves_are_not() -> None:
    # Fifty frames: one window of the network, which takes its second.
    shots = [_scene(1, 14), _scene(2, 12), _dissolve(_scene(2, 12), _scene(3, 12)), _scene(3, 12)]
    assert count_learned_cuts(np.concatenate(shots)) == 1


def test_one_shot_has_no_cut_and_the_process_is_left_as_it_was() -> None:
    """The package's own constructor seeds every generator and switches torch to deterministic algorithms."""
    random.seed(5)
    torch.manual_seed(5)
    before = random.getstate(), torch.get_rng_state(), torch.get_num_threads()
    assert count_learned_cuts(_scene(1, 40)) == 0
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert torch.get_num_threads() == before[2]


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(T>0, 27, 48, 3\), found \(4, 48, 27, 3\)"):
        count_learned_cuts(np.zeros((4, 48, 27, 3), np.uint8))
