"""Shards: equal bytes for equal samples, readable by webdataset, refused when stale or altered."""

from __future__ import annotations

import io
import json
import resource
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset

from soundstage.data.records import SHARD_SAMPLES, read_table
from soundstage.data.shards import ShardReader, write_shard
from soundstage.errors import DataError

from .sharding import FINGERPRINTS, sample, write_payload

Alter = Callable[[bytearray, dict[str, tarfile.TarInfo]], None]


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    write_payload(tmp_path, [sample(n, "validation" if n == 5 else "pretrain") for n in range(7)])
    return tmp_path


def test_equal_samples_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_shard(tmp_path / name / "0.tar", [sample(0), sample(1)])
    assert (tmp_path / "a" / "0.tar").read_bytes() == (tmp_path / "b" / "0.tar").read_bytes()


def test_plain_webdataset_reads_what_we_wrote(payload: Path) -> None:
    urls = sorted(str(path) for path in (payload / "shards").glob("*.tar"))
    assert len(urls) == 3
    found = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [item["__key__"] for item in found] == [sample(n).key for n in range(7)]
    for number, item in enumerate(found):
        wanted = sample(number)
        assert np.array_equal(np.load(io.BytesIO(item["latents.npy"])), wanted.latents)
        assert {name for name in item if name.startswith("audio.")} == {"audio.mel.npy", "audio.ast.npy"}
        for name, features in wanted.audio.items():
            found_features = np.load(io.BytesIO(item[f"audio.{name}.npy"]))
            assert found_features.dtype == np.float16
            assert np.array_equal(found_features, features)
        assert json.loads(item["json"]).items() >= {"clip_id": f"clip{number}", "caption": "a lamp"}.items()


def test_a_decoding_webdataset_pipeline_gives_arrays(payload: Path) -> None:
    urls = sorted(str(path) for path in (payload / "shards").glob("*.tar"))
    fields = ("latents.npy", "audio.mel.npy", "audio.ast.npy", "json")
    found = list(webdataset.WebDataset(urls, shardshuffle=False).decode().to_tuple(*fields))
    assert len(found) == 7
    for number, (latents, mel, ast, about) in enumerate(found):
        wanted = sample(number)
        assert np.array_equal(latents, wanted.latents)
        assert np.array_equal(mel, wanted.audio["mel"])
        assert np.array_equal(ast, wanted.audio["ast"])
        assert about["key"] == wanted.key


def test_any_sample_is_read_at_once(payload: Path) -> None:
    reader = ShardReader(payload, FINGERPRINTS, {"pretrain", "validation"})
    assert len(reader) == 7
    for position in (6, 0, 3, 3):
        latents, audio = reader.read(position)
        wanted = sample(position)
        assert torch.equal(latents, torch.from_numpy(wanted.latents).float())
        assert audio.keys() == wanted.audio.keys()
        for name, features in audio.items():
            assert latents.dtype == features.dtype == torch.float32
            assert torch.equal(features, torch.from_numpy(wanted.audio[name]).float())
    embedding, mask = reader.text("a lamp")
    assert embedding[0, 0] == 12
    assert mask.tolist() == [True, True, False]
    reader.close()


def test_a_reader_sees_its_uses_alone(payload: Path) -> None:
    assert [row["clip_id"] for row in ShardReader(payload, FINGERPRINTS, {"validation"}).rows] == ["clip5"]
    assert len(ShardReader(payload, FINGERPRINTS, {"finetune"})) == 0


def test_other_encoders_are_refused_by_name(payload: Path) -> None:
    with pytest.raises(DataError, match="were encoded with another audio than the model uses"):
        ShardReader(payload, FINGERPRINTS | {"audio": "a2"}, {"pretrain"})
    with pytest.raises(DataError, match="another text than"):
        ShardReader(payload, FINGERPRINTS | {"text": "t"}, {"pretrain"})


def test_a_payload_of_another_version_is_refused(payload: Path) -> None:
    index = json.loads((payload / "index.json").read_text())
    del index["buckets"], index["tables"]
    (payload / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"index\.json says nothing of buckets, tables: another version .* rerun"):
        ShardReader(payload, FINGERPRINTS, {"pretrain"})


def test_a_shard_of_another_size_is_refused_by_name(payload: Path) -> None:
    path = payload / "shards" / "000001.tar"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(DataError, match=rf"000001\.tar has {size - 512} bytes, the index says {size}"):
        ShardReader(payload, FINGERPRINTS, {"pretrain"})
    path.unlink()
    with pytest.raises(DataError, match=r"000001\.tar has None bytes"):
        ShardReader(payload, FINGERPRINTS, {"pretrain"})


@pytest.mark.parametrize("part", ["name", "latents", "mel", "ast"])
def test_an_altered_byte_is_refused_by_sample_and_clip(payload: Path, part: str) -> None:
    row = read_table(payload / "samples.parquet", SHARD_SAMPLES)[4]
    path = payload / row["shard"]
    data = bytearray(path.read_bytes())
    wanted = sample(4)
    places = {"name": row["offset"], "latents": data.index(wanted.latents.tobytes(), row["offset"]) + 11}
    places |= {name: data.index(item.tobytes(), row["offset"]) + 100 for name, item in wanted.audio.items()}
    data[places[part]] ^= 0x01
    path.write_bytes(bytes(data))
    reader = ShardReader(payload, FINGERPRINTS, {"pretrain", "validation"})
    with pytest.raises(DataError, match=rf"sample {row['key']} of clip clip4 .* rerun `soundstage encode`"):
        reader.read(4)
    reader.read(3)
    reader.read(5)


@pytest.mark.parametrize("name", ["samples.parquet", "text.safetensors"])
def test_tables_of_another_run_are_refused_by_name(payload: Path, name: str) -> None:
    other = payload / "other"
    write_payload(other, [sample(n) for n in range(8)])
    extra = b"" if name == "samples.parquet" else b" "
    (payload / name).write_bytes((other / name).read_bytes() + extra)
    with pytest.raises(
        DataError, match=rf"{name} .*(the index says|that the index states).* rerun `soundstage encode`"
    ):
        ShardReader(payload, FINGERPRINTS, {"pretrain"})


def test_threads_read_more_shards_than_files_may_be_open(tmp_path: Path) -> None:
    count = 300
    write_payload(tmp_path, [sample(n) for n in range(count)], per_shard=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 280, hard))
    try:
        reader = ShardReader(tmp_path, FINGERPRINTS, {"pretrain"})
        positions = [*range(count), *range(count)]
        with ThreadPoolExecutor(8) as threads:
            for position, (latents, _) in zip(positions, threads.map(reader.read, positions), strict=True):
                assert torch.equal(latents, torch.from_numpy(sample(position).latents).float())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    reader.close()
    assert len(list(Path("/proc/self/fd").iterdir())) <= used


def exchanged(data: bytearray, members: dict[str, tarfile.TarInfo]) -> None:
    """The coarse features of clips 3 and 4 change places; both have the same length."""
    one, other = (members[f"{sample(n).key}.audio.ast.npy"] for n in (3, 4))
    first, second = (bytes(data[m.offset_data :][: m.size]) for m in (one, other))
    for member, content in ((one, second), (other, first)):
        data[member.offset_data : member.offset_data + member.size] = content


def renamed(data: bytearray, members: dict[str, tarfile.TarInfo]) -> None:
    """The coarse features of clip 4 stand under another encoder's name, in a header with the right checksum."""
    member = members[f"{sample(4).key}.audio.ast.npy"]
    member.name = f"{sample(4).key}.audio.yam.npy"
    data[member.offset_data - 512 : member.offset_data] = member.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("alter", [exchanged, renamed])
def test_sound_members_that_are_not_those_written_are_refused(payload: Path, alter: Alter) -> None:
    path = payload / "shards" / "000001.tar"
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        alter(data, {member.name: member for member in archive.getmembers()})
    path.write_bytes(bytes(data))
    assert len(list(webdataset.WebDataset(str(path), shardshuffle=False).decode())) == 3, "a tar that others read"
    reader = ShardReader(payload, FINGERPRINTS, {"pretrain", "validation"})
    with pytest.raises(DataError, match=rf"000001\.tar at \d+: sample {sample(4).key} of clip clip4 has SHA-256 "):
        reader.read(4)
    reader.read(5)


def test_the_index_names_every_shard_by_its_hash(payload: Path) -> None:
    import hashlib

    shards = json.loads((payload / "index.json").read_text())["shards"]
    assert [shard["samples"] for shard in shards] == [3, 3, 1]
    for shard in shards:
        data = (payload / shard["shard"]).read_bytes()
        assert (shard["bytes"], shard["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
