"""A low-rank update of the backbone's self-attention: what adapts a model to something it was not trained for.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021. The second factor starts at zero, so an
untrained update adds exactly nothing; like the audio adapters it is hooked in from outside, and its parameters count in
the budget.
"""

from __future__ import annotations

import torch
from torch import nn


class LowRankUpdate(nn.Module):
    """`up(down(x))` beside a frozen linear map; scale 1."""

    def __init__(self, in_features: int, out_features: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(in_features, rank, bias=False)
        self.up = nn.Linear(rank, out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What to add to the frozen map's output for its input `x` (..., in_features); in the type of `x`."""
        update: torch.Tensor = self.up(self.down(x.to(self.down.weight.dtype)))
        return update.to(x.dtype)
