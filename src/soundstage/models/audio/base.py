"""What the rest of the house needs to know of an audio encoder: where its features lie in time, and what it hears."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class AudioFeatures:
    """Features with the time of each.

    features: (T, D) or (B, T, D) float32. times_sec: (T,) float32, relative to the first video frame; margins are
    negative before it.
    """

    features: torch.Tensor
    times_sec: torch.Tensor


@dataclass(frozen=True)
class FeatureGrid:
    """Where an encoder's features lie: all that adapters, and readers of shards, need to know of it.

    Feature k of a waveform that starts at `start_sec` has the time stamp `start_sec + first_sec + k * hop_sec`, the
    centre of what it mostly hears; it stands for half a hop on either side.
    """

    dim: int
    hop_sec: float
    first_sec: float = 0.0

    def times_sec(self, count: int, start_sec: float) -> torch.Tensor:
        """Time stamps of `count` features, (count,) float32."""
        return (start_sec + self.first_sec + torch.arange(count, dtype=torch.float64) * self.hop_sec).float()


class AudioEncoder(Protocol):
    """From a waveform to time-stamped features; frozen."""

    grid: FeatureGrid
    latency_sec: float
    """how far after a time stamp the network must have heard to state its feature; infinite for global attention"""
    receptive_field_sec: float
    """length of sound that can change one feature; infinite for global attention"""
    fingerprint: str
    """identity of weights and settings"""
    licence: str
    """of the weights"""

    def __call__(self, waveform: torch.Tensor, start_sec: float = 0.0) -> AudioFeatures:
        """Features of `waveform` (..., samples) at `AudioConfig.sample_rate`; its first sample is at `start_sec`."""
