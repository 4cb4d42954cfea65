"""Audio encoders: time-stamped features of a waveform."""

from .base import AudioEncoder, AudioFeatures, FeatureGrid

__all__ = ["AudioEncoder", "AudioFeatures", "FeatureGrid"]
