"""What a GPU would do with a step that is counted on tensors without data, where torch would ask the GPU.

Fake tensors on a GPU have no backward pass on a machine without one. So a step is counted on fake CPU tensors, and
where the two devices differ in what they keep, the GPU's way is taken: attention kernels, the fused root-mean-square
norm, and the functions that autocast runs in float32. A test compares this, family by family, with torch's own forward
pass on fake GPU tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only
from torch.utils.checkpoint import checkpoint

from ..errors import ConfigError

Device = Literal["cpu", "cuda"]
_ATEN = torch.ops.aten


# Of the functions that torch.autocast runs in float32 on a GPU, and not on a CPU, those that transformers call.
_SINGLE = {"layer_norm", "group_norm", "pow", "__pow__", "square", "rsqrt", "exp", "softmax", "sum", "cumsum", "norm"}


class Kernels(TorchFunctionMode):
    """Answers for data and devices that are not there.

    A step asks its data one thing, whether all windows of audio are full: `windows_full`. On `cuda` kernels are those
    of compute capability 8 or more.
    """

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.windows_full = True
        self._device = device

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The function, or our answer in its place."""
        kwargs = kwargs or {}
        if func is torch.Tensor.__bool__:
            return self.windows_full
        if self._device == "cpu":
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        if func is F.rms_norm:
            return _rms_norm(*args, **kwargs)
        if torch.is_autocast_enabled("cpu") and getattr(func, "__name__", "") in _SINGLE:
            return func(*_single(args), **_single(kwargs))
        return func(*args, **kwargs)

    def checkpointed(self, block: Any, *args: Any) -> Any:
        """A block under checkpointing as the trainer has it (`Backbone`), with our answers when it is computed again.

        torch pauses a mode inside of what it answers, and the backward pass is answered as a whole.
        """
        return checkpoint(block.__call__, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), self))


def _single(tree: Any) -> Any:
    half = (torch.bfloat16, torch.float16)
    return tree_map_only(torch.Tensor, lambda each: each.float() if each.dtype in half else each, tree)


def _rms_norm(
    x: torch.Tensor, normalized_shape: list[int], weight: torch.Tensor | None = None, eps: float | None = None
) -> torch.Tensor:
    if torch.is_autocast_enabled("cpu"):
        x, weight = _single((x, weight))
    normed: torch.Tensor = _ATEN._fused_rms_norm(x, list(normalized_shape), weight, eps)[0]
    return normed


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Flash attention for half precision without a mask, the memory-efficient kernel for all else.

    Both keep queries, keys, values, output and a float32 log-sum a row; neither keeps the matrix of weights.
    """
    if dropout_p or is_causal or enable_gqa:
        raise ConfigError("the planner counts plain attention; this transformer's has dropout, is causal or is grouped")
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (part.to(torch.bfloat16) for part in (query, key, value))
    found: torch.Tensor
    if attn_mask is None and query.dtype in (torch.bfloat16, torch.float16):
        found = _ATEN._scaled_dot_product_flash_attention(query, key, value, scale=scale)[0]
        return found
    bias = None
    if attn_mask is not None:
        bias = torch.zeros(attn_mask.shape, dtype=query.dtype).expand(*query.shape[:-1], key.shape[-2])
    found = _ATEN._scaled_dot_product_efficient_attention(query, key, value, bias, True, scale=scale)[0]
    return found
