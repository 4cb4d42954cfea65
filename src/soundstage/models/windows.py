"""Which audio each latent frame may see: windows in seconds, gathered, not masked out of a dense matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch

# An edge belongs to the window. Times come in float32, half a unit in whose last place is 3.8e-6 s up to two minutes.
_TOLERANCE_SEC = 1e-5


@dataclass(frozen=True)
class AudioWindows:
    """For each of F latent frames, the indices of the audio features in its window.

    index: (F, W) int64; padded with 0. visible: (F, W) bool, False on padding. relative_sec: (F, W) float32, feature
    time minus the middle of the frame's span, 0 on padding.
    """

    index: torch.Tensor
    visible: torch.Tensor
    relative_sec: torch.Tensor

    def to(self, device: torch.device) -> AudioWindows:
        """The same on `device`."""
        return AudioWindows(self.index.to(device), self.visible.to(device), self.relative_sec.to(device))


def frame_spans(num_latent_frames: int, fps: float, temporal_stride: int = 1) -> torch.Tensor:
    """The slice of time each latent frame stands for, (F, 2) in seconds.

    A causal video VAE of stride s maps frame 0 to latent 0 and frames s*(i-1)+1 .. s*i to latent i
    (Wan 2.1 report, section on Wan-VAE); at stride 1 a latent is its frame. A frame stands for half a frame period on
    either side of its instant, so the slices of neighbouring latents meet and none overlap.
    """
    last = torch.arange(num_latent_frames, dtype=torch.float64) * temporal_stride
    first = torch.where(last > 0, last - (temporal_stride - 1), last)
    return (torch.stack([first - 0.5, last + 0.5], dim=1) / fps).float()


def audio_windows(
    spans_sec: torch.Tensor, times_sec: torch.Tensor, window_sec: float, hop_sec: float = 0.0
) -> AudioWindows:
    """Features that touch the span (F, 2) or the `window_sec` on either side of it; 0 is the span, infinity is all.

    times_sec: (T,). A feature stands for half of `hop_sec` on either side of its time, so that a coarse encoder has
    something to say in every window it covers.

    Raises:
        ValueError: no feature lies in some frame's window; the frame and the features' range are named.
    """
    spans, times = spans_sec.double(), times_sec.double()
    reach = window_sec + hop_sec / 2 + _TOLERANCE_SEC
    inside = (times[None] >= spans[:, :1] - reach) & (times[None] <= spans[:, 1:] + reach)
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
    relative = (times[order] - spans.mean(dim=1, keepdim=True)).float()
    zero = torch.zeros((), device=relative.device)
    return AudioWindows(order * visible, visible, torch.where(visible, relative, zero))
