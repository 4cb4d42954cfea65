"""Stages: how a piece of work is named, run once, recorded and found again."""

from .execute import Execution, Inputs, NullObserver, NullTracker, Observer, Outcome, Tracker, Work, execute
from .fingerprint import code_version
from .progress import Progress, track
from .record import StageRecord
from .workspace import Workspace

__all__ = [
    "Execution",
    "Inputs",
    "NullObserver",
    "NullTracker",
    "Observer",
    "Outcome",
    "Progress",
    "StageRecord",
    "Tracker",
    "Work",
    "Workspace",
    "code_version",
    "execute",
    "track",
]
