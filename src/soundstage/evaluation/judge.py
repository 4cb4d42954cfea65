"""The judge: what a scorer that took no part in making a model says of the video that the model generates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config.tree import WindowConfig
from ..curation.scorer.reference import GROUPS_FILE, SCORER_FOLDER, scorer_folder
from ..data.records import SCORER_GROUPS, read_table
from ..errors import DataError
from ..media.sound import cut_sound, resample
from ..models.sync import SyncEstimate, SyncScorer, load_scorer
from ..models.sync.scorer import WEIGHTS_FILE
from ..stages.record import InputRef, StageRecord
from ..stages.workspace import Workspace

_TRAINING_USES = ("pretrain", "finetune", "validation")
_TESTING_USES = ("test", "open_class_test")
_NAMED = 3
# ITU-R BT.601 luma: what a decoder puts out as grey.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Judge:
    """A scorer of role `judge` that is independent of the models it judges."""

    def __init__(self, scorer: SyncScorer, name: str, window: WindowConfig) -> None:
        """`name` is what its figures are called by: figures of two judges are never compared.

        Raises:
            DataError: it was made for another frame rate than that of the generated windows.
        """
        if scorer.config.fps != window.fps:
            raise DataError(
                f"the judge sees {scorer.config.fps} frames a second, generated windows have {window.fps}; set "
                f"judge.fps={window.fps} and train it anew"
            )
        self.name = name
        self._scorer = scorer
        self._window = window

    def estimates(
        self, videos: NDArray[np.uint8], sounds: NDArray[np.float32], sample_rate: int
    ) -> list[SyncEstimate | None]:
        """Of each of (N, T, H, W, 3) videos with its (N, samples) sound; the sound has the window's margins."""
        return [self._estimate(video, sound, sample_rate) for video, sound in zip(videos, sounds, strict=True)]

    def _estimate(self, video: NDArray[np.uint8], sound: NDArray[np.float32], sample_rate: int) -> SyncEstimate | None:
        audible = cut_sound(sound, sample_rate, self._window.audio_margin_sec, float(self._window.duration_sec))
        grey = np.clip(video.astype(np.float32) @ _LUMA + 0.5, 0, 255).astype(np.uint8)
        return self._scorer.estimate(grey, self._window.fps, resample(audible, sample_rate, self._scorer.sample_rate))


def open_judge(
    record: StageRecord,
    models: Sequence[StageRecord],
    clips: Sequence[Mapping[str, Any]],
    selection: Sequence[Mapping[str, Any]],
    workspace: Workspace,
    window: WindowConfig,
) -> tuple[Judge | None, str]:
    """The judge that stage `judge` made, after the proof that it is no party; and a note when there is none.

    Raises:
        DataError: the judge is in the lineage of a model, knows a group of clips that a model or a scorer of its
            lineage was trained on or that it is to judge, or a lineage cannot be followed to its end.
    """
    folder = scorer_folder(record, workspace)
    if folder is None:
        return None, str(record.notes.get("scorer", "no judge was trained"))
    ancestors = list(ancestry(models, workspace))
    _refuse_relatives(record, ancestors)
    known = _known_groups(record, workspace)
    groups = {row["clip_id"]: row["group"] for row in clips}
    for use, others in _uses(selection, groups, ancestors, workspace):
        if shared := sorted(known & others):
            raise DataError(
                f"the judge was trained on {len(shared)} groups of clips {use} too "
                f"({', '.join(group[:12] for group in shared[:_NAMED])}...); give it a split of its own: split.judge"
            )
    scorer, about = load_scorer(folder)
    return Judge(scorer, str(about["fingerprint"])[:16], window), ""


def _refuse_relatives(record: StageRecord, ancestors: Sequence[StageRecord]) -> None:
    """By weights, not by description: a scorer that is described anew is still the same."""
    own = record.outputs[f"{SCORER_FOLDER}/{WEIGHTS_FILE}"].sha256
    for ancestor in ancestors:
        theirs = ancestor.outputs.get(f"{SCORER_FOLDER}/{WEIGHTS_FILE}")
        if theirs is not None and theirs.sha256 == own:
            raise DataError(
                f"scorer {record.notes.get('scorer', own)[:16]} is to judge, but it is in the model's lineage as stage "
                f"{ancestor.stage} ({ancestor.digest[:12]}): what chose the training clips cannot be a witness; train "
                "a judge of its own with `soundstage train scorer --role judge`"
            )


def ancestry(records: Sequence[StageRecord], workspace: Workspace) -> Iterator[StageRecord]:
    """`records` and every stage record they came from, each once.

    Raises:
        DataError: a record is gone, or was replaced by one of another result.
    """
    waiting, seen = list(records), set()
    while waiting:
        record = waiting.pop()
        if (record.stage, record.digest) in seen:
            continue
        seen.add((record.stage, record.digest))
        yield record
        waiting += [_parent(record, ref, workspace) for ref in record.inputs.values()]


def _parent(record: StageRecord, ref: InputRef, workspace: Workspace) -> StageRecord:
    path = workspace.payload(ref.stage, ref.digest) / "record.json"
    parent = StageRecord.load(path) if path.is_file() else None
    if parent is None or parent.content != ref.content:
        happened = "is gone" if parent is None else "was made anew with another result"
        raise DataError(
            f"the lineage of the model cannot be followed: stage {record.stage} ({record.digest[:12]}) read stage "
            f"{ref.stage} ({ref.digest[:12]}), which {happened}, so nobody can tell that the judge is no party; rerun "
            "the pipeline with --no-cache"
        )
    return parent


def _known_groups(record: StageRecord, workspace: Workspace) -> set[str]:
    """The groups that the scorer of `record` was trained on."""
    if GROUPS_FILE not in record.outputs:
        raise DataError(
            f"stage {record.stage} ({record.digest[:12]}) does not say which clips it was trained on ({GROUPS_FILE} is "
            "missing beside the saved scorer), so nobody can tell that it is independent; train it here, or copy that "
            "file too"
        )
    return {row["group"] for row in read_table(workspace.output(record, GROUPS_FILE), SCORER_GROUPS)}


def _uses(
    selection: Sequence[Mapping[str, Any]],
    groups: Mapping[str, str],
    ancestors: Sequence[StageRecord],
    workspace: Workspace,
) -> Iterator[tuple[str, set[str]]]:
    """What a judge must not know: groups of clips by the use that was made of them."""
    yield "that the model was trained on", _groups_of(selection, groups, _TRAINING_USES)
    yield "that it is to judge", _groups_of(selection, groups, _TESTING_USES)
    for ancestor in ancestors:
        # A curator from elsewhere may not say whom it knows; it is no judge, so that is no reason to stop.
        if f"{SCORER_FOLDER}/{WEIGHTS_FILE}" in ancestor.outputs and GROUPS_FILE in ancestor.outputs:
            yield f"that stage {ancestor.stage} was trained on", _known_groups(ancestor, workspace)


def _groups_of(selection: Sequence[Mapping[str, Any]], groups: Mapping[str, str], uses: Sequence[str]) -> set[str]:
    return {groups[row["clip_id"]] for row in selection if row["use"] in uses}
