"""A training job: what a launcher hands to every process, as one JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ..config.slices import TrainSlice
from ..stages.files import write_text

METRICS_FILE, CURVES_FILE = "metrics.jsonl", "curves.json"


class TrainingJob(BaseModel):
    """Paths and configuration of one run of the trainer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: Literal["backbone", "pretrain", "finetune"]
    config: TrainSlice
    shards: Path
    use: str
    """which samples train"""
    backbone: Path | None
    """saved backbone; None trains a new stand-in"""
    initial_adapter: Path | None
    """adapter to start from; None starts at zero"""
    out: Path
    code: str = ""
    """version of the code that asked for the job; a process of another one refuses it. Empty: any"""
    scratch: Path
    """checkpoints and metrics, kept when a run fails"""

    @property
    def replays(self) -> bool:
        """Whether stage one's samples, of the use `pretrain`, train too."""
        return self.stage == "finetune" and self.config.train.replay_share > 0

    @property
    def checkpoints(self) -> Path:
        """Folder of the engine's checkpoints."""
        return self.scratch / "checkpoints"

    @property
    def metrics(self) -> Path:
        """JSON lines that rank 0 writes as it goes."""
        return self.scratch / METRICS_FILE

    @property
    def previews(self) -> Path:
        """Sample videos that rank 0 writes as it goes."""
        return self.scratch / "previews"

    def save(self, path: Path) -> None:
        """Write the job for its processes."""
        write_text(path, self.model_dump_json(indent=2))

    @staticmethod
    def load(path: Path) -> TrainingJob:
        """Read what `save` wrote."""
        return TrainingJob.model_validate_json(path.read_text())
