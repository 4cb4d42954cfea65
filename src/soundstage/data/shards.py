"""WebDataset shards: tar files a plain `webdataset` reader understands, and an index for reading any sample at once.

A sample is some members: `KEY.latents.npy` (float16, (C, F, h, w)), for each audio encoder `KEY.audio.NAME.npy`
(float16, (T, D)), and `KEY.json`. `samples.parquet` says where each lies and the hash of its bytes there: a tar has
checksums of its headers alone. Text embeddings stand once per caption in `text.safetensors` (`captions`). `index.json`
tells of shards, encoders, windows, and where each encoder's features lie in time.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..config.tree import WindowConfig
from ..errors import DataError
from ..stages.files import atomic_path, sha256_file, write_json
from .captions import CaptionStore, write_captions
from .records import SHARD_SAMPLES, read_table
from .sample_layout import SampleLayout, layout_of

INDEX_FILE, SAMPLES_FILE, TEXT_FILE = "index.json", "samples.parquet", "text.safetensors"
SHARDS_FOLDER = "shards"
_ASKED_OF_INDEX = {"shards", "tables", "captions", "fingerprints", "buckets"}
NULL_CAPTION = ""
_TAR_BLOCK = 512
_OPEN_SHARDS = 256  # a large payload has more shards than a process may have open files


@dataclass(frozen=True)
class EncodedSample:
    """What encoding makes of one window."""

    key: str
    latents: NDArray[np.float16]
    audio: Mapping[str, NDArray[np.float16]]
    """by name of the encoder"""
    about: dict[str, Any]


def write_shard(path: Path, samples: Iterable[EncodedSample]) -> None:
    """Write one tar whose bytes depend on the samples alone: fixed owner, mode and time."""
    import webdataset

    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as stream,
        webdataset.TarWriter(stream, mtime=0.0, user="", group="") as writer,
    ):
        for sample in samples:
            arrays = {"latents.npy": sample.latents}
            arrays |= {f"audio.{name}.npy": sample.audio[name] for name in sorted(sample.audio)}
            files = {name: npy_bytes(array) for name, array in arrays.items()}
            writer.write({"__key__": sample.key, **files, "json": json.dumps(sample.about, sort_keys=True).encode()})


def npy_bytes(array: NDArray[Any]) -> bytes:
    """`array` as the bytes of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def locate_samples(path: Path) -> dict[str, tuple[int, int]]:
    """Offset and size in bytes of every sample of a tar, from its first header to the end of its last block."""
    spans: dict[str, tuple[int, int]] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            key = member.name.partition(".")[0]
            end = member.offset_data + -(-member.size // _TAR_BLOCK) * _TAR_BLOCK
            start = spans[key][0] if key in spans else member.offset
            spans[key] = (start, end - start)
    return spans


def shard_rows(path: Path, samples: Iterable[EncodedSample]) -> list[dict[str, Any]]:
    """Rows of `samples.parquet` for the samples of a written shard: where each lies, and its hash there."""
    rows, spans = [], locate_samples(path)
    with path.open("rb") as stream:
        for sample in samples:
            offset, size = spans[sample.key]
            stream.seek(offset)
            place = {"shard": f"{SHARDS_FOLDER}/{path.name}", "offset": offset, "size": size}
            rows.append(sample.about | place | {"sha256": hashlib.sha256(stream.read(size)).hexdigest()})
    return rows


def write_text(path: Path, embeddings: torch.Tensor, mask: torch.Tensor) -> None:
    """Write embeddings (N, L, D) of distinct captions and their masks (N, L); `index.json` holds the captions."""
    write_captions(path, zip(embeddings, mask, strict=True))


def shard_entry(path: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What `index.json` says of a written shard and its rows, which are of one bucket."""
    return {
        "shard": f"{SHARDS_FOLDER}/{path.name}",
        "samples": len(rows),
        "bytes": path.stat().st_size,
        "sha256": sha256_file(path),
        "bucket": rows[0]["bucket"],
    }


def write_index(folder: Path, shards: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Write `index.json`: each shard as `shard_entry` tells of it, the tables beside them, and `about` them all."""
    tables = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)}
        for name in (SAMPLES_FILE, TEXT_FILE)
    }
    write_json(folder / INDEX_FILE, {"shards": list(shards), "tables": tables, **about})


class ShardReader:
    """Any sample of an encode payload by its position in the index.

    Raises:
        DataError: made with other encoders than `fingerprints` says; a shard whose size is not the index's; or tables
            that are not those of the index.
    """

    def __init__(self, folder: Path, fingerprints: dict[str, str], uses: set[str]) -> None:
        self._folder = folder
        self.index: dict[str, Any] = json.loads((folder / INDEX_FILE).read_text())
        if missing := _ASKED_OF_INDEX - self.index.keys():
            raise DataError(
                f"{folder / INDEX_FILE} says nothing of {', '.join(sorted(missing))}: another version of this program "
                "wrote it; rerun `soundstage encode`"
            )
        self._refuse_other_encoders(fingerprints)
        self._refuse_altered_files()
        rows = read_table(folder / SAMPLES_FILE, SHARD_SAMPLES)
        self.rows = sorted((row for row in rows if row["use"] in uses), key=lambda row: str(row["key"]))
        self.windows = {name: WindowConfig(**window) for name, window in self.index["buckets"].items()}
        self._layouts: dict[str, SampleLayout] = {}
        self._open = lru_cache(maxsize=_OPEN_SHARDS)(lambda shard: _OpenFile(folder / shard))
        self._texts = CaptionStore(folder / TEXT_FILE, self.index["captions"])

    def _refuse_other_encoders(self, fingerprints: dict[str, str]) -> None:
        made_with = self.index["fingerprints"]
        if made_with != fingerprints:
            differing = sorted(k for k in made_with | fingerprints if made_with.get(k) != fingerprints.get(k))
            raise DataError(
                f"shards in {self._folder} were encoded with another {', '.join(differing)} than the model uses; "
                "rerun `soundstage encode`"
            )

    def _refuse_altered_files(self) -> None:
        """By size, which costs nothing; of the table that says where samples lie, and their hashes, by its own hash."""
        tables = self.index["tables"]
        sizes = {name: table["bytes"] for name, table in tables.items()}
        for name, size in [*sizes.items(), *((shard["shard"], shard["bytes"]) for shard in self.index["shards"])]:
            path = self._folder / name
            found = path.stat().st_size if path.exists() else None
            if found != size:
                raise DataError(f"{path} has {found} bytes, the index says {size}; rerun `soundstage encode`")
        if sha256_file(self._folder / SAMPLES_FILE) != tables[SAMPLES_FILE]["sha256"]:
            raise DataError(
                f"{self._folder / SAMPLES_FILE} does not have the hash that the index states: it was altered, or is of "
                "another run; rerun `soundstage encode`"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def text(self, caption: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Embedding (L, D) and mask (L,) of a caption that the index holds."""
        return self._texts.read(caption)

    def read(self, position: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Latents (C, F, h, w) and each encoder's audio features (T, D) of a sample, float32; by one read of the disk.

        Raises:
            DataError: the bytes there are not those that were written.
        """
        row = self.rows[position]
        data = self._open(row["shard"]).pread(row["size"], row["offset"])
        found = hashlib.sha256(data).hexdigest()
        if found != row["sha256"]:
            raise DataError(
                f"shard {self._folder / row['shard']} at {row['offset']}: sample {row['key']} of clip {row['clip_id']} "
                f"has SHA-256 {found[:16]}, the index says {row['sha256'][:16]}; the shard was altered: "
                "rerun `soundstage encode`"
            )
        return self._unpacked(data, row)

    def _unpacked(self, data: bytearray, row: Mapping[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Latents and audio of a sample from its tar blocks, whose hash is known to be right."""
        layout = self._layouts.get(row["bucket"])
        if layout is None or not layout.fits(data, row["key"]):
            layout = self._layouts[row["bucket"]] = layout_of(data, row["key"])
        tensors = layout.tensors(data)
        latents = tensors.pop("latents")
        return latents, {name.removeprefix("audio."): tensor for name, tensor in tensors.items()}

    def close(self) -> None:
        """Close the shards."""
        self._open.cache_clear()


class _OpenFile:
    """A file that is open until nobody holds it: a thread may read it while another one pushes it out of the cache."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)

    def pread(self, size: int, offset: int) -> bytearray:
        """`size` bytes from `offset` on; zeros after the end of the file."""
        data = bytearray(size)
        os.preadv(self._descriptor, [data], offset)
        return data

    def __del__(self) -> None:
        os.close(self._descriptor)
