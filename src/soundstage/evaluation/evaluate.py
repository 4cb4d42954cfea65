"""Stage `evaluate`: generate the test clips under every condition, and measure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..config.slices import EvaluateSlice
from ..data.records import CLIPS, SELECTION, read_table, write_table
from ..models.animate import Animator
from ..models.sampling import Guidance
from ..stages import Inputs, Outcome, Progress, Work
from ..stages.files import write_json
from .judge import Judge, open_judge
from .metrics.motion import motion_correlation
from .protocol import ARMS, Arm, TestWindow, heard, load_windows
from .samples import write_samples
from .statistics import mean_interval

SCORES = pa.schema(
    [
        pa.field("clip_id", pa.string(), False),
        pa.field("label", pa.string(), False),
        pa.field("condition", pa.string(), False),
        pa.field("motion_corr", pa.float64(), True),  # null: the true clip does not move
    ]
)
_SEED_STRIDE = 1_000_003

Scores = dict[str, list[float | None]]


def run(config: EvaluateSlice, inputs: Inputs, work: Work) -> Outcome:
    """Generate, measure, keep a few samples; without a test clip the metrics are null and the notes say why."""
    # Before anything is generated: a judge that is a party stops the stage.
    judge, unjudged = _judge(config, inputs, work)
    windows = _windows(config, inputs, work)
    arms = _arms(inputs, len(windows))
    sounds: dict[str, NDArray[np.float32] | None] = {arm.name: heard(arm, windows) if windows else None for arm in arms}
    videos: dict[str, NDArray[np.uint8]] = {}
    steps = -(-len(windows) // config.evaluate.batch) * len(arms)
    with Progress("evaluate", steps, "batch") as progress:
        for arm in arms if windows else ():
            animator = _animator(arm, config, inputs, work)
            videos[arm.name] = _generate(animator, sounds[arm.name], windows, config, progress)
    scores: Scores = {
        name: [motion_correlation(video, item.frames) for video, item in zip(made, windows, strict=True)]
        for name, made in videos.items()
    }
    result = _result(config, windows, scores)
    if judge is not None and windows:
        result["judge"] = _judged(judge, config, windows, videos, sounds)
    write_json(work.out / "evaluation.json", result)
    _write_scores(work.out / "scores.parquet", windows, scores)
    _show(config, work, windows, videos, sounds, scores)
    notes = {} if windows else {"evaluation": "no test clip survived selection: nothing was measured"}
    means = {f"motion_corr_{name}": entry["mean"] for name, entry in result["metrics"]["motion_corr"].items()}
    return Outcome(
        counts={"clips": len(windows), "without_motion": result["without_motion"]},
        metrics={name: value for name, value in means.items() if value is not None},
        notes=notes | ({"judge": unjudged} if unjudged else {}),
    )


def _judge(config: EvaluateSlice, inputs: Inputs, work: Work) -> tuple[Judge | None, str]:
    clips = read_table(work.workspace.output(inputs["clips"], "clips.parquet"), CLIPS)
    selection = read_table(work.workspace.output(inputs["selection"], "selection.parquet"), SELECTION)
    models = [inputs[name] for name in ("backbone", "pretrain", "finetune")]
    return open_judge(inputs["judge"], models, clips, selection, work.workspace, config.window)


def _judged(
    judge: Judge,
    config: EvaluateSlice,
    windows: list[TestWindow],
    videos: dict[str, NDArray[np.uint8]],
    sounds: dict[str, NDArray[np.float32] | None],
) -> dict[str, Any]:
    """What the judge says of each condition with the sound it heard, and of the true clips: means with intervals.

    `sync_score` is its log odds as placed; `abs_offset_sec` the distance of its best offset from none. Figures of two
    judges are never compared, so they stand under the judge's name.
    """
    rate, resamples = config.model.audio.sample_rate, config.evaluate.bootstrap_samples
    true_sounds = np.stack([window.sound for window in windows])
    pairs = {"truth": (np.stack([window.frames for window in windows]), true_sounds)}
    for name, video in videos.items():
        heard_there = sounds[name]
        # Without audio layers nothing is heard: the true sound is what the video would be shown with.
        pairs[name] = (video, true_sounds if heard_there is None else heard_there)
    conditions = {}
    for name, (video, sound) in pairs.items():
        found = [item for item in judge.estimates(video, sound, rate) if item is not None]
        conditions[name] = {
            "sync_score": mean_interval([item.sync_score for item in found], resamples).as_dict(),
            "abs_offset_sec": mean_interval([abs(item.sync_offset_sec) for item in found], resamples).as_dict(),
            "unjudged": len(windows) - len(found),
        }
    return {"name": judge.name, "conditions": conditions}


def _arms(inputs: Inputs, clips: int) -> list[Arm]:
    """Every condition that can be told apart.

    A skipped stage two leaves nothing to compare stage one with; a single clip has no other clip's sound to hear.
    """
    left_out = {"stage_one"} if "stage_two" in inputs["finetune"].notes else set()
    left_out |= {"swapped"} if clips == 1 else set()
    return [arm for arm in ARMS if arm.name not in left_out]


def _windows(config: EvaluateSlice, inputs: Inputs, work: Work) -> list[TestWindow]:
    clips = {row["clip_id"]: row for row in read_table(work.workspace.output(inputs["clips"], "clips.parquet"), CLIPS)}
    selection = read_table(work.workspace.output(inputs["selection"], "selection.parquet"), SELECTION)
    chosen = sorted((row for row in selection if row["use"] == "test"), key=lambda row: str(row["clip_id"]))
    chosen = chosen[: config.evaluate.clips]
    shifts = {row["clip_id"]: row["audio_shift_sec"] for row in chosen}
    return load_windows(config, work.workspace, [clips[clip_id] for clip_id in shifts], shifts)


def _animator(arm: Arm, config: EvaluateSlice, inputs: Inputs, work: Work) -> Animator:
    backbone = work.workspace.output(inputs["backbone"], "backbone/backbone.json").parent
    if arm.adapter == "none":
        return Animator.load(backbone, None, config.window)
    adapter = work.workspace.output(inputs[arm.adapter], "adapter/adapter.json").parent
    return Animator.load(backbone, adapter, config.window)


def _generate(
    animator: Animator,
    sounds: NDArray[np.float32] | None,
    windows: list[TestWindow],
    config: EvaluateSlice,
    progress: Progress,
) -> NDArray[np.uint8]:
    """Videos (N, T, size, size, 3); a window's noise is the same under every condition."""
    settings, made = config.evaluate, []
    for start in range(0, len(windows), settings.batch):
        batch = windows[start : start + settings.batch]
        made.append(
            animator.animate_batch(
                np.stack([window.frames[0] for window in batch]),
                None if sounds is None else sounds[start : start + settings.batch],
                [window.caption for window in batch],
                seeds=[settings.seed * _SEED_STRIDE + start + offset for offset in range(len(batch))],
                num_inference_steps=settings.num_inference_steps,
                guidance=Guidance(settings.audio_guidance_scale, settings.text_guidance_scale),
            )
        )
        progress.advance()
    return np.concatenate(made)


def _result(config: EvaluateSlice, windows: list[TestWindow], scores: Scores) -> dict[str, Any]:
    resamples = config.evaluate.bootstrap_samples
    measured = [index for index in range(len(windows)) if scores["true"][index] is not None]
    values = {name: [float(row[index] or 0.0) for index in measured] for name, row in scores.items()}
    paired = {}
    if "stage_one" in values:
        differences = [two - one for two, one in zip(values["true"], values["stage_one"], strict=True)]
        paired["stage_two_minus_stage_one"] = mean_interval(differences, resamples).as_dict()
    labels = sorted({windows[index].label for index in measured})
    per_class = {
        label: mean_interval(
            [value for index, value in zip(measured, values["true"], strict=True) if windows[index].label == label],
            resamples,
        ).as_dict()
        for label in labels
    }
    conditions = {arm.name: mean_interval(values.get(arm.name, []), resamples).as_dict() for arm in ARMS}
    return {
        "protocol": config.evaluate.model_dump(mode="json") | {"window": config.window.model_dump(mode="json")},
        "conditions": {arm.name: arm.what for arm in ARMS},
        "clips": len(measured),
        "without_motion": len(windows) - len(measured),
        "metrics": {"motion_corr": conditions},
        "paired": paired,
        "per_class": per_class,
    }


def _write_scores(path: Path, windows: list[TestWindow], scores: Scores) -> None:
    rows = [
        {"clip_id": item.clip_id, "label": item.label, "condition": name, "motion_corr": value}
        for name, row in scores.items()
        for item, value in zip(windows, row, strict=True)
    ]
    write_table(path, SCORES, rows, sort_by=["condition", "clip_id"])


def _show(
    config: EvaluateSlice,
    work: Work,
    windows: list[TestWindow],
    videos: dict[str, NDArray[np.uint8]],
    sounds: Any,
    scores: Scores,
) -> None:
    count = min(config.evaluate.samples_shown, len(windows))
    shown = [{name: row[index] for name, row in scores.items()} for index in range(count)]
    folder = work.out / "samples"
    write_samples(folder, windows[:count], videos, sounds, shown, config.window, config.model.audio.sample_rate)
    work.tracker.log_artifact(folder, "samples")
    work.tracker.log_artifact(work.out / "evaluation.json")
