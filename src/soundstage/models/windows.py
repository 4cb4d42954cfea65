"""Which audio each latent frame may see: windows in seconds, gathered, not masked out of a dense matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class AudioWindows:
    """For each of F latent frames, the indices of the audio features in its window.

    index: (F, W) int64; padded with 0. visible: (F, W) bool, False on padding. relative_sec: (F, W) float32, feature
    time minus the frame's centre, 0 on padding.
    """

    index: torch.Tensor
    visible: torch.Tensor
    relative_sec: torch.Tensor


def frame_spans(num_latent_frames: int, fps: float, temporal_stride: int = 1) -> torch.Tensor:
    """The span of time each latent frame covers, (F, 2) in seconds.

    A causal video VAE of stride s maps frame 0 to latent 0 and frames s*(i-1)+1 .. s*i to latent i
    (Wan 2.1 report, section on Wan-VAE); at stride 1 a latent is its frame. A span reaches from its first to its last
    frame's instant.
    """
    last = torch.arange(num_latent_frames, dtype=torch.float32) * temporal_stride
    first = torch.where(last > 0, last - (temporal_stride - 1), last)
    return torch.stack([first, last], dim=1) / fps


def audio_windows(spans_sec: torch.Tensor, times_sec: torch.Tensor, window_sec: float) -> AudioWindows:
    """Features within `window_sec` of each span (F, 2); 0 sees the span alone, infinity sees all of `times_sec` (T,).

    Raises:
        ValueError: no feature lies in some frame's window; the frame and the features' range are named.
    """
    tolerance = 1e-6
    low, high = spans_sec[:, :1] - window_sec - tolerance, spans_sec[:, 1:] + window_sec + tolerance
    inside = (times_sec[None] >= low) & (times_sec[None] <= high)
    counts = inside.sum(dim=1)
    if int(counts.min()) == 0:
        frame = int(counts.argmin())
        raise ValueError(
            f"latent frame {frame} ({spans_sec[frame, 0]:.3f}..{spans_sec[frame, 1]:.3f} s) has no audio feature "
            f"within {window_sec} s; features cover {times_sec.min():.3f}..{times_sec.max():.3f} s: "
            "widen the window or the margin"
        )
    width = int(counts.max())
    # A stable sort of "not inside" brings the visible features to the front in their order of time.
    order = torch.argsort((~inside).to(torch.int8), dim=1, stable=True)[:, :width]
    visible = torch.gather(inside, 1, order)
    relative = times_sec[order] - spans_sec.mean(dim=1, keepdim=True)
    zero = torch.zeros((), dtype=relative.dtype, device=relative.device)
    return AudioWindows(order * visible, visible, torch.where(visible, relative, zero))
