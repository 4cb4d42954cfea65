"""Peak memory of the rows' way through `score`, from a small manifest to a large one; part of `curation.py`."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from soundstage.curation.score import SIGNAL_VERSION, in_order
from soundstage.data.records import CLIPS, SIGNALS
from soundstage.data.streams import stream_rows, write_stream

MIB = 1 << 20


def measure_memory(folder: Path, counts: list[int]) -> dict[str, Any]:
    """Peak resident memory, in MiB, of reading the manifest, keeping order over a pool and writing the signals.

    The rows of signals are made up: what is measured is the way of the rows, not of the pictures, which is the same
    for every clip.
    """
    result: dict[str, Any] = {}
    for rows in counts:
        manifest = folder / f"manifest_{rows}.parquet"
        write_stream(manifest, CLIPS, _manifest(rows), "clip_id")
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as process:
            before, after = process.submit(_pass_rows, manifest, folder / "signals.parquet").result()
        result[str(rows)] = {"before_mib": before / MIB, "peak_mib": after / MIB, "growth_mib": (after - before) / MIB}
        manifest.unlink()
    return result


def _manifest(rows: int) -> Iterator[dict[str, Any]]:
    for digest in sorted(hashlib.sha256(str(number).encode()).hexdigest() for number in range(rows)):
        words = {field.name: f"procedural {digest}" for field in CLIPS}
        yield {field.name: words[field.name] if str(field.type) == "string" else 1 for field in CLIPS} | {
            "clip_id": digest
        }


def _pass_rows(manifest: Path, target: Path) -> tuple[int, int]:
    before = _peak_bytes()
    with ThreadPoolExecutor(1) as pool:
        rows = stream_rows(manifest, ("clip_id", "media_uri", "num_frames", "caption"))
        write_stream(target, SIGNALS, in_order(pool, _made_up, rows, 8), "clip_id")
    return before, _peak_bytes()


def _peak_bytes() -> int:
    """Peak resident memory of this process alone; what getrusage says of a new one includes the one it came from."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def _made_up(row: dict[str, Any]) -> dict[str, Any]:
    values = {field.name: 0 if str(field.type) == "int64" else 0.5 for field in SIGNALS if str(field.type) != "string"}
    return {"sync_scorer": None, "signal_version": SIGNAL_VERSION, "clip_id": row["clip_id"]} | values
