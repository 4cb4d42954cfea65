"""The judge: what a scorer that took no part in making a model says of the video that the model generates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config.tree import WindowConfig
from ..curation.scorer.reference import GROUPS_FILE, describe, scorer_folder
from ..data.records import SCORER_GROUPS, read_table
from ..errors import DataError
from ..media.sound import cut_sound, resample
from ..models.sync import SyncEstimate, SyncScorer, load_scorer
from ..stages.record import StageRecord
from ..stages.workspace import Workspace

_TRAINING_USES = ("pretrain", "finetune", "validation")
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
        DataError: the judge is in the lineage of a model, or shares a group of clips with its training.
    """
    folder = scorer_folder(record, workspace)
    if folder is None:
        return None, str(record.notes.get("scorer", "no judge was trained"))
    fingerprint = str(describe(folder)["fingerprint"])
    _refuse_relatives(fingerprint, models, workspace)
    _refuse_shared_groups(record, clips, selection, workspace)
    scorer, _ = load_scorer(folder)
    return Judge(scorer, fingerprint[:16], window), ""


def _refuse_relatives(fingerprint: str, models: Sequence[StageRecord], workspace: Workspace) -> None:
    for ancestor in ancestry(models, workspace):
        folder = scorer_folder(ancestor, workspace)
        if folder is not None and describe(folder)["fingerprint"] == fingerprint:
            raise DataError(
                f"scorer {fingerprint[:16]} is to judge, but it is in the model's lineage as stage {ancestor.stage} "
                f"({ancestor.digest[:12]}): what chose the training clips cannot be a witness; train a judge of its "
                "own with `soundstage train scorer --role judge`"
            )


def ancestry(records: Sequence[StageRecord], workspace: Workspace) -> Iterator[StageRecord]:
    """`records` and every stage record they came from, each once."""
    waiting, seen = list(records), set()
    while waiting:
        record = waiting.pop()
        if (record.stage, record.digest) in seen:
            continue
        seen.add((record.stage, record.digest))
        yield record
        waiting += [
            StageRecord.load(workspace.payload(ref.stage, ref.digest) / "record.json") for ref in record.inputs.values()
        ]


def _refuse_shared_groups(
    record: StageRecord,
    clips: Sequence[Mapping[str, Any]],
    selection: Sequence[Mapping[str, Any]],
    workspace: Workspace,
) -> None:
    if GROUPS_FILE not in record.outputs:
        raise DataError(
            f"stage judge ({record.digest[:12]}) does not say which clips it was trained on ({GROUPS_FILE} is missing "
            "beside the saved scorer), so nobody can tell that it is independent; train it here, or copy that file too"
        )
    judged_by = {row["group"] for row in read_table(workspace.output(record, GROUPS_FILE), SCORER_GROUPS)}
    groups = {row["clip_id"]: row["group"] for row in clips}
    trained = {groups[row["clip_id"]] for row in selection if row["use"] in _TRAINING_USES}
    if shared := sorted(judged_by & trained):
        raise DataError(
            f"the judge was trained on {len(shared)} groups of clips that the model was trained on too "
            f"({', '.join(group[:12] for group in shared[:_NAMED])}...); give it a split of its own: split.judge"
        )
