"""Whether the data contracts hold in little memory: peak memory and seconds of the gates against rows of the record.

Writes valid records of clips and signals of each size, and runs `validate-clips` and `validate-signals` on each in a
process of its own, whose peak resident memory is that of the gate and of the libraries it needs. Growth is counted from
the smallest size; beside it stands the record's own size in memory, as Arrow columns.

    python benchmarks/contracts.py --workspace DIR [--rows 1000 10000 100000] [--partition-rows 10000]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from environment import describe_environment

from soundstage.config import Config
from soundstage.config.slices import ValidateSlice
from soundstage.config.tree import ContractsConfig
from soundstage.data.records import CLIPS, REJECTS, SIGNALS
from soundstage.stages import Outcome, StageRecord, Work, Workspace, execute

WRITTEN_AT_ONCE = 10_000
MIB = 1 << 20


def _digest(kind: str, number: int) -> str:
    return hashlib.sha256(f"{kind} {number}".encode()).hexdigest()


def _clip(number: int) -> dict[str, Any]:
    clip_id = _digest("clip", number)
    words = dict.fromkeys(("caption", "label", "licence", "provenance", "video_codec", "audio_codec"), "procedural")
    whole = {"start_us": 0, "duration_us": 4_000_000, "fps_num": 24, "fps_den": 1, "num_frames": 96}
    media = {"width": 96, "height": 96, "sample_rate": 16000, "channels": 1, "media_uri": f"media/{clip_id}.mp4"}
    return {
        **words,
        **whole,
        **media,
        "clip_id": clip_id,
        "source_uri": f"videos/{number:09d}.mp4",
        "source_sha256": _digest("source", number),
        "media_sha256": _digest("media", number),
        "caption_from": "source",
        "group": _digest("source", number),
        "split": "pretrain",
        "duplicate_of": "",
    }


def _signals(number: int) -> dict[str, Any]:
    draw = np.random.default_rng(number)
    values = {f.name: float(draw.random()) for f in SIGNALS if f.type == pa.float64()}
    counts = {f.name: 0 for f in SIGNALS if f.type == pa.int64()}
    names = {f.name: "1" for f in SIGNALS if f.type == pa.string()}
    return {**values, **counts, **names, "clip_id": _digest("clip", number)}


def _tables(schema: pa.Schema, make: Any, rows: int) -> Iterator[pa.Table]:
    for start in range(0, rows, WRITTEN_AT_ONCE):
        numbers = range(start, min(start + WRITTEN_AT_ONCE, rows))
        yield pa.Table.from_pylist([make(number) for number in numbers], schema=schema)


def _write(path: Path, schema: pa.Schema, make: Any, rows: int) -> int:
    """Write the record in row groups of 10 000, as stages do; returns its bytes in memory."""
    size = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in _tables(schema, make, rows):
            size += table.nbytes
            writer.write_table(table)
    return size


def _put(workspace: Workspace, rows: int) -> tuple[dict[str, StageRecord], dict[str, int]]:
    """Records of `ingest`, `split` and `score` with `rows` clips whose media exist, and bytes of clips and signals."""
    sizes: dict[str, int] = {}

    def ingest(_config: Any, _inputs: Any, work: Work) -> Outcome:
        sizes["clips"] = _write(work.out / "clips.parquet", CLIPS, _clip, rows)
        _write(work.out / "rejects.parquet", REJECTS, _clip, 0)
        return Outcome(counts={"sources": rows})

    def score(_config: Any, _inputs: Any, work: Work) -> Outcome:
        sizes["signals"] = _write(work.out / "signals.parquet", SIGNALS, _signals, rows)
        return Outcome()

    made = {
        name: execute(
            f"{name}-{rows}", stage, Config(), {}, workspace, code_version="benchmark", cacheable=False
        ).record
        for name, stage in (("ingest", ingest), ("score", score))
    }
    workspace.resolve("media").mkdir(exist_ok=True)
    for number in range(rows):
        workspace.resolve(_clip(number)["media_uri"]).touch()
    return {"ingest": made["ingest"], "clips": made["ingest"], "signals": made["score"]}, sizes


def _run_gate(gate: str, workspace: Workspace, inputs: dict[str, StageRecord], partition_rows: int) -> dict[str, float]:
    """Run in a fresh process: its peak memory is the gate's."""
    start = time.perf_counter()
    from soundstage.data import validate

    imported = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF)
    base, imported_cpu = before.ru_maxrss, before.ru_utime + before.ru_stime
    config = ValidateSlice(contracts=ContractsConfig(partition_rows=partition_rows))
    execute(
        f"validate-{gate}",
        getattr(validate, gate),
        config,
        inputs,
        workspace,
        code_version="benchmark",
        cacheable=False,
    )
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "libraries_mib": base / 1024,
        "peak_mib": used.ru_maxrss / 1024,
        "cpu_sec": used.ru_utime + used.ru_stime - imported_cpu,
        "import_sec": imported - start,
        "seconds": time.perf_counter() - imported,
    }


def measure(workspace: Workspace, rows: int, partition_rows: int) -> list[dict[str, Any]]:
    """One result a gate."""
    inputs, sizes = _put(workspace, rows)
    results = []
    for gate in ("clips", "signals"):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found = pool.submit(_run_gate, gate, workspace, inputs, partition_rows).result()
        results.append({"gate": gate, "rows": rows, "record_mib": sizes[gate] / MIB, **found})
        print(f"validate-{gate}, {rows} rows: {found['peak_mib']:.0f} MiB, {found['seconds']:.1f} s", flush=True)
    return results


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: one row a gate and size."""
    lines = [
        "| gate | rows | record, MiB | libraries, MiB | peak, MiB | growth, MiB | s | processor s |",
        "|" + " --- |" * 8,
    ]
    smallest = {r["gate"]: r["peak_mib"] for r in sorted(results, key=lambda r: -int(r["rows"]))}
    for r in sorted(results, key=lambda r: (r["gate"], r["rows"])):
        growth = r["peak_mib"] - smallest[r["gate"]]
        lines.append(
            f"| {r['gate']} | {r['rows']} | {r['record_mib']:.1f} | {r['libraries_mib']:.0f} | {r['peak_mib']:.0f} "
            f"| {growth:+.0f} | {r['seconds']:.1f} | {r['cpu_sec']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--partition-rows", type=int, default=ContractsConfig().partition_rows)
    arguments = parser.parse_args()
    workspace = Workspace.open(arguments.workspace)
    results = [r for rows in arguments.rows for r in measure(workspace, rows, arguments.partition_rows)]
    print(table(results))
    report = {"environment": describe_environment(), "partition_rows": arguments.partition_rows, "results": results}
    (workspace.root / "contracts.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
