"""Sync scorers as registered models: one version a scorer, an alias a role, and the loaded model says what it says."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from soundstage.config import Config
from soundstage.config.tree import ScorerConfig, TrackingConfig
from soundstage.data.records import SCORER_GROUPS, read_table, write_table
from soundstage.errors import ConfigError, DataError
from soundstage.media.encode import write_video
from soundstage.models.sync import SyncEstimate, SyncScorer, load_scorer, save_scorer
from soundstage.stages import Inputs, Outcome, StageRecord, Work, Workspace, execute
from soundstage.tracking.door import Place, open_place
from soundstage.tracking.registry import list_versions, version_folder
from soundstage.tracking.scorers import check_name, register_scorer

from ..curation.makers import FPS, RATE, clicks, irregular, pulses

MEASURED = {"seen_auc_shifted_0.2": 0.75, "seen_clips": 9.0}


def scorer(seed: int = 0) -> SyncScorer:
    torch.manual_seed(seed)
    config = ScorerConfig(width=4, embedding_dim=8, frame_size=24, fps=12, crop_sec=1.5)
    return SyncScorer(config, RATE).eval()


def made(workspace: Workspace, role: str, seed: int | None = 0, groups: bool = True) -> StageRecord:
    """A record of stage `role` with the scorer of `seed`, or with none."""

    def function(_config: Config, _inputs: Inputs, work: Work) -> Outcome:
        if seed is None:
            return Outcome(notes={"scorer": "none trained: 2 clips"})
        if groups:
            write_table(work.out / "groups.parquet", SCORER_GROUPS, [{"group": "g1"}, {"group": "g2"}], ["group"])
        fingerprint = save_scorer(work.out / "scorer", scorer(seed), {"role": role, "measured": MEASURED})
        return Outcome(metrics=MEASURED, notes={"scorer": fingerprint})

    return execute(role, function, Config(), {}, workspace, code_version=f"s{seed}", cacheable=False).record


def test_a_scorer_is_registered_once_and_its_roles_are_aliases(
    workspace: Workspace, tracking: TrackingConfig, place: Place, name: str
) -> None:
    curator = made(workspace, "curator")
    uris = [register_scorer(workspace, tracking, name, curator) for _ in range(2)]
    assert uris == [f"models:/{name}/1"] * 2
    assert register_scorer(workspace, tracking, name, made(workspace, "judge", seed=1)) == f"models:/{name}/2"
    found = {version.version: version for version in list_versions(place, name)}
    assert {number: version.aliases for number, version in found.items()} == {"1": ("curator",), "2": ("judge",)}
    tags = found["1"].tags
    assert tags["soundstage.role"] == "curator"
    assert tags["soundstage.scorer"] == curator.notes["scorer"]
    assert tags["soundstage.stage.curator"] == curator.digest
    assert tags["soundstage.content.curator"] == curator.content


def test_the_alias_moves_to_the_newer_scorer_of_its_role(
    workspace: Workspace, tracking: TrackingConfig, place: Place, name: str
) -> None:
    for seed in (0, 1):
        register_scorer(workspace, tracking, name, made(workspace, "curator", seed))
    assert {v.version: v.aliases for v in list_versions(place, name)} == {"1": (), "2": ("curator",)}


def test_a_version_holds_its_measurements_and_can_be_trained_from(
    workspace: Workspace, tracking: TrackingConfig, place: Place, name: str
) -> None:
    """Its folder is one that `pretrained` takes, with the list of groups that an evaluation asks for beside it."""
    record = made(workspace, "judge")
    register_scorer(workspace, tracking, name, record)
    (version,) = list_versions(place, name)
    run = place.client.get_run(str(version.run_id))
    assert run.info.status == "FINISHED"
    assert {key: run.data.metrics[key] for key in MEASURED} == MEASURED
    artifacts = version_folder(workspace, place, name, version.version) / "artifacts"
    _, about = load_scorer(artifacts / "scorer")
    assert about["fingerprint"] == record.notes["scorer"]
    assert [row["group"] for row in read_table(artifacts / "groups.parquet", SCORER_GROUPS)] == ["g1", "g2"]


def video(path: Path, still: bool = False) -> bytes:
    """A file of 2 s with picture and sound."""
    events = irregular(2.0)
    grey = pulses(events, 2.0, size=96)
    colour = np.repeat((np.repeat(grey[:1], len(grey), axis=0) if still else grey)[..., None], 3, axis=3)
    write_video(path, colour, FPS, clicks(events, 2.0), RATE)
    return path.read_bytes()


def test_the_loaded_model_says_what_the_scorer_says(
    workspace: Workspace, tracking: TrackingConfig, name: str, place: Place, tmp_path: Path
) -> None:
    import mlflow

    from soundstage.media.normalise import NormaliseSettings, Span, decode_spans
    from soundstage.media.place_audio import decode_audio
    from soundstage.media.probe import Limits, probe

    uri = register_scorer(workspace, tracking, name, made(workspace, "curator"))
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(place.uri)
    try:
        model = mlflow.pyfunc.load_model(uri)
    finally:
        mlflow.set_tracking_uri(before)
    moving, still = video(tmp_path / "moving.mp4"), video(tmp_path / "still.mp4", still=True)
    answer = model.predict(pd.DataFrame({"video": [moving, still]}))
    assert list(answer.columns) == [field.name for field in fields(SyncEstimate)]

    source = probe(tmp_path / "moving.mp4", Limits(0.0, 10.0, 10**6))
    span = Span(0, int(source.duration * 1_000_000))
    frames = next(decode_spans(tmp_path / "moving.mp4", source, [span], NormaliseSettings(96, 12, RATE)))
    grey = np.asarray(frames, np.float64) @ [0.299, 0.587, 0.114]
    waveform: Any = decode_audio(tmp_path / "moving.mp4", source, RATE)
    expected = scorer().estimate((grey + 0.5).astype(np.uint8), 12, waveform)
    assert expected is not None
    # In float32 there, a grey level may round the other way.
    assert answer.iloc[0].to_dict() == pytest.approx(asdict(expected), abs=2e-3)
    assert answer.iloc[1].isna().all(), "a still picture has no synchrony"


def test_without_a_scorer_nothing_is_registered(workspace: Workspace, tracking: TrackingConfig, name: str) -> None:
    with pytest.raises(DataError, match="stage judge holds no scorer to register: none trained: 2 clips"):
        register_scorer(workspace, tracking, name, made(workspace, "judge", seed=None))
    assert list_versions(open_place(workspace, tracking), name) == []


def test_a_scorer_without_its_groups_is_registered_too(
    workspace: Workspace, tracking: TrackingConfig, place: Place, name: str
) -> None:
    register_scorer(workspace, tracking, name, made(workspace, "curator", groups=False))
    artifacts = version_folder(workspace, place, name, "1") / "artifacts"
    assert not (artifacts / "groups.parquet").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [("a/b", "is no model name"), ("", "is no model name"), ("animator", r"is the name of the models that animate")],
)
def test_a_name_that_is_none_or_taken_by_another_kind_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_name(name, "animator")
    check_name("sync-scorer", "animator")
