"""The loaders that the feed's benchmark compares read the same samples, from any batch on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from feed import forget, read_through, summary
from feed_data import CLIP_SEC, WINDOW, reader_of, write_clips, write_samples
from feed_loaders import BATCH, LOADERS, Clips, Data

COUNT = 3 * BATCH


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    made = Data(tmp_path_factory.mktemp("samples"), tmp_path_factory.mktemp("clips"), workers=0)
    write_samples(made.samples, COUNT, latents=(2, 3, 4, 4))
    return made


def read(name: str, data: Data, start: int) -> list[torch.Tensor]:
    """The samples of a loader, one by one."""
    return [sample for batch in LOADERS[name](data, start) for sample in batch]


@pytest.mark.parametrize("name", ["feed", "samples", "webdataset"])
def test_a_pass_is_every_sample_once(data: Data, name: str) -> None:
    reader = reader_of(data.samples)
    stored = torch.stack([reader.read(index)[0] for index in range(COUNT)])
    found = torch.stack(read(name, data, 0))
    assert torch.equal(*(torch.stack(sorted(each, key=lambda one: float(one.sum()))) for each in (found, stored)))
    whole = read(name, data, 0)
    assert torch.equal(torch.stack(read(name, data, 2)), torch.stack(whole[2 * BATCH :]))


def test_our_loaders_have_one_order(data: Data) -> None:
    assert torch.equal(torch.stack(read("feed", data, 1)), torch.stack(read("samples", data, 1)))


@pytest.mark.parametrize("name", ["preads", "pread"])
def test_the_disk_gives_the_bytes_of_the_samples(data: Data, name: str) -> None:
    sizes = [size for batch in LOADERS[name](data, 1) for size in batch]
    assert len(sizes) == COUNT - BATCH
    assert set(sizes) == {row["size"] for row in reader_of(data.samples).rows}


def test_a_decoded_sample_is_a_window(data: Data) -> None:
    write_clips(data.clips, 1)
    sample = Clips(data.clips)[0]
    assert sample.shape == (WINDOW.num_frames, *WINDOW.frame_size, 3)
    assert WINDOW.num_frames / WINDOW.fps + 0.9 <= CLIP_SEC
    # The texture drifts 4 pixels a frame of the clip, of which the window takes every or every other one.
    first, second = (sample[frame].numpy() for frame in (0, 1))
    unlike = [np.abs(second[:, :-moved] - first[:, moved:]).mean() for moved in (4, 8)]
    assert min(unlike) < 0.5 * np.abs(second - first).mean()


def test_files_can_be_forgotten_and_read_again(data: Data) -> None:
    files = sorted(path for path in data.samples.rglob("*") if path.is_file())
    before = [path.read_bytes() for path in files]
    forget(files)
    read_through(files)
    assert [path.read_bytes() for path in files] == before


def test_ratios_are_taken_within_a_round() -> None:
    rates = {"feed": [30.0, 90.0, 10.0], "decode": [1.0, 2.0, 1.0], "preads": [60.0, 90.0, 20.0], "pread": [1.0] * 3}
    found = {"cold": {name: {"rate": values, "first": values} for name, values in rates.items()}}
    feed = summary(found)["cold"]["feed"]
    assert feed["rate"] == {"median": 30.0, "low": 10.0, "high": 90.0}
    assert feed["over_preads"] == {"median": 0.5, "low": 0.5, "high": 1.0}
    assert feed["over_decode"] == {"median": 30.0, "low": 10.0, "high": 45.0}
