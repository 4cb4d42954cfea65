"""How time and memory of the search for near-duplicates grow with the corpus.

Fingerprints are made up, 8 s each, since 100 000 videos cannot be: half of the pictures show one of 500 looks, as in
a corpus of few kinds of things, a fifth of the sound words come from a common vocabulary, and motion comes in bursts.
One clip in ten is a copy: trimmed to 55..100 %, with a tenth of its sound bits and a twentieth of its picture bits
turned. Each size is searched in a process of its own, whose peak memory is told beside the time.

    python benchmarks/duplicates.py [--clips 1000 10000 100000] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from environment import describe_environment
from numpy.typing import NDArray

from soundstage.config.tree import SplitConfig
from soundstage.data.duplicates.clusters import find_duplicates
from soundstage.data.duplicates.fingerprint import FINGERPRINT_VERSION, Fingerprint
from soundstage.data.duplicates.links import find_links
from soundstage.data.duplicates.table import read_fingerprints
from soundstage.data.records import FINGERPRINTS

SECONDS = 8
SOUND, PICTURE, MOTION = 25 * SECONDS, 8 * SECONDS, 24 * SECONDS
COPIES = 10
_ROWS = 5_000


def synthetic_print(seed: int, index: int, looks: NDArray[np.uint64], vocabulary: NDArray[np.uint32]) -> Fingerprint:
    """Fingerprint of an original; the same seed and index give the same."""
    rng = np.random.default_rng([seed, index])
    sound = rng.integers(1, 1 << 32, SOUND, dtype=np.uint32)
    common = rng.random(SOUND) < 0.2
    sound[common] = rng.choice(vocabulary, int(common.sum()))
    look = looks[rng.integers(len(looks))] if rng.random() < 0.5 else rng.integers(0, 1 << 63, dtype=np.uint64)
    picture = look ^ turned(rng, PICTURE, 8, 0.02).view("<u8")[:, 0]
    motion = rng.integers(0, 4, MOTION, dtype=np.uint8)
    starts = np.cumsum(7 + rng.exponential(9.0, 40)).astype(int)
    for start in starts[starts < MOTION - 2]:
        motion[start : start + 2] = rng.integers(30, 40)
    return Fingerprint(sound, picture, np.full(PICTURE, (1 << 64) - 1, np.uint64), motion)


def turned(rng: np.random.Generator, ticks: int, width: int, share: float) -> NDArray[np.uint8]:
    """Random bits, one with probability `share`: (ticks, width) bytes."""
    return np.packbits(rng.random((ticks, 8 * width)) < share, axis=1)


def copy_of(original: Fingerprint, rng: np.random.Generator) -> Fingerprint:
    """A part of the original with turned bits, cut at whole eighths of a second."""
    kept = int(rng.integers(round(0.55 * PICTURE), PICTURE + 1))
    first = int(rng.integers(0, PICTURE - kept + 1))
    sound = original.sound[round(first * 25 / 8) : round((first + kept) * 25 / 8)]
    picture = original.picture[first : first + kept]
    return Fingerprint(
        np.maximum(sound ^ turned(rng, len(sound), 4, 0.1).view("<u4")[:, 0], 1),
        picture ^ turned(rng, kept, 8, 0.05).view("<u8")[:, 0],
        original.picture_sure[first : first + kept],
        original.motion[3 * first : 3 * (first + kept)],
    )


def write_corpus(path: Path, clips: int, seed: int = 0) -> dict[str, str]:
    """Write FINGERPRINTS of `clips` clips; returns the original of each copy."""
    rng = np.random.default_rng([seed, 1 << 40])
    looks = rng.integers(0, 1 << 63, 500, dtype=np.uint64)
    vocabulary = rng.integers(1, 1 << 32, 2000, dtype=np.uint32)
    copies = clips // COPIES
    originals = rng.permutation(clips - copies)[:copies]
    names = [f"{number:064x}" for number in rng.permutation(clips)]
    with pq.ParquetWriter(path, FINGERPRINTS) as writer:
        for at in range(0, clips, _ROWS):
            rows = []
            for index in range(at, min(at + _ROWS, clips)):
                copied = index - (clips - copies)
                base = int(originals[copied]) if copied >= 0 else index
                made = synthetic_print(seed, base, looks, vocabulary)
                made = copy_of(made, rng) if copied >= 0 else made
                rows.append({"clip_id": names[index], "version": FINGERPRINT_VERSION, **made.to_bytes()})
            writer.write_table(pa.Table.from_pylist(rows, schema=FINGERPRINTS))
    return {names[clips - copies + place]: names[original] for place, original in enumerate(originals)}


def search(path: Path, names: list[str]) -> dict[str, object]:
    """Search a corpus; runs in a fresh process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    prints = read_fingerprints(path, names)
    read = time.perf_counter()
    links = find_links(prints, np.arange(len(names)), SplitConfig())
    linked = time.perf_counter()
    rows = [
        {"clip_id": name, "source_sha256": name, "source_uri": name, "start_us": 0, "width": 96, "height": 96}
        | {"duration_us": len(prints.motion[index]) * 41_667}
        for index, name in enumerate(names)
    ]
    found = find_duplicates(rows, prints, links, SplitConfig())
    done = time.perf_counter()
    return {
        "read_sec": round(read - start, 2),
        "links_sec": round(linked - read, 2),
        "duplicates_sec": round(done - linked, 2),
        "fingerprints_mib": round(sum(part.values.nbytes for part in vars(prints).values()) / 2**20, 1),
        "peak_mib_above_start": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10, 1),
        "pairs": [(names[each.clip], names[each.kept]) for each in found],
    }


def measure(clips: int, folder: Path) -> dict[str, object]:
    """Figures of one corpus size."""
    path = folder / f"{clips}.parquet"
    planted = set(write_corpus(path, clips).items())
    names = sorted(pq.read_table(path, columns=["clip_id"]).column(0).to_pylist())
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        result = pool.submit(search, path, names).result()
    # Of an uncut copy and its original either may be kept.
    same = {frozenset(pair) for pair in planted}
    found = {frozenset(pair) for pair in result.pop("pairs")}  # type: ignore[attr-defined]
    return {
        "clips": clips,
        "planted": len(same),
        "recall": round(len(found & same) / len(same), 4),
        "precision": round(len(found & same) / max(1, len(found)), 4),
        **result,
    }


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for clips in arguments.clips:
            results.append(measure(clips, Path(folder)))
            print(json.dumps(results[-1]), file=sys.stderr)
    text = json.dumps({"environment": describe_environment(), "results": results}, indent=2)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
