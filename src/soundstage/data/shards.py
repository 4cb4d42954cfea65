"""WebDataset shards: tar files a plain `webdataset` reader understands, and an index for reading any sample at once.

A sample is some members: `KEY.latents.npy` (float16, (C, F, h, w)), for each audio encoder `KEY.audio.NAME.npy`
(float16, (T, D)), and `KEY.json`, which carries the SHA-256 of the arrays' files: a tar has checksums of its headers.
Text embeddings and their masks stand once per caption in `text.safetensors`. Where each encoder's features lie in time
stands in `index.json`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from ..config.tree import WindowConfig
from ..errors import DataError
from ..stages.files import atomic_path, sha256_file, write_json
from .records import SHARD_SAMPLES, read_table

INDEX_FILE, SAMPLES_FILE, TEXT_FILE = "index.json", "samples.parquet", "text.safetensors"
NULL_CAPTION = ""
_TAR_BLOCK = 512


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
            about = sample.about | {"sha256": _sha256(files)}
            writer.write({"__key__": sample.key, **files, "json": json.dumps(about, sort_keys=True).encode()})


def _sha256(files: Mapping[str, bytes]) -> str:
    """Hash of a sample's arrays, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name])
    return digest.hexdigest()


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
            place = {"shard": f"shards/{path.name}", "offset": offset, "size": size}
            rows.append(sample.about | place | {"sha256": hashlib.sha256(stream.read(size)).hexdigest()})
    return rows


def write_text(path: Path, embeddings: torch.Tensor, mask: torch.Tensor) -> None:
    """Write embeddings (N, L, D) of distinct captions and their masks (N, L); `index.json` holds the captions."""
    with atomic_path(path) as temporary:
        save_file({"embeddings": embeddings.contiguous(), "mask": mask.contiguous()}, temporary)


def write_index(folder: Path, shards: list[Path], samples: dict[str, int], about: dict[str, Any]) -> None:
    """Write `index.json`: each shard by its hash, and what the samples were made with."""
    rows = [
        {"shard": f"shards/{p.name}", "samples": samples[p.name], "bytes": p.stat().st_size, "sha256": sha256_file(p)}
        for p in shards
    ]
    write_json(folder / INDEX_FILE, {"shards": rows, **about})


class ShardReader:
    """Any sample of an encode payload by its position in the index.

    Raises:
        DataError: made with other encoders than `fingerprints` says, or a shard whose size is not the index's.
    """

    def __init__(self, folder: Path, fingerprints: dict[str, str], uses: set[str]) -> None:
        self._folder = folder
        self.index: dict[str, Any] = json.loads((folder / INDEX_FILE).read_text())
        self._refuse_stale(fingerprints)
        rows = read_table(folder / SAMPLES_FILE, SHARD_SAMPLES)
        self.rows = sorted((row for row in rows if row["use"] in uses), key=lambda row: str(row["key"]))
        self.windows = {name: WindowConfig(**window) for name, window in self.index["buckets"].items()}
        self._descriptors: dict[str, int] = {}
        self._caption_index = {caption: index for index, caption in enumerate(self.index["captions"])}
        self._text = load_file(folder / TEXT_FILE)

    def _refuse_stale(self, fingerprints: dict[str, str]) -> None:
        made_with = self.index["fingerprints"]
        if made_with != fingerprints:
            differing = sorted(k for k in made_with | fingerprints if made_with.get(k) != fingerprints.get(k))
            raise DataError(
                f"shards in {self._folder} were encoded with another {', '.join(differing)} than the model uses; "
                "rerun `soundstage encode`"
            )
        for shard in self.index["shards"]:
            path = self._folder / shard["shard"]
            found = path.stat().st_size if path.exists() else None
            if found != shard["bytes"]:
                raise DataError(
                    f"shard {path} has {found} bytes, the index says {shard['bytes']}; rerun `soundstage encode`"
                )

    def __len__(self) -> int:
        return len(self.rows)

    def text(self, caption: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Embedding (L, D) and mask (L,) of a caption that the index holds."""
        index = self._caption_index[caption]
        return self._text["embeddings"][index], self._text["mask"][index]

    def read(self, position: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Latents (C, F, h, w) and each encoder's audio features (T, D) of a sample, float32.

        Raises:
            DataError: the bytes there are not that sample, or not those that were written.
        """
        row = self.rows[position]
        data = os.pread(self._descriptor(row["shard"]), row["size"], row["offset"])
        try:
            latents, audio = _unpack(data, row["key"])
        except (tarfile.TarError, KeyError, ValueError) as error:
            raise DataError(
                f"shard {row['shard']} at {row['offset']}: sample {row['key']} of clip {row['clip_id']} is not there "
                f"({error}); the shard was altered: rerun `soundstage encode`"
            ) from error
        heard = {name: torch.from_numpy(features.astype(np.float32)) for name, features in audio.items()}
        return torch.from_numpy(latents.astype(np.float32)), heard

    def _descriptor(self, shard: str) -> int:
        if shard not in self._descriptors:
            self._descriptors[shard] = os.open(self._folder / shard, os.O_RDONLY)
        return self._descriptors[shard]

    def close(self) -> None:
        """Close the shards."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()


def _unpack(data: bytes, key: str) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """Latents and audio of the sample `key` from its tar blocks; ValueError or KeyError when they are not its own."""
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None:
                members[member.name.removeprefix(f"{key}.")] = content.read()
    stated = json.loads(members.pop("json"))["sha256"]
    if _sha256(members) != stated:
        raise ValueError("its bytes do not have the hash written beside them")
    arrays = {name.removesuffix(".npy"): np.load(io.BytesIO(content)) for name, content in members.items()}
    latents = arrays.pop("latents")
    return latents, {name.removeprefix("audio."): array for name, array in arrays.items()}
