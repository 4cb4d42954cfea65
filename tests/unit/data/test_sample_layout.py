"""A sample's arrays are those that `tarfile` and numpy find, whether its layout is known already or not."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import torch

from soundstage.data.sample_layout import layout_of
from soundstage.data.shards import EncodedSample, ShardReader, locate_samples, write_shard

from .sharding import FINGERPRINTS, sample, write_payload


def blocks(folder: Path, samples: list[EncodedSample]) -> list[bytearray]:
    """Tar blocks of samples."""
    write_shard(folder / "0.tar", samples)
    data = (folder / "0.tar").read_bytes()
    return [bytearray(data[offset : offset + size]) for offset, size in locate_samples(folder / "0.tar").values()]


def reference(data: bytearray, key: str) -> dict[str, torch.Tensor]:
    """By tarfile and numpy alone."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            if member.name.endswith(".npy"):
                content = archive.extractfile(member)
                assert content is not None
                array = np.load(io.BytesIO(content.read()))
                found[member.name[len(key) + 1 : -4]] = torch.from_numpy(array.astype(np.float32))
    return found


def alike(number: int) -> EncodedSample:
    """With the shapes of sample 0."""
    first, other = sample(0), sample(number)
    rng = np.random.default_rng(number)
    audio = {name: rng.normal(size=array.shape).astype(np.float16) for name, array in first.audio.items()}
    return EncodedSample(other.key, other.latents, audio, other.about)


def test_a_layout_serves_all_samples_that_are_laid_out_alike(tmp_path: Path) -> None:
    samples = [alike(number) for number in range(4)]
    layout = None
    for item, data in zip(samples, blocks(tmp_path, samples), strict=True):
        layout = layout or layout_of(data, item.key)
        assert layout.fits(data, item.key)
        tensors, wanted = layout.tensors(data), reference(data, item.key)
        assert tensors.keys() == wanted.keys() == {"latents", "audio.ast", "audio.mel"}
        assert all(torch.equal(tensors[name], wanted[name]) for name in wanted)


def test_another_key_length_or_shape_is_not_taken_for_it(tmp_path: Path) -> None:
    first, longer = sample(0), sample(9)
    turned = EncodedSample(first.key, first.latents.transpose(0, 1, 3, 2)[:, :, :4], first.audio, first.about)
    other_encoder = EncodedSample(first.key, first.latents, {"mel": first.audio["mel"], "yam": first.audio["ast"]}, {})
    made = (first, longer, turned, other_encoder)
    data, long, flat, named = (blocks(tmp_path / str(n), [item])[0] for n, item in enumerate(made))
    layout = layout_of(data, first.key)
    assert layout.fits(data, first.key)
    assert not layout.fits(data, longer.key)
    assert not layout.fits(long, longer.key)
    assert not layout.fits(flat, first.key)
    assert not layout.fits(named, first.key)


def test_samples_of_two_shapes_in_one_bucket_are_read_right(tmp_path: Path) -> None:
    samples = [alike(0), sample(5), alike(2), sample(7)]
    write_payload(tmp_path, samples)
    reader = ShardReader(tmp_path, FINGERPRINTS, {"pretrain"})
    for position, item in enumerate(sorted(samples, key=lambda item: item.key)):
        latents, audio = reader.read(position)
        assert torch.equal(latents, torch.from_numpy(item.latents).float())
        assert all(torch.equal(audio[name], torch.from_numpy(array).float()) for name, array in item.audio.items())
