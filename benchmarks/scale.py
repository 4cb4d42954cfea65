"""The tables of docs/scale.md: ten million clips and 512 GPUs, by arithmetic over counts, measurements and assumptions.

    python benchmarks/scale.py [--clips 10000000] [--gpus 512] [--preset wan2.1-t2v-1.3b] [--rows 100000]

Every number says where it comes from: `plan`, counted by `soundstage plan` for the settings below; `measured`, here and
now on this machine; `assumed`, with its source in `ASSUMED`; all else follows from those by the formula in its row.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from environment import describe_environment

from soundstage.config import load_config
from soundstage.data.records import SHARD_SAMPLES, read_table, write_table
from soundstage.planning.calibration import load_calibration
from soundstage.planning.plan import make_plan, plan_report
from soundstage.training.order import permutation

# What such a run would set beyond the preset: a global batch for 512 ranks, and memory to spare for two samples a pass.
SETTINGS = [
    "pretrain.global_batch=1024",
    "pretrain.micro_batch=2",
    "pretrain.activation_checkpointing=true",
    "pretrain.steps=39000",  # an epoch of 40 million windows
    "finetune.global_batch=512",
    "finetune.activation_checkpointing=true",
    "encode.samples_per_shard=256",
]


@dataclass(frozen=True)
class Assumed:
    """A number that nothing here measures."""

    value: float
    unit: str
    source: str


ASSUMED = {
    "raw": Assumed(2.5, "MB a clip", "10 s at 720p, 2 Mb/s: our choice, state your own"),
    "normalised": Assumed(1.9, "MB a clip", "10 s at 480 lines, 1.5 Mb/s: our choice"),
    "caption": Assumed(30, "tokens a caption", "one sentence: our choice; Wan's padding is not stored"),
    "interruptions": Assumed(
        16384 * 54 * 24 / 419,
        "GPU hours between interruptions",
        "Llama 3 (Meta, 2024), table 5: 419 in 54 days of 16,384 GPUs",
    ),
    "restart": Assumed(600, "s to begin again", "our choice: noticed, pods placed, weights read"),
    "utilisation": Assumed(0.8, "share of time that the queue's GPUs are held", "our choice"),
    "image": Assumed(15, "GB of an image", "our choice: CUDA, torch, diffusers"),
    "pull": Assumed(0.5, "GB/s of a node's image pull", "our choice"),
    "read": Assumed(2.0, "GB/s a node reads from the store", "our choice: well below a 400 Gb/s adapter"),
    "admission": Assumed(10, "s of Kueue's admission and pod scheduling", "our choice"),
    "start": Assumed(
        90,
        "s from process start to a process group",
        "our choice; a CPU rank of ours takes 20 to 40 s on two busy cores",
    ),
    "put_rate": Assumed(3500, "writes a second and prefix", "Amazon S3 documentation, performance design patterns"),
    "get_rate": Assumed(5500, "reads a second and prefix", "Amazon S3 documentation, performance design patterns"),
}


def measured_rows(count: int) -> dict[str, float]:
    """Of `samples.parquet` and its reader, in a fresh process: bytes on disk and in memory a row, rows a second."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.parquet"
        rng = np.random.default_rng(0)
        write_table(path, SHARD_SAMPLES, [_row(rng, number) for number in range(count)], ["key"])
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            memory, seconds = pool.apply(_read_rows, (path,))
        return {"disk": path.stat().st_size / count, "memory": memory / count, "per_sec": count / seconds}


def _row(rng: np.random.Generator, number: int) -> dict[str, Any]:
    return {
        "key": rng.bytes(16).hex(),
        "clip_id": rng.bytes(32).hex(),
        "use": "pretrain",
        "caption": f"a sentence about what is heard and seen in clip number {number // 4}",
        "weight": 1.0,
        "window_start_us": int(rng.integers(8_000_000)),
        "flip": bool(number % 2),
        "shard": f"shards/{number // 256:06d}.tar",
        "offset": number % 256 * 2_600_000,
        "size": 2_600_960,
        "bucket": "33x480x832",
        "sha256": rng.bytes(32).hex(),
    }


def _read_rows(path: Path) -> tuple[int, float]:
    import psutil

    read_table(path, SHARD_SAMPLES)[:1].clear()  # libraries are loaded and their pools made
    before, begun = psutil.Process().memory_info().rss, time.perf_counter()
    rows = sorted(read_table(path, SHARD_SAMPLES), key=lambda row: str(row["key"]))
    seconds = time.perf_counter() - begun
    return psutil.Process().memory_info().rss - before if rows else 0, seconds


def measured_order(samples: int) -> dict[str, float]:
    """Seconds and bytes of an epoch's order of so many samples."""
    begun = time.perf_counter()
    order = permutation(0, 0, samples)
    return {"seconds": time.perf_counter() - begun, "bytes": float(order.nbytes)}


class Tables:
    """Rows of (what, number, where from), by heading."""

    def __init__(self) -> None:
        self._tables: dict[str, list[tuple[str, str, str]]] = {}

    def add(self, heading: str, what: str, number: float, unit: str, origin: str) -> float:
        """Enter a row; returns its number for those that follow from it."""
        size = abs(number)
        digits = 0 if size >= 100 or number == int(number) else 1 if size >= 10 else 2 if size >= 0.1 else 4
        self._tables.setdefault(heading, []).append((what, f"{number:,.{digits}f} {unit}", origin))
        return number

    def assumed(self, heading: str, what: str, name: str) -> float:
        """Enter an assumption."""
        found = ASSUMED[name]
        return self.add(heading, what, found.value, found.unit, f"assumed: {found.source}")

    def markdown(self) -> str:
        """All of them."""
        parts = []
        for heading, rows in self._tables.items():
            parts.append(f"### {heading}\n\n| what | number | where from |\n| --- | --- | --- |")
            parts.extend(f"| {what} | {number} | {origin} |" for what, number, origin in rows)
            parts.append("")
        return "\n".join(parts)


def storage_tables(tables: Tables, plan: dict[str, Any], clips: int) -> None:
    """Raw, normalised, encoded; shards."""
    head, store = "Storage", {name: each["value"] for name, each in plan["storage"].items()}
    raw = tables.assumed(head, "raw clip", "raw") * clips / 1e6
    tables.add(head, "raw clips", raw, "TB", "clips x raw clip")
    tables.add(
        head,
        "normalised",
        tables.assumed(head, "normalised clip", "normalised") * clips / 1e6,
        "TB",
        "clips x normalised clip",
    )
    sample = tables.add(head, "a window's latents and features", store["bytes a sample"] / 1e6, "MB", "plan")
    tables.add(head, "windows", store["samples"], "", "plan: clips x encode.windows_per_clip")
    tables.add(head, "shards' bytes", sample * store["samples"] / 1e6, "TB", "windows x a window")
    tables.add(head, "shards", store["shards"], "", "plan: windows / encode.samples_per_shard")
    tables.add(head, "a shard", store["bytes a shard"] / 1e6, "MB", "plan")
    tokens = tables.assumed(head, "caption", "caption")
    tables.add(
        head,
        "captions, one a clip",
        tokens * 4096 * 2 * clips / 1e12,
        "TB",
        "tokens x width 4096 x bfloat16; **one file**, see below",
    )
    most = store["text embeddings, at most"] * 2**30 / 1e12
    tables.add(head, "captions, if all were of full length", most, "TB", "plan")


def metadata_tables(tables: Tables, plan: dict[str, Any], rows: dict[str, float], order: dict[str, float]) -> None:
    """The table of samples, the order of an epoch, the index, metrics."""
    head, samples = "Metadata", plan["storage"]["samples"]["value"]
    tables.add(head, "samples.parquet, a row", rows["disk"], "B", "measured")
    tables.add(head, "samples.parquet", rows["disk"] * samples / 1e9, "GB", "row x windows")
    tables.add(
        head, "the same in a rank's memory, a row", rows["memory"], "B", "measured: rows are Python dictionaries"
    )
    tables.add(
        head, "in a rank's memory", rows["memory"] * samples / 1e9, "GB", "row x windows: **too much**, see below"
    )
    tables.add(head, "reading and sorting it", samples / rows["per_sec"] / 60, "min", "measured a row, one core")
    tables.add(head, "order of an epoch", order["bytes"] / 1e6, "MB", "measured, at that number of windows")
    tables.add(head, "drawing it", order["seconds"], "s", "measured")
    shards = plan["storage"]["shards"]["value"]
    entry = len(json.dumps({"shard": "shards/000000.tar", "samples": 256, "bytes": 665600000, "sha256": "0" * 64}))
    tables.add(head, "index.json", shards * (entry + 30) / 1e6, "MB", "counted: shards x an entry")
    lines = plan["stages"]["pretrain"]["time"]["steps"]["value"]
    tables.add(head, "metrics lines of stage one", lines, "", "plan: one a step, about 200 B each")


def feed_tables(tables: Tables, plan: dict[str, Any], per_node: int) -> None:
    """What training asks of the store."""
    head, time_ = "Feed", plan["stages"]["pretrain"]["time"]
    rate = tables.add(head, "samples a second, all GPUs", time_["samples a second"]["value"], "/s", "plan")
    nodes = plan["gpus"] / per_node
    sample = plan["storage"]["bytes a sample"]["value"]
    tables.add(head, "reads a second, all nodes", rate, "/s", "one ranged read a sample")
    limit = tables.assumed(head, "reads that a store takes", "get_rate")
    tables.add(head, "prefixes for that rate", max(1, math.ceil(rate / limit)), "", "reads / limit, rounded up")
    tables.add(head, "bytes a second and node", rate / nodes * sample / 1e6, "MB/s", "samples a second / nodes x bytes")
    tables.add(head, "bytes a second, all nodes", rate * sample / 1e9, "GB/s", "the same x nodes")
    tables.assumed(head, "a node can read", "read")


def encode_tables(tables: Tables, plan: dict[str, Any]) -> None:
    """What encoding writes."""
    head, encode = "Encode", plan["encode"]
    hours = tables.add(head, "hours on all GPUs", encode["time"]["hours"]["value"], "h", "plan: its assumptions")
    tables.add(head, "memory of a worker", encode["memory"]["all"]["value"], "GiB", "plan")
    shards = plan["storage"]["shards"]["value"]
    tables.add(head, "shards written a second", shards / hours / 3600, "/s", "shards / hours")
    written = plan["storage"]["samples in all"]["value"] * 2**30 / hours / 3600
    tables.add(head, "bytes written a second", written / 1e9, "GB/s", "bytes / hours")
    parts = shards * math.ceil(plan["storage"]["bytes a shard"]["value"] / 64e6)
    tables.add(head, "uploads of 64 MB parts a second", parts / hours / 3600, "/s", "parts / hours")
    tables.assumed(head, "writes that a store takes", "put_rate")


def failure_tables(tables: Tables, plan: dict[str, Any], every: int) -> None:
    """Checkpoints against failures: Young's and Daly's interval."""
    head, stage = "Checkpoints and failures", plan["stages"]["pretrain"]
    size = tables.add(head, "a checkpoint", stage["time"]["checkpoint"]["value"], "GiB", "plan") * 2**30
    speed = load_calibration().checkpoint_gb_per_sec * 1e9
    save = tables.add(head, "saving it", size / speed, "s", f"checkpoint / {speed / 1e9:g} GB/s, assumed by the plan")
    step = tables.add(head, "a step", stage["time"]["step"]["value"], "s", "plan: its assumptions")
    interval = tables.add(head, "interval", every * step, "s", f"checkpoint_every={every} x a step")
    tables.add(head, "share of time spent saving", 100 * save / (interval + save), "%", "saving / interval")
    between = tables.assumed(head, "a GPU fails", "interruptions") / plan["gpus"] * 3600
    tables.add(head, "all GPUs: failures a day", 86400 / between, "", "24 h x GPUs / that")
    restart = tables.assumed(head, "beginning again", "restart")
    lost = tables.add(
        head, "lost at a failure, mean", interval / 2 + restart, "s", "half an interval + beginning again"
    )
    tables.add(head, "share of time lost", 100 * lost / between, "%", "lost / time between failures")
    best = math.sqrt(2 * save * between)
    tables.add(head, "best interval", best, "s", "sqrt(2 x saving x time between failures), Young 1974")
    tables.add(head, "best checkpoint_every", max(1, round(best / step)), "steps", "that / a step")


def queue_tables(tables: Tables, plan: dict[str, Any], per_node: int) -> None:
    """Until the first step, and in the queue before."""
    head, stage = "Queue and start", plan["stages"]["pretrain"]
    admission = tables.assumed(head, "admission", "admission")
    image, pull = tables.assumed(head, "image", "image"), tables.assumed(head, "pull", "pull")
    pulled = tables.add(head, "pulling it where it is not yet", image / pull, "s", "image / pull, nodes side by side")
    weights = stage["host_memory"]["weights while loading"]["value"] * 2**30 / 1e9
    tables.add(head, "weights a rank reads", weights, "GB", "plan")
    loaded = weights * per_node / ASSUMED["read"].value
    tables.add(head, "reading them", loaded, "s", f"x {per_node} ranks of a node / what a node reads")
    start = tables.assumed(head, "process group", "start")
    tables.add(head, "until the first step", admission + pulled + loaded + start, "s", "sum")
    tables.add(head, "the same, image there", admission + loaded + start, "s", "without the pull")
    hours = tables.add(head, "stage one", stage["time"]["stage"]["value"], "h", "plan: its assumptions")
    busy = tables.assumed(head, "the queue is used", "utilisation")
    waited = busy / (2 * (1 - busy)) * hours
    tables.add(
        head,
        "waiting before, if all jobs are like this one",
        waited,
        "h",
        "utilisation / (2 (1 - utilisation)) x stage one: one server, equal jobs (Pollaczek-Khinchine)",
    )
    tables.add(head, "GPU hours", stage["time"]["GPU hours"]["value"], "h", "plan")


def main() -> None:
    """Plan, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=10_000_000)
    parser.add_argument("--gpus", type=int, default=512)
    parser.add_argument("--preset", default="wan2.1-t2v-1.3b")
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the table that is measured")
    parser.add_argument("--json", type=Path, help="where to write the plan, what was measured and the environment")
    arguments = parser.parse_args()
    calibration = load_calibration()
    config = load_config(arguments.preset, overrides=SETTINGS)
    plan = plan_report(make_plan(config, arguments.clips, arguments.gpus, "h100", calibration))
    rows, order = measured_rows(arguments.rows), measured_order(int(plan["storage"]["samples"]["value"]))
    tables = Tables()
    storage_tables(tables, plan, arguments.clips)
    metadata_tables(tables, plan, rows, order)
    encode_tables(tables, plan)
    feed_tables(tables, plan, calibration.gpus_per_node)
    failure_tables(tables, plan, config.pretrain.checkpoint_every)
    queue_tables(tables, plan, calibration.gpus_per_node)
    print(tables.markdown())
    environment = describe_environment()
    print(json.dumps(environment))
    if arguments.json:
        told = {"plan": plan, "rows": rows, "order": order, "settings": SETTINGS, "environment": environment}
        arguments.json.write_text(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
