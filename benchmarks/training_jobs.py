"""Jobs of stage one over a preset's own shards, for benchmarks of the trainer."""

from __future__ import annotations

from pathlib import Path

from soundstage.catalog import STAGES, run_stage
from soundstage.config import load_config
from soundstage.config.slices import TrainSlice
from soundstage.data.shards import INDEX_FILE
from soundstage.stages import StageRecord, Workspace
from soundstage.training.job import TrainingJob


def prepared(workspace: Workspace, preset: str, overrides: list[str], folder: Path) -> TrainingJob:
    """A job whose outputs lie in `folder`; the preset's shards and backbone are made when they are not there."""
    config = load_config(preset, overrides=overrides)
    records: dict[str, StageRecord] = {}
    for name, stage in STAGES.items():
        inputs = {key: records[source] for key, source in stage.inputs.items()}
        records[name] = run_stage(name, stage.slice_of(config), inputs, workspace).record
        if name == "backbone":
            break
    (folder / "out").mkdir(parents=True)
    chosen = STAGES["pretrain"].slice_of(config)
    assert isinstance(chosen, TrainSlice)
    return TrainingJob(
        stage="pretrain",
        config=chosen,
        shards=workspace.output(records["encode"], INDEX_FILE).parent,
        use="pretrain",
        backbone=workspace.output(records["backbone"], "backbone/backbone.json").parent,
        initial_adapter=None,
        out=folder / "out",
        scratch=folder / "scratch",
    )
