"""Log-mel spectrogram and onset strength: the audio features that need no weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torchaudio

from ...config.tree import AudioFeatureConfig

# The floor lies above the rounding noise of 16-bit sound, which must not look like sound. Loud events reach 3 in log10
# mel power; this fixed affine map brings floor and event near -1..1 without looking at the clip: quiet stays quiet.
_LOG_FLOOR = 1e-4
_LOG_CENTRE, _LOG_SCALE = -0.5, 3.5


@dataclass(frozen=True)
class AudioFeatures:
    """Features with the time of each.

    features: (T, D) or (B, T, D) float32. times_sec: (T,) float32, relative to the first video frame; margins are
    negative before it.
    """

    features: torch.Tensor
    times_sec: torch.Tensor


class LogMelOnset:
    """Log-mel power and its onset strength, one vector a hop.

    hop: `hop_length / sample_rate` seconds. dim: `num_mel_bins + 1`. latency: none, a frame is centred on its time.
    receptive field: `n_fft` audio samples, half before and half after the time stamp; the onset strength looks one
    hop further back. Onset strength is spectral flux, the mean over bands of the rise in log power
    (Bello et al., "A Tutorial on Onset Detection in Music Signals", 2005).
    """

    def __init__(self, config: AudioFeatureConfig) -> None:
        self.config = config
        self._mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=config.sample_rate,
            n_fft=config.n_fft,
            hop_length=config.hop_length,
            n_mels=config.num_mel_bins,
            center=True,
            pad_mode="constant",
        )

    @property
    def dim(self) -> int:
        """Width of a feature vector."""
        return self.config.num_mel_bins + 1

    @property
    def hop_sec(self) -> float:
        """Seconds between two vectors."""
        return self.config.hop_length / self.config.sample_rate

    def __call__(self, waveform: torch.Tensor, start_sec: float = 0.0) -> AudioFeatures:
        """Features of `waveform` (..., samples) at the configured rate; its first audio sample is at `start_sec`."""
        log_mel = torch.log10(self._mel(waveform.float()) + _LOG_FLOOR).transpose(-1, -2)
        scaled = (log_mel - _LOG_CENTRE) / _LOG_SCALE
        rise = torch.diff(scaled, dim=-2, prepend=scaled[..., :1, :]).clamp(min=0)
        features = torch.cat([scaled, rise.mean(dim=-1, keepdim=True) * 4], dim=-1)
        times = start_sec + torch.arange(features.shape[-2], dtype=torch.float32) * self.hop_sec
        return AudioFeatures(features, times)
