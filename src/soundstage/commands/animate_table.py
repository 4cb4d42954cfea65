"""Animate every row of a table: a bad row is named and the others go on, what is there already is left alone.

Beside each `NAME.mp4` lies `NAME.mp4.json`: what it was made of. A row whose inputs, settings and model have the digest
that stands there, and whose video has not changed since, is not made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..errors import DataError
from ..stages.files import sha256_file, sha256_text, write_json, write_text
from .animate_files import Sampling, Sound, long_video, read_image, read_sound, write_result
from .animate_rows import Row

if TYPE_CHECKING:
    from ..models.animate import Animator

FAILED_FILE = "failed.jsonl"


@dataclass
class Outcome:
    """What became of the rows; their number is the sum of the three."""

    written: int = 0
    there: int = 0
    failed: list[str] = field(default_factory=list)

    def in_words(self) -> str:
        """One line about all rows."""
        total = self.written + self.there + len(self.failed)
        return f"{total} rows: {self.written} written, {self.there} were there already, {len(self.failed)} failed"


@dataclass(frozen=True)
class _Job:
    row: Row
    inputs: dict[str, Any]
    image: NDArray[np.uint8]
    sound: Sound


class TableRun:
    """Rows to videos, in batches."""

    def __init__(
        self, animator: Animator, model: str, sampling: Sampling, batch_size: int, say: Callable[[str], None]
    ) -> None:
        """`model` is what one would cite it as; `say` takes a line about each row."""
        self.outcome = Outcome()
        self._animator, self._sampling, self._batch_size, self._say = animator, sampling, batch_size, say
        self._about = {"model": model, "settings": sampling.as_dict(), "identity": _identity(animator)}

    def run(self, rows: Iterable[Row | DataError]) -> Outcome:
        """Make what is not there yet."""
        waiting: list[_Job] = []
        for row in rows:
            try:
                if isinstance(row, DataError):
                    raise row
                job = self._prepared(row)
            except DataError as error:
                self._fail(error)
                continue
            if job is None:
                self.outcome.there += 1
                self._say(f"{row.where}: {row.out} is there already, made of the same; skipped")
                continue
            waiting.append(job)
            if len(waiting) == self._batch_size:
                self._make(waiting)
                waiting = []
        if waiting:
            self._make(waiting)
        return self.outcome

    def _prepared(self, row: Row) -> _Job | None:
        """What the row needs, read; None if its video is there."""
        inputs = {
            "image_sha256": _file_hash(row, "image", row.image),
            "audio_sha256": _file_hash(row, "audio", row.audio),
            "prompt": row.prompt,
            "seed": row.seed,
        }
        if _is_there(row.out, self._digest(inputs)):
            return None
        try:
            image = read_image(row.image, "image")
            sound = read_sound(row.audio, self._sampling.long, "audio")
        except DataError as error:
            raise DataError(f"{row.where}: {error}") from error
        return _Job(row, inputs, image, sound)

    def _digest(self, inputs: dict[str, Any]) -> str:
        made_of = {"inputs": inputs, "settings": self._about["settings"], "identity": self._about["identity"]}
        return sha256_text(json.dumps(made_of, sort_keys=True))

    def _make(self, jobs: list[_Job]) -> None:
        if self._sampling.long:
            for job in jobs:
                made = long_video(self._animator, job.image, job.sound, job.row.prompt, job.row.seed, self._sampling)
                self._write(job, made.frames, {"seams": made.report.as_dict()})
            return
        for job, frames in zip(jobs, self._together(jobs), strict=True):
            self._write(job, frames, {})

    def _together(self, jobs: list[_Job]) -> NDArray[np.uint8]:
        from ..media.frames import fitted_frames
        from ..models.animate import DEFAULT_STEPS, guidance_of

        size, sampling = self._animator.window.frame_size, self._sampling
        return self._animator.animate_batch(
            np.concatenate([fitted_frames(job.image[None], *size) for job in jobs]),
            np.stack([self._animator.window_sound(*job.sound, 0.0) for job in jobs]),
            [job.row.prompt for job in jobs],
            seeds=[job.row.seed for job in jobs],
            num_inference_steps=sampling.steps or DEFAULT_STEPS,
            guidance=guidance_of(sampling.audio_guidance, sampling.text_guidance),
        )

    def _write(self, job: _Job, frames: NDArray[np.uint8], more: dict[str, Any]) -> None:
        out = job.row.out
        about = self._about | {"inputs": job.inputs, "digest": self._digest(job.inputs)} | more
        try:
            write_result(out, frames, self._animator.fps, job.sound)
            write_json(_note(out), about | {"video_sha256": sha256_file(out)})
        except OSError as error:
            self._fail(DataError(f"{job.row.where}: {out} cannot be written: {error.strerror}"))
            return
        self.outcome.written += 1
        self._say(f"{job.row.where}: {out}")

    def _fail(self, error: DataError) -> None:
        self.outcome.failed.append(str(error))
        self._say(f"failed: {error}")


def write_failures(out: Path, outcome: Outcome) -> None:
    """`failed.jsonl` in the folder of results: a line for each row that failed, or no such file."""
    if outcome.failed:
        write_text(out / FAILED_FILE, "".join(json.dumps({"reason": reason}) + "\n" for reason in outcome.failed))
    else:
        (out / FAILED_FILE).unlink(missing_ok=True)


def _identity(animator: Animator) -> dict[str, Any]:
    """All that the model's videos depend on, beside their inputs."""
    from ..models.audio.load import encoder_fingerprints
    from ..stages.record import hash_outputs

    assert animator.adapter_folder is not None, "a table is animated by a model that hears"
    adapter = {name: file.sha256 for name, file in hash_outputs(animator.adapter_folder).items()}
    return {
        "adapter": adapter,
        "backbone": animator.backbone.fingerprint,
        "audio": encoder_fingerprints(animator.encoders),
        "window": animator.window.model_dump(mode="json"),
        "soundstage": __version__,
    }


def _note(video: Path) -> Path:
    return video.with_name(f"{video.name}.json")


def _is_there(video: Path, digest: str) -> bool:
    try:
        note = json.loads(_note(video).read_text())
        return bool(note["digest"] == digest and note["video_sha256"] == sha256_file(video))
    except (OSError, ValueError, KeyError, TypeError):
        return False  # not made, or a note that is none: make it


def _file_hash(row: Row, name: str, path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise DataError(f"{row.where}: {name} {path} cannot be read: {error.strerror}; check the path") from error
