"""The workspace: the one folder that holds everything a user's runs read and write.

reviews/reviews.parquet      the append-only ledger of human verdicts
manifests/<stage>/           the current result of each stage, small enough for DVC, with its record.json
payloads/<stage>/<digest>/   every result, by the hash of its work; immutable
media/<normalisation>/       normalised clips by clip id
runs/<run id>/               events, log, summary and report of a pipeline run
kfp/  tracking/              pipeline artifacts; MLflow's database and artifacts
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from .files import exclusive_lock, replace_directory
from .record import StageRecord

ENVIRONMENT_VARIABLE = "SOUNDSTAGE_WORKSPACE"
PUBLISH_LIMIT_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Workspace:
    """Paths below one root folder; URIs in records are relative to it."""

    root: Path

    @staticmethod
    def open(root: Path | str | None = None) -> Workspace:
        """The workspace at `root`, else at $SOUNDSTAGE_WORKSPACE, else the folder `workspace` here; made if absent."""
        chosen = Path(root or os.environ.get(ENVIRONMENT_VARIABLE) or "workspace").expanduser().resolve()
        chosen.mkdir(parents=True, exist_ok=True)
        return Workspace(chosen)

    @property
    def reviews(self) -> Path:
        """The append-only ledger of verdicts."""
        return self.root / "reviews" / "reviews.parquet"

    @property
    def media(self) -> Path:
        """Normalised clips."""
        return self.root / "media"

    @property
    def runs(self) -> Path:
        """One folder a pipeline run."""
        return self.root / "runs"

    @property
    def kfp(self) -> Path:
        """Artifacts and cache of the KFP local runner."""
        return self.root / "kfp"

    @property
    def tracking(self) -> Path:
        """MLflow's database and artifacts when no server is configured."""
        return self.root / "tracking"

    def resolve(self, uri: str) -> Path:
        """Absolute path of a workspace-relative URI."""
        return self.root / uri

    def relative(self, path: Path) -> str:
        """Workspace-relative URI of a path inside the workspace."""
        return path.resolve().relative_to(self.root).as_posix()

    def payload(self, stage: str, digest: str) -> Path:
        """Folder of one stage result."""
        return self.root / "payloads" / stage / digest[:24]

    def manifest(self, stage: str) -> Path:
        """Folder of the current result of a stage."""
        return self.root / "manifests" / stage

    def current(self, stage: str) -> StageRecord:
        """The record of a stage's current result.

        Raises:
            DataError: the stage has not run in this workspace.
        """
        path = self.manifest(stage) / "record.json"
        if not path.exists():
            raise DataError(
                f"stage {stage!r} has no result in workspace {self.root} yet; run `soundstage {stage}` "
                "or the whole pipeline first"
            )
        return StageRecord.load(path)

    def output(self, record: StageRecord, name: str) -> Path:
        """Path of one output file of `record`.

        Raises:
            DataError: the payload was deleted, or the stage wrote no such file.
        """
        if name not in record.outputs:
            known = ", ".join(record.outputs) or "none"
            raise DataError(f"stage {record.stage} wrote no {name!r}; its files: {known}")
        path = self.resolve(record.payload) / name
        if not path.exists():
            raise DataError(
                f"{path} of stage {record.stage} is gone from the workspace; "
                f"rerun `soundstage {record.stage}`, or the pipeline with --no-cache"
            )
        return path

    def publish(self, record: StageRecord) -> None:
        """Make `record` the current result of its stage: copy record and small outputs to `manifests/<stage>/`."""
        # Two runs in one workspace may publish different results of a stage at once; the last one stays.
        with exclusive_lock(self.root / "payloads" / record.stage / ".publish.lock"):
            self._publish(record)

    def _publish(self, record: StageRecord) -> None:
        target = self.manifest(record.stage)
        staging = target.with_name(f".{target.name}.{os.getpid()}.new")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        record.save(staging / "record.json")
        if sum(file.bytes for file in record.outputs.values()) <= PUBLISH_LIMIT_BYTES:
            for name in record.outputs:
                copy = staging / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.output(record, name), copy)
        replace_directory(staging, target)
