"""Copies of procedural clips, coded again, resized, recoloured and trimmed, are found among their likes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from soundstage.config.tree import SplitConfig
from soundstage.data.duplicates.fingerprint import Fingerprints
from soundstage.data.duplicates.links import find_links

from .makers import coded_copy, world_clip

CLEAN, COPIES = 64, 16


@pytest.mark.parametrize("seed", [1, 2])
def test_copies_are_found_and_class_mates_are_not(tmp_path: Path, seed: int) -> None:
    clips = [world_clip(seed, index) for index in range(CLEAN)]
    originals = np.random.default_rng([seed, 0]).permutation(CLEAN)[:COPIES].tolist()
    prints = [clip.fingerprint() for clip in clips]
    for number, original in enumerate(originals):
        prints.append(coded_copy(clips[original], tmp_path / f"{number}.mp4", np.random.default_rng([seed, 1, number])))
    links = find_links(Fingerprints.of(prints), np.arange(len(prints)), SplitConfig())
    found = {(link.first, link.second) for link in links if link.relation == "same"}
    planted = {(original, CLEAN + number) for number, original in enumerate(originals)}
    assert len(found & planted) >= 0.95 * COPIES
    assert len(found & planted) >= 0.95 * len(found)
