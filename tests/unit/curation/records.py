"""Small valid records, and a stage result made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from soundstage.config import Config
from soundstage.data.records import SIGNALS
from soundstage.stages import Outcome, StageRecord, Work, Workspace, execute
from soundstage.stages.files import sha256_text

FINGERPRINT = "0123456789abcdef"


def clip_id(number: int) -> str:
    return sha256_text(f"clip {number}")


def clip_row(number: int, split: str = "pretrain", label: str = "drum", **changes: Any) -> dict[str, Any]:
    name = clip_id(number)
    row = {
        "clip_id": name,
        "source_uri": f"videos/{number:05d}.mp4",
        "source_sha256": sha256_text(f"source {number}"),
        "start_us": 0,
        "duration_us": 4_000_000,
        "fps_num": 24,
        "fps_den": 1,
        "num_frames": 96,
        "width": 48,
        "height": 48,
        "sample_rate": 16000,
        "channels": 1,
        "video_codec": "h264",
        "audio_codec": "aac",
        "caption": "a red drum is struck",
        "caption_from": "source",
        "label": label,
        "licence": "CC0-1.0",
        "provenance": "drawn",
        "media_sha256": sha256_text(f"media {number}"),
        "media_uri": f"media/{FINGERPRINT}/{name[:2]}/{name}.mp4",
        "group": sha256_text(f"source {number}"),
        "split": split,
        "duplicate_of": "",
    }
    return row | changes


def signals_row(number: int, **changes: Any) -> dict[str, Any]:
    row = {
        "clip_id": clip_id(number),
        "signal_version": "1",
        "black_share": 0.0,
        "still_share": 0.5,
        "motion": 0.01,
        "motion_peak": 0.2,
        "pan_share": 0.0,
        "sharpness": 900.0,
        "letterbox_share": 0.0,
        "cuts": 0,
        "loudness_dbfs": -20.0,
        "silence_share": 0.3,
        "clipping_share": 0.0,
        "speech_share": 0.0,
        "onsets_per_sec": 1.5,
        "av_align": 0.5,
        "av_offset_sec": 0.02,
        "av_correlation": 0.8,
        "av_confidence": 2.0,
    }
    # What nothing was configured for is null.
    return dict.fromkeys(SIGNALS.names) | row | changes


def review_row(number: int, verdict: str = "keep", reviewer: str = "ana", **changes: Any) -> dict[str, Any]:
    row = {
        "clip_id": clip_id(number),
        "verdict": verdict,
        "reviewer": reviewer,
        "seconds_spent": 4.5,
        "at": "2030-01-01T10:00:00Z",
        "audio_shift_sec": 0.3 if verdict == "shift" else None,
    }
    return row | changes


def truth_row(number: int, defect: str = "none") -> dict[str, Any]:
    return {
        "source_uri": f"videos/{number:05d}.mp4",
        "label": "drum",
        "defect": defect,
        "audio_shift_sec": 0.0,
        "event_times_sec": "[]",
        "original": "",
        "offset_identifiable": True,
    }


def put(
    workspace: Workspace,
    stage: str,
    files: Mapping[str, Callable[[Path], Any]],
    counts: Mapping[str, int] | None = None,
) -> StageRecord:
    """Run a stage that writes `files` (name -> writer of its path): a real record with a real payload."""

    def write(_config: Any, _inputs: Any, work: Work) -> Outcome:
        for name, writer in files.items():
            (work.out / name).parent.mkdir(parents=True, exist_ok=True)
            writer(work.out / name)
        return Outcome(counts=counts or {})

    return execute(stage, write, Config(), {}, workspace, code_version="test", cacheable=False).record
