"""Which curator is trusted, and that the columns of a clip are its estimate."""

from __future__ import annotations

import pickle
import re
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from soundstage.config import Config
from soundstage.config.tree import ScorerConfig
from soundstage.curation.learned import Curator, choose_curator
from soundstage.data.records import SIGNALS
from soundstage.errors import DataError
from soundstage.media.decode import DecodedClip
from soundstage.media.sound import resample
from soundstage.models.sync import SyncScorer, save_scorer
from soundstage.stages import Outcome, StageRecord, Work, Workspace, execute
from tests.unit.curation.makers import FPS, RATE, clicks, irregular, pulses

SECONDS = 2.0


def scorer(seed: int = 0, rate: int = RATE) -> SyncScorer:
    torch.manual_seed(seed)
    return SyncScorer(ScorerConfig(width=4, embedding_dim=8, frame_size=16, fps=12), rate).eval()


def made(workspace: Workspace, measured: dict[str, float] | None, notes: dict[str, str] | None = None) -> StageRecord:
    """A record of stage `curator`, with a scorer that states `measured`, or with none."""

    def run(_config: Config, _inputs: Any, work: Work) -> Outcome:
        if measured is not None:
            save_scorer(work.out / "scorer", scorer(), {"role": "curator", "measured": measured})
        return Outcome(notes=notes or {})

    return execute("curator", run, Config(), {}, workspace, code_version="t", cacheable=False).record


GOOD = {"seen_clips": 20.0, "seen_auc_shifted_0.2": 0.9}


@pytest.mark.parametrize(
    ("measured", "trusted", "said"),
    [
        (None, False, "no learned sync signals: none trained: 3 clips"),
        ({}, False, r"was measured on 0 clips, 8 are needed"),
        (GOOD | {"seen_clips": 7.0}, False, r"was measured on 7 clips, 8 are needed"),
        (GOOD | {"seen_auc_shifted_0.2": 0.6994}, False, r"with AUC 0\.699 only; score\.min_scorer_auc=0\.7"),
        (GOOD | {"seen_auc_shifted_0.2": 0.7}, True, r"learned sync signals by curator \w{16}, AUC 0\.700"),
        ({"seen_clips": 20.0, "seen_auc_shifted_0.1": 0.99}, False, "was measured on 20 clips"),
    ],
    ids=["none", "not measured", "too few clips", "too poor", "good enough", "without the figure"],
)
def test_a_curator_is_trusted_by_its_own_measurement(
    measured: dict[str, float] | None, trusted: bool, said: str, tmp_path: Path
) -> None:
    workspace = Workspace.open(tmp_path)
    record = made(workspace, measured, {"scorer": "none trained: 3 clips"})
    curator, note = choose_curator(record, workspace, min_auc=0.7)
    assert (curator is not None) == trusted
    assert re.search(said, note), note


def test_a_deleted_scorer_is_an_error_and_no_missing_signal(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    record = made(workspace, GOOD)
    (workspace.resolve(record.payload) / "scorer" / "scorer.json").unlink()
    with pytest.raises(DataError, match="is gone from the workspace"):
        choose_curator(record, workspace, 0.7)


def clip(rate: int = RATE, still: bool = False) -> DecodedClip:
    events = irregular(SECONDS)
    frames = pulses(events, SECONDS)
    if still:
        frames = np.repeat(frames[:1], len(frames), axis=0)
    return DecodedClip(frames, Fraction(FPS), resample(clicks(events, SECONDS), RATE, rate), rate)


def saved(folder: Path, seed: int = 0, rate: int = RATE) -> Curator:
    return Curator(folder, save_scorer(folder, scorer(seed, rate), {})[:16])


def test_the_columns_are_the_estimate_under_the_scorers_name(tmp_path: Path) -> None:
    curator = saved(tmp_path / "scorer")
    estimate = scorer().estimate(clip().frames, FPS, clip().waveform)
    assert estimate is not None
    found = pickle.loads(pickle.dumps(curator)).columns(clip())
    assert found == {"sync_scorer": curator.name, **asdict(estimate)}
    assert set(found) <= set(SIGNALS.names)


def test_a_clip_that_cannot_be_judged_has_no_columns(tmp_path: Path) -> None:
    assert saved(tmp_path / "scorer").columns(clip(still=True)) == {}


def test_sound_at_another_rate_is_brought_to_the_scorers(tmp_path: Path) -> None:
    """Unchanged, it would be heard twice as fast and half as high."""
    curator = saved(tmp_path / "scorer", rate=8000)
    there = curator.columns(clip(RATE))
    expected = scorer(rate=8000).estimate(clip().frames, FPS, resample(clip().waveform, RATE, 8000))
    assert expected is not None
    assert there == {"sync_scorer": curator.name, **asdict(expected)}


def test_a_folder_that_was_made_anew_is_read_anew(tmp_path: Path) -> None:
    first = saved(tmp_path / "scorer").columns(clip())
    second = saved(tmp_path / "scorer", seed=1).columns(clip())
    assert first["sync_score"] != second["sync_score"]
