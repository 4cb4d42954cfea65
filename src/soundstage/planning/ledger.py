"""Bytes that a computation holds at each moment, counted on tensors that have a shape and no data.

Every storage that an operation makes is entered when it appears and struck out when its last owner lets go, autograd's
graph included. So the peak is that of the very program that will run: its forward pass, what it keeps for the backward
pass, what it computes again, and the gradients in passing. Not counted are workspaces inside of kernels.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

_ATEN = torch.ops.aten


def _attention_flop(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))  # type: ignore[no-untyped-call]


def _attention_backward_flop(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    shapes = (gradient.shape, query.shape, key.shape, value.shape)
    return int(sdpa_backward_flop_count(*shapes))  # type: ignore[no-untyped-call]


# torch's formulas of matrix products, convolutions and attention; they know the attention kernels of GPUs alone.
_FORMULAS: dict[Any, Any] = {
    **flop_registry,
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _attention_flop,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flop,
}


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts bytes of storages made while it is active; `known` ones, such as weights, are not counted."""

    def __init__(self, known: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = self.flop = 0
        self._alive: dict[int, tuple[Any, int]] = {}
        # Held, so that no number of a storage is given to another one meanwhile.
        self._known = {id(storage): storage for storage in (each.untyped_storage() for each in known)}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and enter what it made."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func._overloadpacket in _FORMULAS:
            self.flop += _FORMULAS[func._overloadpacket](*args, **kwargs, out_val=result)
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._enter(leaf.untyped_storage())
        return result

    def _enter(self, storage: torch.UntypedStorage) -> None:
        number = id(storage)
        if number in self._known or number in self._alive:
            return
        self._alive[number] = (weakref.ref(storage, lambda _: self._strike(number)), storage.nbytes())
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)

    def _strike(self, number: int) -> None:
        _, size = self._alive.pop(number)
        self.now -= size
