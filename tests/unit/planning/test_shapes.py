"""Sizes told from the configuration against what is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from soundstage.config import load_config
from soundstage.data.shards import EncodedSample, write_shard
from soundstage.models.info import on_meta
from soundstage.planning.shapes import sample_shape


@pytest.mark.parametrize("preset", ["micro", "tiny-stride4", "ltx-video-2b"])
def test_a_samples_bytes_are_those_of_its_tar(preset: str, tmp_path: Path) -> None:
    config = load_config(preset)
    shape = sample_shape(config, on_meta(config))
    audio = {name: np.zeros(each, np.float16) for name, each in shape.audio.items()}
    about = {"key": "k" * 32, "clip_id": "c" * 64, "use": "pretrain", "caption": "x" * 40, "weight": 1.0}
    samples = [
        EncodedSample(f"{number:032x}", np.zeros(shape.latents, np.float16), audio, about) for number in range(3)
    ]
    write_shard(tmp_path / "0.tar", samples)
    # A tar ends in zeros up to a multiple of 10240 bytes; captions differ in length by less than a block or two.
    assert (tmp_path / "0.tar").stat().st_size == pytest.approx(3 * shape.shard_bytes, abs=10240 + 3 * 512)


def test_text_is_as_the_encoder_pads_it() -> None:
    for preset, text in {"micro": (48, 16), "wan2.1-t2v-1.3b": (512, 4096), "ltx-video-2b": (256, 4096)}.items():
        config = load_config(preset)
        assert sample_shape(config, on_meta(config)).text == text
