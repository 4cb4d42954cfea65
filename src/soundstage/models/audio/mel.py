"""Log-mel spectrogram and onset strength: the audio features that need no weights."""

from __future__ import annotations

import torch
import torchaudio

from ...config.audio import LogMelConfig
from .base import AudioFeatures, FeatureGrid

# The floor lies above the rounding noise of 16-bit sound, which must not look like sound. Loud events reach 3 in log10
# mel power; this fixed affine map brings floor and event near -1..1 without looking at the clip: quiet stays quiet.
_LOG_FLOOR = 1e-4
_LOG_CENTRE, _LOG_SCALE = -0.5, 3.5


class LogMelOnset:
    """Log-mel power and its onset strength, one vector a hop.

    A frame is centred on its time stamp: it hears half of `n_fft` samples on either side. Onset strength looks one hop
    further back; it is spectral flux, the mean over bands of the rise in log power (Bello et al., "A Tutorial on Onset
    Detection in Music Signals", 2005).
    """

    licence = "none needed: no weights"

    def __init__(self, config: LogMelConfig, sample_rate: int) -> None:
        self.grid = mel_grid(config, sample_rate)
        self.latency_sec = config.n_fft / 2 / sample_rate
        self.receptive_field_sec = (config.n_fft + config.hop_length) / sample_rate
        self.fingerprint = f"log-mel+onset:{config.canonical_json()} at {sample_rate} Hz"
        self._mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=sample_rate,
            n_fft=config.n_fft,
            hop_length=config.hop_length,
            n_mels=config.num_mel_bins,
            center=True,
            pad_mode="constant",
        )

    def __call__(self, waveform: torch.Tensor, start_sec: float = 0.0) -> AudioFeatures:
        """Features of `waveform` (..., samples): see `AudioEncoder`."""
        log_mel = torch.log10(self._mel(waveform.float()) + _LOG_FLOOR).transpose(-1, -2)
        scaled = (log_mel - _LOG_CENTRE) / _LOG_SCALE
        rise = torch.diff(scaled, dim=-2, prepend=scaled[..., :1, :]).clamp(min=0)
        features = torch.cat([scaled, rise.mean(dim=-1, keepdim=True) * 4], dim=-1)
        return AudioFeatures(features, self.grid.times_sec(features.shape[-2], start_sec))


def mel_grid(config: LogMelConfig, sample_rate: int) -> FeatureGrid:
    """Bands and onset strength, once a hop from the first sample on."""
    return FeatureGrid(dim=config.num_mel_bins + 1, hop_sec=config.hop_length / sample_rate)
