"""The record of a finished stage: what went in, what came out, each file by its hash. It holds no wall time."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ..errors import DataError
from .files import sha256_file, sha256_text, write_json


class OutputFile(BaseModel):
    """One file of a payload."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    bytes: int


class InputRef(BaseModel):
    """One input of a stage: the record it came from and the hash of that record's outputs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    digest: str
    content: str


class StageRecord(BaseModel):
    """What a stage did. `digest` names the work (config, code, inputs); `content` names its result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    digest: str
    payload: str
    """folder of the outputs, relative to the workspace"""
    config: dict[str, object]
    code_version: str
    external_digest: str
    inputs: dict[str, InputRef]
    outputs: dict[str, OutputFile]
    """path inside the payload folder -> file"""
    counts: dict[str, int]
    metrics: dict[str, float]
    notes: dict[str, str]

    @property
    def content(self) -> str:
        """Hash of the outputs alone: equal results give equal content, however they came about."""
        return sha256_text(json.dumps({name: file.sha256 for name, file in sorted(self.outputs.items())}))

    def ref(self) -> InputRef:
        """Name the record as another stage's input."""
        return InputRef(stage=self.stage, digest=self.digest, content=self.content)

    def save(self, path: Path) -> None:
        """Write the record as JSON."""
        write_json(path, self.model_dump(mode="json"))

    @staticmethod
    def load(path: Path) -> StageRecord:
        """Read a record.

        Raises:
            DataError: no such file, or not a stage record.
        """
        try:
            return StageRecord.model_validate_json(path.read_text())
        except FileNotFoundError as error:
            raise DataError(f"stage record {path} does not exist; run the stage that writes it first") from error
        except ValueError as error:
            raise DataError(f"stage record {path} is not readable as one: {error}") from error


def hash_outputs(folder: Path) -> dict[str, OutputFile]:
    """Every file under `folder` by its relative path, sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): OutputFile(sha256=sha256_file(path), bytes=path.stat().st_size)
        for path in files
    }
