"""Facts about encoded samples, the selection they come from, and the tar files they lie in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..stages.files import sha256_file
from .findings import Fact
from .partitions import Record, Row
from .suites import TRAINING_USES

_TAR_BLOCK = 512


def shards_facts(selection: Record, samples: Record, folder: Path, content: str) -> list[Fact]:
    """Facts about encoded samples in `folder`, the payload of encode; `content` is the hash of the selection."""
    selected = pc.is_in(selection.column("use"), value_set=pa.array(TRAINING_USES))
    chosen = selection.keys("clip_id").filter(selected)
    uses = selection.column("use").filter(selected)
    encoded = samples.keys("clip_id")
    stated = uses.take(pc.index_in(encoded, value_set=chosen))
    right = pc.fill_null(pc.equal(stated, samples.column("use")), False)
    index = json.loads((folder / "index.json").read_text())
    shards = {row["shard"]: row for row in index["shards"]}
    sizes = {name: (folder / name).stat().st_size if (folder / name).is_file() else 0 for name in shards}
    counts = {item["values"]: item["counts"] for item in pc.value_counts(samples.column("shard")).to_pylist()}
    unencoded = pc.invert(pc.is_in(selection.keys("clip_id"), value_set=encoded))
    return [
        Fact(
            "shards_of_another_selection",
            "the shards were encoded from this selection: index.json states its hash",
            [] if index["selection"] == content else [f"{index['selection'][:16]}, not {content[:16]}"],
        ),
        Fact(
            "selected_without_samples",
            f"every clip selected for {', '.join(TRAINING_USES)} has samples",
            selection.names(pc.and_(selected, unencoded)),
        ),
        Fact(
            "samples_not_selected",
            "every sample is of a selected clip and has its use: nothing of the test is in the shards",
            samples.names(pc.invert(right)),
        ),
        Fact(
            "outside_their_shard",
            "every sample lies on tar blocks inside its shard",
            (r["clip_id"] for r in samples.rows("clip_id", "offset", "size", "shard") if not _inside(r, sizes)),
        ),
        Fact("overlapping", "no two samples of a shard overlap", samples.names(_overlapping(samples))),
        Fact(
            "shards_not_as_indexed",
            "every shard has the size, hash and number of samples that index.json states",
            (
                name
                for name, row in shards.items()
                if counts.get(name, 0) != row["samples"] or not _as_indexed(folder / name, row)
            ),
        ),
        Fact(
            "tables_not_as_indexed",
            "every table has the size and hash that index.json states",
            (name for name, table in index["tables"].items() if not _as_indexed(folder / name, table)),
        ),
        Fact(
            "not_of_their_shards_bucket",
            "every sample is of the bucket of its shard, whose window index.json states",
            (r["clip_id"] for r in samples.rows("clip_id", "shard", "bucket") if not _of_bucket(r, shards, index)),
        ),
    ]


def _inside(sample: Row, sizes: Mapping[str, int]) -> bool:
    end = sample["offset"] + sample["size"]
    aligned = sample["offset"] % _TAR_BLOCK == 0 and sample["size"] % _TAR_BLOCK == 0
    return bool(sample["offset"] >= 0 and aligned and end <= sizes.get(sample["shard"], 0))


def _overlapping(samples: Record) -> pa.ChunkedArray:
    """Which samples begin before the end of the one that lies before them in their shard."""
    shard = samples.column("shard").combine_chunks().dictionary_encode().indices.to_numpy()
    offset, size = (samples.column(name).to_numpy() for name in ("offset", "size"))
    order = np.lexsort((offset, shard))
    before, after = order[:-1], order[1:]
    overlap = (shard[before] == shard[after]) & (offset[before] + size[before] > offset[after])
    mask = np.zeros(len(order), bool)
    mask[after[overlap]] = True
    return pa.chunked_array([mask])


def _as_indexed(path: Path, stated: Row) -> bool:
    if not path.is_file() or path.stat().st_size != stated["bytes"]:
        return False
    return bool(sha256_file(path) == stated["sha256"])


def _of_bucket(sample: Row, shards: Mapping[str, Row], index: Row) -> bool:
    shard = shards.get(sample["shard"])
    return shard is not None and sample["bucket"] == shard["bucket"] and sample["bucket"] in index["buckets"]
