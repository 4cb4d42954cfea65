"""Files that this project writes depend on their input alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from soundstage.config.tree import SynthConfig
from soundstage.media.encode import write_video
from soundstage.synth.scene import CATALOGUE, draw_scene


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_equal_frames_give_equal_bytes_whatever_lies_in_memory(kind: int, tmp_path: Path) -> None:
    scene = draw_scene(np.random.default_rng(kind), CATALOGUE[kind], 2.0)
    frames = scene.frames(96, SynthConfig().fps, 2.0)
    rng = np.random.default_rng(0)
    files = set()
    for attempt in range(12):
        # An encoder that reads memory it has not written gives itself away when that memory changes.
        clutter = [rng.random(int(length)) for length in rng.integers(1, 300_000, 20)]
        path = tmp_path / f"{attempt}.mp4"
        write_video(path, frames, SynthConfig().fps)
        files.add(path.read_bytes())
        del clutter
    assert len(files) == 1
