"""The judge: no party to what it judges, proven by records; and its figures for the truth and every condition."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from soundstage.config import Config
from soundstage.config.tree import ScorerConfig, WindowConfig
from soundstage.data.records import SCORER_GROUPS, write_table
from soundstage.errors import DataError
from soundstage.evaluation.judge import Judge, ancestry, open_judge
from soundstage.evaluation.protocol import ARMS
from soundstage.media.sound import cut_sound, resample
from soundstage.models.sync import SyncScorer, save_scorer
from soundstage.stages import Inputs, Outcome, StageRecord, Work, Workspace, execute

from ..curation.makers import FPS, RATE, clicks, irregular, pulses
from .test_evaluate import config, inputs_with, read, run

WINDOW = WindowConfig(num_frames=12, fps=6, size=32, audio_margin_sec=0.25)
MODEL = ("backbone", "pretrain", "finetune")


def scorer(seed: int = 0, rate: int = RATE, fps: int = 6) -> SyncScorer:
    torch.manual_seed(seed)
    return SyncScorer(ScorerConfig(width=4, embedding_dim=8, frame_size=16, fps=fps), rate).eval()


def put(
    workspace: Workspace,
    stage: str,
    inputs: Mapping[str, StageRecord],
    write: Callable[[Path], str],
    version: str = "v",
) -> StageRecord:
    """A real record: `write` fills the payload and returns the note on the scorer."""

    def function(_config: Config, _inputs: Inputs, work: Work) -> Outcome:
        note = write(work.out)
        return Outcome(notes={"scorer": note} if note else {})

    return execute(stage, function, Config(), inputs, workspace, code_version=version, cacheable=False).record


def saved(seed: int, groups: tuple[str, ...] | None, fps: int = 6, about: str = "") -> Callable[[Path], str]:
    """Writes the scorer of `seed`, with the groups it was trained on."""

    def write(out: Path) -> str:
        if groups is not None:
            write_table(out / "groups.parquet", SCORER_GROUPS, [{"group": g} for g in groups], ["group"])
        return save_scorer(out / "scorer", scorer(seed, fps=fps), {"role": "judge", "about": about})

    return write


def text(content: str) -> Callable[[Path], str]:
    def write(out: Path) -> str:
        (out / "result.txt").write_text(content)
        return ""

    return write


class Chain:
    """Records from clips to models, each with the inputs it has in a run; the curator has seed 1."""

    def __init__(self, root: Path, curator: Callable[[Path], str] | None = None) -> None:
        self.workspace = Workspace.open(root)
        self.records: dict[str, StageRecord] = {}
        for stage, sources in (("split", ()), ("curator", ("split",)), ("score", ("split", "curator")),
                               ("select", ("split", "score")), ("encode", ("split", "select")),
                               ("backbone", ("encode",)), ("pretrain", ("encode", "backbone")),
                               ("finetune", ("encode", "backbone", "pretrain"))):  # fmt: skip
            write = (curator or saved(1, ("pool 1",))) if stage == "curator" else text(stage)
            self.records[stage] = put(
                self.workspace, stage, {source: self.records[source] for source in sources}, write
            )

    def open(self, judge: StageRecord) -> tuple[Judge | None, str]:
        clips = [{"clip_id": str(n), "group": group} for n, group in enumerate(("pool 1", "pool 2", "test", "judges"))]
        uses = ("pretrain", "finetune", "test", "dropped")
        selection = [{"clip_id": str(n), "use": use} for n, use in enumerate(uses)]
        return open_judge(judge, [self.records[name] for name in MODEL], clips, selection, self.workspace, WINDOW)

    def judge(self, write: Callable[[Path], str]) -> StageRecord:
        return put(self.workspace, "judge", {"split": self.records["split"]}, write)


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path / "workspace")


def test_a_judge_of_its_own_weights_and_clips_is_opened_under_its_name(chain: Chain) -> None:
    record = chain.judge(saved(2, ("judges", "others")))
    judge, note = chain.open(record)
    assert judge is not None
    assert judge.name == record.notes["scorer"][:16]
    assert note == ""


def test_no_judge_is_a_note_and_no_error(chain: Chain) -> None:
    def none(_out: Path) -> str:
        return "none trained: 3 clips of split judge can be trained on"

    assert chain.open(chain.judge(none)) == (None, none(Path()))


@pytest.mark.parametrize("about", ["", "described otherwise"])
def test_the_curator_cannot_judge_however_it_is_described(chain: Chain, about: str) -> None:
    record = chain.judge(saved(1, ("judges",), about=about))
    with pytest.raises(DataError, match=r"is to judge, but it is in the model's lineage as stage curator \(\w{12}\)"):
        chain.open(record)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("pool 1", r"was trained on 1 groups of clips that the model was trained on too \(pool 1"),
        ("pool 2", r"that the model was trained on too \(pool 2"),
        ("test", r"that it is to judge too \(test"),
    ],
    ids=["pretraining", "finetuning", "test"],
)
def test_a_judge_that_knows_clips_of_the_model_or_the_test_is_refused(chain: Chain, group: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        chain.open(chain.judge(saved(2, ("judges", group))))


def test_a_judge_that_knows_what_the_curator_was_trained_on_is_refused(tmp_path: Path) -> None:
    """Even where selection dropped those clips, so that the model never saw them."""
    chain = Chain(tmp_path / "workspace", curator=saved(1, ("pool 1", "dropped later")))
    with pytest.raises(DataError, match=r"that stage curator was trained on too \(dropped late"):
        chain.open(chain.judge(saved(2, ("dropped later", "judges"))))


def test_a_judge_that_does_not_say_whom_it_knows_is_refused(chain: Chain) -> None:
    with pytest.raises(DataError, match=r"groups\.parquet is missing beside the saved scorer"):
        chain.open(chain.judge(saved(2, None)))


def test_a_judge_of_another_frame_rate_is_refused(chain: Chain) -> None:
    with pytest.raises(DataError, match=r"sees 12 frames a second, generated windows have 6; set judge\.fps=6"):
        chain.open(chain.judge(saved(2, ("judges",), fps=12)))


@pytest.mark.parametrize("stage", ["curator", "score", "encode"])
def test_a_lineage_with_a_gap_is_named(chain: Chain, stage: str) -> None:
    judge = chain.judge(saved(2, ("judges",)))
    shutil.rmtree(chain.workspace.resolve(chain.records[stage].payload))
    with pytest.raises(
        DataError, match=rf"read stage {stage} \(\w{{12}}\), which is gone.*rerun the pipeline with --no-cache"
    ):
        chain.open(judge)


def test_a_lineage_whose_link_was_made_anew_is_named(chain: Chain) -> None:
    """With the same work another curator lies in its place: which one chose the clips can no longer be told."""
    judge = chain.judge(saved(2, ("judges",)))
    again = put(chain.workspace, "curator", {"split": chain.records["split"]}, saved(3, ("pool 1",)))
    assert again.payload == chain.records["curator"].payload
    with pytest.raises(DataError, match=r"read stage curator \(\w{12}\), which was made anew with another result"):
        chain.open(judge)


def test_every_ancestor_is_met_once(chain: Chain) -> None:
    met = [record.stage for record in ancestry([chain.records[name] for name in MODEL], chain.workspace)]
    assert sorted(met) == sorted(chain.records)


def test_an_estimate_is_the_scorers_of_grey_pictures_and_the_sound_without_margins() -> None:
    seconds, margin, heard = 2.0, 0.25, 8000
    events = irregular(seconds)
    grey = pulses(events, seconds, size=36)[:: FPS // 6]
    colour = np.repeat(grey[..., None], 3, axis=3)
    sound = clicks([event + margin for event in events], seconds + 2 * margin)
    judge = Judge(scorer(rate=heard), "name", WINDOW)
    found = judge.estimates(colour[None], sound[None], RATE)
    inside = resample(cut_sound(sound, RATE, margin, seconds), RATE, heard)
    expected = scorer(rate=heard).estimate(grey, 6, inside)
    assert expected is not None
    assert found[0] is not None
    assert asdict(found[0]) == pytest.approx(asdict(expected), rel=1e-4)


def test_red_green_and_blue_count_as_a_decoder_counts_them() -> None:
    """By BT.601: a pure colour's grey level; the mean of channels would say 85 for each."""
    seen: list[Any] = []

    class Sees(SyncScorer):
        def estimate(self, frames: Any, fps: float, waveform: Any) -> None:
            seen.append(frames[0, 0, 0])

    judge = Judge(Sees(ScorerConfig(fps=6), RATE), "name", WINDOW)
    for channel in range(3):
        picture = np.zeros((1, 12, 8, 8, 3), np.uint8)
        picture[..., channel] = 255
        judge.estimates(picture, np.zeros((1, RATE), np.float32), RATE)
    assert seen == [76, 150, 29]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Any, str]:
    """The stage with a judge, on three test clips, one of them with a still picture."""
    workspace = Workspace.open(tmp_path_factory.mktemp("judged") / "workspace")
    inputs = dict(inputs_with(workspace, {0: "test", 1: "test", 2: "test"}, still=2))
    inputs["judge"] = put(workspace, "judge", {}, saved(2, ("judges",)))
    done = run(workspace, inputs)
    return read(workspace, done)[0], done.record, inputs["judge"].notes["scorer"]


def test_the_truth_and_every_condition_have_the_judges_figures(evaluated: tuple[dict[str, Any], Any, str]) -> None:
    result, record, fingerprint = evaluated
    judged = result["judge"]
    assert judged["name"] == fingerprint[:16]
    assert set(judged["conditions"]) == {"truth", *(arm.name for arm in ARMS)}
    for name, entry in judged["conditions"].items():
        assert entry["sync_score"]["n"] == entry["abs_offset_sec"]["n"]
        assert entry["sync_score"]["n"] + entry["unjudged"] == 3, name
    assert judged["conditions"]["truth"]["unjudged"] == 1, "the still clip"
    assert judged["conditions"]["silent"]["unjudged"] == 3, "digital silence says nothing"
    assert judged["conditions"]["silent"]["sync_score"]["mean"] is None
    assert judged["conditions"]["true"]["sync_score"]["mean"] is not None
    assert "judge" not in record.notes


def test_the_figure_of_the_truth_is_that_of_its_windows(evaluated: tuple[dict[str, Any], Any, str]) -> None:
    entry = evaluated[0]["judge"]["conditions"]["truth"]
    assert entry["sync_score"]["low"] <= entry["sync_score"]["mean"] <= entry["sync_score"]["high"]
    assert 0 <= entry["abs_offset_sec"]["mean"] <= scorer().reach / 6


def test_without_a_judge_the_notes_say_why(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "workspace")
    done = run(workspace, inputs_with(workspace, {0: "pretrain"}))
    assert "judge" not in read(workspace, done)[0]
    assert done.record.notes["judge"] == "none trained: too few clips"


def test_a_judge_that_is_a_party_stops_the_stage_before_anything_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.open(tmp_path / "workspace")
    inputs = dict(inputs_with(workspace, {0: "test", 1: "pretrain"}))
    # All clips of these inputs are of group "x".
    inputs["judge"] = put(workspace, "judge", {}, saved(2, ("x",)))
    monkeypatch.setattr("soundstage.evaluation.evaluate._generate", lambda *_: pytest.fail("a video was generated"))
    with pytest.raises(DataError, match="that the model was trained on too"):
        run(workspace, inputs)


def test_the_protocol_of_the_stage_is_that_of_the_judge() -> None:
    assert config().window.fps == scorer().config.fps
