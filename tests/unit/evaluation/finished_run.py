"""A finished pipeline run made by hand: real files and records of every stage, small enough for a unit test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from soundstage.catalog import STAGES
from soundstage.config.tree import WindowConfig
from soundstage.data.records import CLIPS, REJECTS, SELECTION, TRUTH, write_table
from soundstage.evaluation.protocol import ARMS, TestWindow
from soundstage.evaluation.samples import write_samples
from soundstage.stages import StageRecord, Workspace
from soundstage.stages.files import sha256_text, write_json
from soundstage.stages.record import InputRef, hash_outputs

WINDOW = WindowConfig(num_frames=6, fps=6, size=16, audio_margin_sec=0.1)
RATE = 8000


class FinishedRun:
    """Builds the payloads; attributes may be changed before `records()`."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace.open(root)
        self.labels = ["drum", "bell"]
        self.counts: dict[str, dict[str, int]] = {
            "ingest": {"sources": 6, "sources_kept": 4, "clips": 4, "rejects": 2, "reject_damaged": 1,
                       "reject_exact_duplicate": 1},
            "review": {"reviews": 3, "reviews_human": 0, "reviews_simulated": 3, "human_seconds": 0},
        }  # fmt: skip
        self.notes: dict[str, dict[str, str]] = {"review": {"reviewer": "simulated, wrong at rate 0.02"}}
        self.curves: dict[str, dict[str, list[list[float]]]] = {
            stage: {"train": [[s, 1.0 / s] for s in range(1, 41)], "validation": [[20, 0.1], [40, 0.05]]}
            for stage in ("backbone", "pretrain", "finetune")
        }
        self.evaluation = evaluation()
        self.promoted = True
        self._fill_data()
        self._fill_samples()

    def _fill_data(self) -> None:
        ids = [sha256_text(str(number)) for number in range(4)]
        clips = [
            dict.fromkeys(CLIPS.names, 1)
            | {name: "x" for name in CLIPS.names if CLIPS.field(name).type == "string"}
            | {"clip_id": clip_id, "source_uri": f"videos/{number}.mp4", "duplicate_of": ""}
            for number, clip_id in enumerate(ids)
        ]
        write_table(self.payload("ingest") / "clips.parquet", CLIPS, clips, ["clip_id"])
        rejects = [
            ("videos/4.mp4", "damaged", "cannot be read"),
            ("videos/5.mp4", "exact_duplicate", f"same bytes as clip {ids[0]}"),
        ]
        rows = [dict(zip(REJECTS.names, (uri, 0, 0, reason, text), strict=True)) for uri, reason, text in rejects]
        write_table(self.payload("ingest") / "rejects.parquet", REJECTS, rows, ["source_uri"])
        # Clip 0 is the planted copy, and sorts before its original 5; 1 is late and corrected; 2 slips through.
        defects = ["duplicate", "shifted", "swapped", "still", "broken", "none"]
        truth = [
            {"source_uri": f"videos/{number}.mp4", "label": "drum", "defect": defect,
             "audio_shift_sec": 0.5 if defect == "shifted" else 0.0, "event_times_sec": "[]",
             "original": "videos/5.mp4" if defect == "duplicate" else "", "offset_identifiable": True}
            for number, defect in enumerate(defects)
        ]  # fmt: skip
        write_table(self.payload("ingest") / "truth.parquet", TRUTH, truth, ["source_uri"])
        chosen = [("pretrain", "", 0.0), ("finetune", "", -0.45), ("test", "", 0.0), ("dropped", "still", 0.0)]
        selection = [
            {"clip_id": clip_id, "use": use, "reasons": reasons, "weight": 1.0, "audio_shift_sec": shift}
            for clip_id, (use, reasons, shift) in zip(ids, chosen, strict=True)
        ]
        write_table(self.payload("select") / "selection.parquet", SELECTION, selection, ["clip_id"])
        self.funnel = {
            "clips": 4,
            "dropped": {"still": {"count": 1, "examples": [ids[3]]}},
            "kept": {"finetune": 1, "open_class_test": 0, "pretrain": 1, "test": 1, "validation": 0},
            "corrected": 1,
        }

    def _fill_samples(self) -> None:
        rng = np.random.default_rng(0)
        sound = np.zeros(round(1.2 * RATE), np.float32)
        sound[RATE // 2 : RATE // 2 + 400] = rng.uniform(-0.5, 0.5, 400)
        frames = rng.integers(0, 255, (6, 16, 16, 3), dtype=np.uint8)
        windows = [
            TestWindow(sha256_text(label), label, f"a {label} is struck", frames, sound, sound) for label in self.labels
        ]
        count = len(windows)
        videos = {arm.name: np.repeat(frames[None], count, axis=0) for arm in ARMS}
        sounds = {arm.name: None if arm.adapter == "none" else np.stack([sound] * count) for arm in ARMS}
        scores: list[dict[str, float | None]] = [{arm.name: 0.8765 for arm in ARMS} | {"silent": None}] * count
        write_samples(self.payload("evaluate") / "samples", windows, videos, sounds, scores, WINDOW, RATE)

    def relabel(self, *labels: str) -> None:
        """Rewrite what the samples' index says of its clips."""
        path = self.payload("evaluate") / "samples" / "index.json"
        index = json.loads(path.read_text())
        for entry, label in zip(index, labels, strict=True):
            entry |= {"label": label, "caption": f"a {label} is struck"}
        write_json(path, index)

    def payload(self, stage: str) -> Path:
        """Folder of a stage's files."""
        return self.workspace.payload(stage, sha256_text(stage))

    def verdict(self) -> dict[str, Any]:
        """What the gate wrote."""
        rules = [
            _rule("not_trial", True, None, None, "a full run, not a trial"),
            _rule("min_true", self.promoted, 0.8312, 0.6, "mean motion correlation with the true audio: 0.8312"),
            _rule("max_late", True, -0.1, 0.2, "mean with the clip's own audio, late: -0.1, at most 0.2"),
            _rule("min_clips", True, 64.0, 64, "test clips measured in every condition: 64, at least 64"),
        ]
        model = {"name": "soundstage-tiny", "version": "3"}
        return {"promoted": self.promoted, "rules": rules, "champion_before": "2", "note": "", "model": model}

    def records(self) -> dict[str, StageRecord]:
        """Write what is left to write, and the record of every stage."""
        write_json(self.payload("select") / "funnel.json", self.funnel)
        write_json(self.payload("evaluate") / "evaluation.json", self.evaluation)
        write_json(self.payload("promote") / "verdict.json", self.verdict())
        about = {"family": "wan", "stand_in": True, "preconditioned": True, "prediction": "clean_residual",
                 "fingerprint": "f" * 64}  # fmt: skip
        write_json(self.payload("backbone") / "backbone" / "backbone.json", about)
        (self.payload("finetune") / "adapter").mkdir(parents=True, exist_ok=True)
        (self.payload("finetune") / "adapter" / "adapter.safetensors").write_bytes(b"weights")
        for stage, curves in self.curves.items():
            write_json(self.payload(stage) / "curves.json", curves)
        return {stage: self._record(stage) for stage in STAGES}

    def _record(self, stage: str) -> StageRecord:
        folder = self.payload(stage)
        folder.mkdir(parents=True, exist_ok=True)
        inputs = {
            name: InputRef(stage=maker, digest=sha256_text(maker), content="")
            for name, maker in STAGES[stage].inputs.items()
        }
        config: dict[str, object] = {"select": {"offset_tolerance_sec": 0.13}} if stage == "select" else {}
        return StageRecord(
            stage=stage,
            digest=sha256_text(stage),
            payload=self.workspace.relative(folder),
            config=config,
            code_version="",
            external_digest="",
            inputs=inputs,
            outputs=hash_outputs(folder),
            counts=self.counts.get(stage, {}),
            metrics={},
            notes=self.notes.get(stage, {}),
        )

    def summary(self, **changes: Any) -> dict[str, Any]:
        """What the pipeline wrote as `summary.json`."""
        return {
            "run": "20300131-120000-abcdef",
            "metrics": self.evaluation["metrics"],
            "paired": self.evaluation["paired"],
            "model": {"name": "soundstage-tiny", "version": "3", "aliases": ["candidate"], "uri": "models:/x/3"},
            "promoted": self.promoted,
            "verdict": self.verdict(),
            "seconds": dict.fromkeys(STAGES, 12.34),
            "ran": ["evaluate", "register", "promote"],
            "code": {"git_commit": "c0ffee" * 6, "git_dirty": "false"},
        } | changes


def _rule(name: str, passed: bool, found: float | None, needed: float | None, text: str) -> dict[str, Any]:
    return {"name": name, "passed": passed, "found": found, "needed": needed, "text": text}


def entry(mean: float | None, n: int = 64) -> dict[str, Any]:
    """A mean with an interval, or a null one."""
    if mean is None:
        return {"mean": None, "low": None, "high": None, "n": 0}
    return {"mean": mean, "low": mean - 0.05, "high": mean + 0.05, "n": n}


def evaluation(means: Mapping[str, float | None] | None = None, clips: int = 64) -> dict[str, Any]:
    """Content of `evaluation.json`."""
    means = {arm.name: 0.8312 for arm in ARMS} if means is None else means
    return {
        "protocol": {"seed": 0, "late_frames": 2, "clips": 64},
        "conditions": {arm.name: arm.what for arm in ARMS},
        "clips": clips,
        "without_motion": 0,
        "metrics": {"motion_corr": {name: entry(mean) for name, mean in sorted(means.items())}},
        "paired": {"stage_two_minus_stage_one": entry(0.0123)},
        "per_class": {"bell": entry(0.9, 30), "drum": entry(0.7, 34)},
        "judge": judged({"truth": 2.5, **dict.fromkeys(means, -1.25)}),
    }


def judged(scores: Mapping[str, float]) -> dict[str, Any]:
    """What a judge said of each condition."""
    conditions = {
        name: {"sync_score": entry(score), "abs_offset_sec": entry(0.375), "unjudged": 0}
        for name, score in sorted(scores.items())
    }
    return {"name": "0123456789abcdef", "conditions": conditions}
