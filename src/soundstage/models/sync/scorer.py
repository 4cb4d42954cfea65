"""The scorer as a network and on disk: what it sees, what it says, and whom it was trained on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from ...config.load import parse
from ...config.tree import SYNC_MIN_OVERLAP_SEC, ScorerConfig
from ...errors import ConfigError, DataError
from ...stages.files import atomic_path, sha256_file, sha256_text, write_json, write_text
from .offsets import CONFIDENT_SEC, SyncEstimate, at_steps, lag_correlation, peak_offset
from .towers import AUDIO_TOWERS, VIDEO_TOWERS

WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "scorer.safetensors", "scorer.json", "README.md"
_HOP_SEC = 0.01
_N_FFT = 512
_MEL_FLOOR = 1e-4
# As `select.min_motion_peak` has it: less motion than that is none.
_LEAST_CHANGE_GREY = 4
_DITHER = 2 * 2.0**-15
_CHANNEL_FLOOR, _MEL_SPREAD_FLOOR = 0.05, 0.3


class SyncScorer(nn.Module):
    """Two towers and three calibrations: over lags, for the nominal place, and for the best place."""

    def __init__(self, config: ScorerConfig, sample_rate: int) -> None:
        super().__init__()
        self.config = config
        self.sample_rate = sample_rate
        self.video = VIDEO_TOWERS[config.video_tower](config)
        self.audio = AUDIO_TOWERS[config.audio_tower](config)
        self._spacing_sec = hop_sec(sample_rate) * float(self.audio.stride)  # type: ignore[arg-type]
        # Logarithms of positive scales, and biases that start on the side of "does not belong".
        self.lag_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.place = nn.Parameter(torch.tensor([math.log(10.0), -3.0]))
        self.match = nn.Parameter(torch.tensor([math.log(10.0), -5.0]))
        self._mel = torchaudio.transforms.MelSpectrogram(
            sample_rate, _N_FFT, hop_length=round(_HOP_SEC * sample_rate), n_mels=config.num_mel_bins
        )

    @property
    def min_overlap(self) -> int:
        """Fewest steps that a lag is measured over."""
        return math.ceil(SYNC_MIN_OVERLAP_SEC * self.config.fps)

    @property
    def reach(self) -> int:
        """Lags on either side, in steps of `1 / fps`."""
        return math.floor(self.config.max_offset_sec * self.config.fps + 1e-9)

    def mel(self, waveform: torch.Tensor) -> torch.Tensor:
        """Log-mel frames of (B, samples) at the scorer's rate: (B, bands, N), `hop_sec` apart from time 0 on."""
        return torch.log(self._mel(waveform) + _MEL_FLOOR)

    def correlations(self, frames: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
        """(B, T, H, W) grey frames in 0..255 at the scorer's rate and (C, bands, N) mel frames to (B, C, lags)."""
        video = self.video(_normalised(frames.float() / 255, (1, 2, 3), _CHANNEL_FLOOR))
        audio = self.audio(_normalised(mel, (1, 2), _MEL_SPREAD_FLOOR))
        # A vector stands for a pair of frames, half way between them.
        times = (torch.arange(video.shape[-1], device=video.device) + 0.5) / self.config.fps
        steps = at_steps(audio, self._spacing_sec, times)
        return lag_correlation(video, steps, self.reach, self.min_overlap)

    def lag_logits(self, correlations: torch.Tensor) -> torch.Tensor:
        """Unnormalised log probabilities of the lags."""
        return correlations * self.lag_scale.exp()

    def place_logits(self, correlations: torch.Tensor) -> torch.Tensor:
        """Log odds, lag by lag, that picture and sound belong together just there."""
        return correlations * self.place[0].exp() + self.place[1]

    def match_logits(self, correlations: torch.Tensor) -> torch.Tensor:
        """Log odds that they belong together at some lag: (..., lags) to (...)."""
        return correlations.amax(-1) * self.match[0].exp() + self.match[1]

    @torch.inference_mode()
    def estimate(self, frames: NDArray[np.uint8], fps: float, waveform: NDArray[np.float32]) -> SyncEstimate | None:
        """What the scorer says of (T, H, W) grey frames at `fps` and (samples,) mono sound at its sample rate.

        None for a clip whose picture or sound is too short to be compared (0.6 s) or never changes.
        """
        prepared = self.prepare(frames, fps)
        too_short = len(prepared) <= self.min_overlap or len(waveform) < SYNC_MIN_OVERLAP_SEC * self.sample_rate
        if too_short or not _varies(prepared, waveform):
            return None
        sound = torch.from_numpy(np.asarray(waveform, np.float32))[None]
        correlations = self.correlations(torch.from_numpy(prepared)[None], self.mel(sound))[0, 0]
        return self.describe(correlations)

    @torch.inference_mode()
    def describe(self, correlations: torch.Tensor) -> SyncEstimate:
        """The estimate that (lags,) correlations amount to."""
        reach, fps = self.reach, self.config.fps
        best, offset_sec = peak_offset(correlations, reach, fps)
        probabilities = self.lag_logits(correlations.double()).softmax(-1)
        near = max(1, math.floor(CONFIDENT_SEC * fps + 1e-9))
        confidence = min(1.0, float(probabilities[max(0, best - near) : best + near + 1].sum()))
        match = float(self.match_logits(correlations))
        return SyncEstimate(
            sync_score=float(self.place_logits(correlations)[reach]),
            sync_match=match,
            sync_offset_sec=offset_sec,
            sync_confidence=confidence,
            synchronisability=confidence / (1 + math.exp(-match)),
        )

    def prepare(self, frames: NDArray[np.uint8], fps: float) -> NDArray[np.uint8]:
        """(T, H, W) grey frames at `fps` as the scorer sees them: its frame rate, a square of its size."""
        duration = len(frames) / fps
        times = np.arange(math.floor(duration * self.config.fps + 1e-6)) / self.config.fps
        picked = frames[np.minimum(np.round(times * fps).astype(int), len(frames) - 1)]
        return squares(picked, self.config.frame_size)


def hop_sec(sample_rate: int) -> float:
    """Time between mel frames: 10 ms in whole samples."""
    return round(_HOP_SEC * sample_rate) / sample_rate


def squares(frames: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(T, H, W) grey frames averaged down to (T, size, size); the aspect is given up."""
    small = F.interpolate(torch.from_numpy(frames)[:, None].float(), size=(size, size), mode="area")[:, 0]
    return np.asarray(small.round().clamp(0, 255).to(torch.uint8).numpy())


def _normalised(values: torch.Tensor, dims: tuple[int, ...], floor: float) -> torch.Tensor:
    spread = values.std(dims, keepdim=True) + floor
    return (values - values.mean(dims, keepdim=True)) / spread


def _varies(frames: NDArray[np.uint8], waveform: NDArray[np.float32]) -> bool:
    """Whether the picture changes by more than rounding and the sound by more than the dither of 16 bits.

    A still picture that was encoded badly may drift by more; it is scored then, and correlates with nothing.
    """
    return int(np.ptp(frames, axis=0).max()) >= _LEAST_CHANGE_GREY and float(np.ptp(waveform)) > _DITHER


def save_scorer(folder: Path, scorer: SyncScorer, about: Mapping[str, Any]) -> str:
    """Write weights, `scorer.json` and a card; returns the scorer's fingerprint: hash of weights and configuration.

    `about` says whose it is (role, seed, counts, measurements) and becomes part of `scorer.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in scorer.state_dict().items()}, temporary)
    config = scorer.config.model_dump(mode="json")
    fingerprint = _fingerprint(folder, config, scorer.sample_rate)
    description = {**about, "fingerprint": fingerprint, "sample_rate": scorer.sample_rate, "config": config}
    write_json(folder / CONFIG_FILE, description)
    write_text(folder / CARD_FILE, _card(description))
    return fingerprint


def load_scorer(folder: Path) -> tuple[SyncScorer, dict[str, Any]]:
    """The scorer saved in `folder`, ready to score, and its description.

    Raises:
        DataError: no scorer, unreadable, or weights that are not those the description states.
    """
    try:
        about: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text())
        config = parse(ScorerConfig, about["config"], str(folder / CONFIG_FILE))
        scorer = SyncScorer(config, int(about["sample_rate"]))
        found = _fingerprint(folder, about["config"], scorer.sample_rate)
        if found != about["fingerprint"]:
            raise ValueError(
                f"weights and configuration have fingerprint {found[:16]}, stated {about['fingerprint'][:16]}"
            )
        scorer.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, ConfigError) as error:
        raise DataError(
            f"{folder} holds no usable sync scorer: {error}; expected {CONFIG_FILE} and {WEIGHTS_FILE} as "
            "`soundstage train scorer` writes them"
        ) from error
    return scorer.eval(), about


def _fingerprint(folder: Path, config: Mapping[str, Any], sample_rate: int) -> str:
    return sha256_text(json.dumps([sha256_file(folder / WEIGHTS_FILE), config, sample_rate], sort_keys=True))


def _card(about: Mapping[str, Any]) -> str:
    lines = [f"# Sync scorer `{about.get('role', 'unnamed')}`", ""]
    lines += [f"- {name}: {value}" for name, value in about.items() if name not in ("config", "measured")]
    lines += ["", "Measured on clips of its own split that it was not trained on:", ""]
    lines += [f"- {name}: {value}" for name, value in dict(about.get("measured", {})).items()]
    return "\n".join(lines) + "\n"
