"""The learned sync signals of a clip: what the curator says, or nothing where there is no curator to be trusted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..media.decode import DecodedClip
from ..stages.record import StageRecord
from ..stages.workspace import Workspace
from .scorer.reference import describe, scorer_folder

if TYPE_CHECKING:
    from ..models.sync import SyncScorer

TRUSTED_BY = "seen_auc_shifted_0.2"
_MIN_MEASURED_CLIPS = 8


@dataclass(frozen=True)
class Curator:
    """A scorer to score with; crosses into scoring processes by its folder."""

    folder: Path
    name: str
    """first digits of its fingerprint"""

    def columns(self, clip: DecodedClip) -> dict[str, Any]:
        """The sync columns of the signals record for one grey clip; all null where it cannot be judged."""
        from ..media.sound import resample

        scorer = _loaded(self.folder, self.name)
        # A scorer that was trained elsewhere may hear another rate.
        waveform = resample(clip.waveform, clip.sample_rate, scorer.sample_rate)
        estimate = scorer.estimate(clip.frames, float(clip.fps), waveform)
        return {} if estimate is None else {"sync_scorer": self.name, **asdict(estimate)}


@cache
def _loaded(folder: Path, name: str) -> SyncScorer:  # noqa: ARG001 - a folder that was made anew is read anew
    """One scorer a process, on one thread: clips are spread over processes."""
    import torch

    from ..models.sync import load_scorer

    torch.set_num_threads(1)
    return load_scorer(folder)[0]


def choose_curator(record: StageRecord, workspace: Workspace, min_auc: float) -> tuple[Curator | None, str]:
    """The curator that stage `curator` made, if its own measurement lets it be trusted; and a note that says which.

    It must tell true from shifted sound (0.2 s) on clips it was not trained on with at least `min_auc`, measured on at
    least eight clips. Else the learned columns stay null, and selection falls back on what needs no training.
    """
    folder = scorer_folder(record, workspace)
    if folder is None:
        return None, f"no learned sync signals: {record.notes.get('scorer', 'no scorer was trained')}"
    about = describe(folder)
    measured = about.get("measured")
    figures = measured if isinstance(measured, dict) else {}
    found, clips = figures.get(TRUSTED_BY), figures.get("seen_clips", 0)
    name = str(about["fingerprint"])[:16]
    if found is None or clips < _MIN_MEASURED_CLIPS:
        return None, f"no learned sync signals: curator {name} was measured on {clips:g} clips, 8 are needed"
    if found < min_auc:
        return None, (
            f"no learned sync signals: curator {name} tells true from shifted sound with AUC {found:.3f} only; "
            f"score.min_scorer_auc={min_auc:g}"
        )
    return Curator(folder, name), f"learned sync signals by curator {name}, AUC {found:.3f}"
