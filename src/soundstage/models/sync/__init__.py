"""The sync scorer: two towers that turn picture and sound into sequences, and what their correlation says."""

from .offsets import SyncEstimate, lag_correlation
from .scorer import SyncScorer, load_scorer, save_scorer

__all__ = ["SyncEstimate", "SyncScorer", "lag_correlation", "load_scorer", "save_scorer"]
