"""Signals: pure functions of a clip's small grey frames and mono sound, each with a unit and its known failures."""

from .cuts import count_cuts
from .cuts_learned import TRANSNET_SIZE, count_learned_cuts
from .flow import mean_flow, optical_flow
from .meaning import audio_text_cosine, check_encoder, image_text_cosine, spread_frames
from .motion import CHROMA_GRID, block_means, colour_block_means, frozen_share, motion_curve, motion_peak, motion_peaks
from .pan import pan_share
from .picture import black_share, letterbox_share, sharpness
from .sound import OnsetEnvelope, clipping_share, loudness_dbfs, onset_envelope, onset_times, silence_share
from .speech import speech_share
from .sync import LagCurve, Offset, av_align, best_offset, lag_curve

__all__ = [
    "CHROMA_GRID",
    "TRANSNET_SIZE",
    "LagCurve",
    "Offset",
    "OnsetEnvelope",
    "audio_text_cosine",
    "av_align",
    "best_offset",
    "black_share",
    "block_means",
    "check_encoder",
    "clipping_share",
    "colour_block_means",
    "count_cuts",
    "count_learned_cuts",
    "frozen_share",
    "image_text_cosine",
    "lag_curve",
    "letterbox_share",
    "loudness_dbfs",
    "mean_flow",
    "motion_curve",
    "motion_peak",
    "motion_peaks",
    "onset_envelope",
    "onset_times",
    "optical_flow",
    "pan_share",
    "sharpness",
    "silence_share",
    "speech_share",
    "spread_frames",
]
