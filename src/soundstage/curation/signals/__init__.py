"""Signals: pure functions of a clip's small grey frames and mono sound, each with a unit and its known failures."""

from .cuts import count_cuts
from .motion import frozen_share, motion_curve, motion_peak, motion_peaks
from .picture import black_share
from .sound import OnsetEnvelope, clipping_share, loudness_dbfs, onset_envelope, onset_times, silence_share
from .sync import Offset, av_align, best_offset

__all__ = [
    "Offset",
    "OnsetEnvelope",
    "av_align",
    "best_offset",
    "black_share",
    "clipping_share",
    "count_cuts",
    "frozen_share",
    "loudness_dbfs",
    "motion_curve",
    "motion_peak",
    "motion_peaks",
    "onset_envelope",
    "onset_times",
    "silence_share",
]
