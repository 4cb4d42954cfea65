"""The loaders that the feed's benchmark compares; each opens its files anew and starts at any batch of an epoch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import webdataset
from feed_data import SAMPLE_RATE, WINDOW, reader_of

from soundstage.config.tree import TrainConfig
from soundstage.data.shards import ShardReader
from soundstage.data.windows import window_frames, window_sound
from soundstage.media.decode import decode_clip
from soundstage.training import feed as our
from soundstage.training.order import Order, by_bucket

BATCH = 16
TRAIN = TrainConfig(global_batch=BATCH, micro_batch=BATCH)
SHUFFLED = 256
Batches = Iterator[Any]


class Data(NamedTuple):
    """Where the samples and the clips lie, and how many processes a loader that has some gets."""

    samples: Path
    clips: Path
    workers: int


def feed_batches(data: Data, start: int) -> Batches:
    """Our feed, from batch `start` to the end of the epoch."""
    reader = reader_of(data.samples)
    for _, batches in our.Feed(reader, TRAIN).steps(start, len(reader) // BATCH):
        yield batches[0].latents


def sample_batches(data: Data, start: int) -> Batches:
    """The feed's samples without noise: latents and features stacked."""
    reader = reader_of(data.samples)
    with ThreadPoolExecutor(our._READERS) as readers:
        reading = (readers.map(reader.read, chosen) for chosen in _order(reader, start))
        yield from our.prefetch(map(_stacked, our.ahead(reading, 1)), our.STEPS_AHEAD)


def _stacked(samples: Iterable[tuple[torch.Tensor, dict[str, torch.Tensor]]]) -> torch.Tensor:
    found = list(samples)
    torch.stack([audio["mel"] for _, audio in found])
    return torch.stack([latents for latents, _ in found])


def _order(reader: ShardReader, start: int) -> Iterator[list[int]]:
    """Indices of the samples of each batch, as the feed orders them."""
    order = Order(TRAIN.seed, BATCH, by_bucket(reader.rows, weighted=False))
    for batch in range(start, len(reader) // BATCH):
        yield [order.at(batch * BATCH + n).sample for n in range(BATCH)]


def read_batches(data: Data, start: int, threads: int) -> Batches:
    """The bytes of the feed's samples, nothing done to them."""
    reader = reader_of(data.samples)
    files = {name: os.open(data.samples / name, os.O_RDONLY) for name in {row["shard"] for row in reader.rows}}

    def read(index: int) -> int:
        row = reader.rows[index]
        return len(os.pread(files[row["shard"]], row["size"], row["offset"]))

    try:
        with ThreadPoolExecutor(threads) as readers:
            reading = (readers.map(read, chosen) for chosen in _order(reader, start))
            yield from our.prefetch(map(list, our.ahead(reading, 1)), our.STEPS_AHEAD)
    finally:
        for descriptor in files.values():
            os.close(descriptor)


def webdataset_batches(data: Data, start: int) -> Batches:
    """A plain `webdataset` loader; it has no way to a later sample but past the earlier ones."""
    urls = sorted(str(path) for path in data.samples.glob("shards/*.tar"))
    samples = webdataset.WebDataset(urls, shardshuffle=len(urls), detshuffle=True, seed=0, empty_check=False)
    # Its plain shuffle draws from the time: what follows a restart would be any samples.
    shuffled = (
        samples.compose(webdataset.detshuffle(SHUFFLED, seed=0)).decode().to_tuple("latents.npy", "audio.mel.npy")
    )
    batches = shuffled.map(_widened).batched(BATCH, collation_fn=_stacked, partial=False)
    yield from islice(webdataset.WebLoader(batches, batch_size=None, num_workers=data.workers), start, None)


def _widened(sample: tuple[Any, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    latents, mel = (torch.from_numpy(array).float() for array in sample)
    return latents, {"mel": mel}


class Clips(torch.utils.data.Dataset[torch.Tensor]):
    """Windows of clips, decoded."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.glob("*.mp4"))

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        clip = decode_clip(self._paths[index])
        start = float(np.random.default_rng(index).uniform(0, 0.9))
        window_sound(clip, start, 0.0, WINDOW, SAMPLE_RATE)
        return torch.from_numpy(window_frames(clip, start, WINDOW)).float() / 127.5 - 1.0


def decoded_batches(data: Data, start: int) -> Batches:
    """Clips decoded in worker processes."""
    torch.manual_seed(0)
    clips = Clips(data.clips)
    order = torch.randperm(len(clips))[start * BATCH :].tolist()
    workers = {"num_workers": data.workers, "drop_last": True}
    yield from torch.utils.data.DataLoader(clips, BATCH, sampler=order, **workers)


READERS = our._READERS
LOADERS: dict[str, Callable[[Data, int], Batches]] = {
    "feed": feed_batches,
    "samples": sample_batches,
    "webdataset": webdataset_batches,
    "decode": decoded_batches,
    "preads": partial(read_batches, threads=our._READERS),
    "pread": partial(read_batches, threads=1),
}
