"""How fast training's samples come: our feed against a plain `webdataset` loader, a decoding loader, and the disk.

One run, interleaved: every round takes each loader over all samples once, in alternating order, so that a busy machine
slows all of them. Samples are 412 KB: latents of 17 frames of 320 x 480 at Wan 2.1's strides, and a log-mel.

    feed        our feed, all that a training step takes: read, hash checked, widened to float32, noise drawn, stacked
    samples     the same without noise: what the other loaders do
    webdataset  `webdataset` as its documentation has it: shards and a buffer of 256 samples shuffled, decoded, widened,
                stacked, in worker processes. It goes on by reading again what was seen
    decode      clips (mp4 of 2 s) decoded, cut to the same window, in a torch DataLoader's worker processes, as the
                predecessor trains; it would have the latents to compute yet
    preads      the bytes of the same samples in the feed's order, thrown away, by as many threads as the feed has
    pread       the same by one thread

    python benchmarks/feed.py --workspace DIR [--rounds 5] [--samples 1536] [--clips 64] [--workers 2] [--json FILE]

Cold: the page cache is told to forget every file before each pass (POSIX_FADV_DONTNEED, after fsync); what holds the
disk itself may still remember. Warm: every file was read just before. Samples a second count from opening the files to
the last batch. First: seconds from opening to the first batch of 16. Resume: the same, three quarters into an epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from environment import describe_environment
from feed_data import reader_of, write_clips, write_samples
from feed_loaders import BATCH, LOADERS, READERS, Batches, Clips, Data

Found = dict[str, dict[str, dict[str, list[float]]]]


def files_of(data: Data) -> list[Path]:
    """Every file that a loader may read."""
    return sorted(path for folder in (data.samples, data.clips) for path in folder.rglob("*") if path.is_file())


def forget(files: list[Path]) -> None:
    """Have the page cache drop `files`."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def read_through(files: list[Path]) -> None:
    """Have the page cache hold `files`."""
    for path in files:
        path.read_bytes()


def timed(loader: Callable[[Data, int], Batches], data: Data, start: int, whole: bool) -> tuple[float, float]:
    """Seconds to the first batch from `start`, and samples a second of all that follow, that first one with them."""
    begun = time.perf_counter()
    batches = loader(data, start)
    next(batches)
    first, count = time.perf_counter() - begun, 1
    if whole:
        count += sum(1 for _ in batches)
    elapsed = time.perf_counter() - begun
    batches.close()  # type: ignore[attr-defined]
    return first, count * BATCH / elapsed


def measure(data: Data, rounds: int) -> Found:
    """By cache, loader and round: samples a second, seconds to the first batch and to one deep in the epoch."""
    files = files_of(data)
    found: Found = {
        cache: {name: {"rate": [], "first": [], "resume": []} for name in LOADERS} for cache in ("cold", "warm")
    }
    samples, clips = len(reader_of(data.samples)), len(Clips(data.clips))
    for turn in range(rounds):
        for cache, prepare in (("cold", forget), ("warm", read_through)):
            for name in list(LOADERS) if turn % 2 == 0 else list(LOADERS)[::-1]:
                deep = 3 * (clips if name == "decode" else samples) // (4 * BATCH)
                entry = found[cache][name]
                prepare(files)
                first, rate = timed(LOADERS[name], data, 0, whole=True)
                prepare(files)
                resume, _ = timed(LOADERS[name], data, deep, whole=False)
                for key, value in {"rate": rate, "first": first, "resume": resume}.items():
                    entry[key].append(value)
        print(f"round {turn + 1} of {rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
    return found


def spread(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def summary(found: Found) -> dict[str, Any]:
    """Spreads by cache and loader, with the ratio of each loader's rate to every other's within a round."""
    rates = {cache: {name: entry["rate"] for name, entry in loaders.items()} for cache, loaders in found.items()}
    return {
        cache: {
            name: {key: spread(values) for key, values in entry.items()}
            | {
                f"over_{other}": spread([a / b for a, b in zip(rates[cache][name], rates[cache][other], strict=True)])
                for other in ("decode", "preads", "pread")
            }
            for name, entry in loaders.items()
        }
        for cache, loaders in found.items()
    }


def report(result: dict[str, Any]) -> str:
    """Markdown: one row a cache and loader."""
    columns = ["rate", "first", "resume", "over_decode", "over_preads", "over_pread"]
    titles = ["samples/s", "first batch, s", "resume, s", "over decode", "over preads", "over one pread"]
    lines = [f"| cache | loader | {' | '.join(titles)} |", "|" + " --- |" * (len(titles) + 2)]
    for cache, loaders in result.items():
        for name, entry in loaders.items():
            lines.append(f"| {cache} | {name} | {' | '.join(_cell(entry[column]) for column in columns)} |")
    return "\n".join(lines)


def _cell(entry: dict[str, float]) -> str:
    return f"{_number(entry['median'])} [{_number(entry['low'])}, {_number(entry['high'])}]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Write what is missing, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=1536)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2, help="processes of the loaders that have some")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = Data(arguments.workspace / "samples", arguments.workspace / "clips", arguments.workers)
    write_samples(data.samples, arguments.samples)
    write_clips(data.clips, arguments.clips)
    found = measure(data, arguments.rounds)
    result = summary(found)
    print(report(result))
    if arguments.json:
        about = describe_environment() | {"webdataset": metadata.version("webdataset"), "load": os.getloadavg()}
        about |= {"workers": arguments.workers, "threads_of_the_feed": READERS, "samples": arguments.samples}
        arguments.json.write_text(
            json.dumps({"environment": about, "results": result, "rounds": found}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
