"""What events look like: one object a class, drawn by soft-edged shapes from its displacement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.float32]


@dataclass(frozen=True)
class Canvas:
    """Pixel-centre coordinates in -1..1, `y` downwards, and the width of a soft edge."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    edge: float

    @staticmethod
    def of_size(size: int) -> Canvas:
        """A square canvas of `size` pixels."""
        axis = ((np.arange(size) + 0.5) / size) * 2 - 1
        y, x = np.meshgrid(axis.astype(np.float32), axis.astype(np.float32), indexing="ij")
        return Canvas(x.astype(np.float32), y.astype(np.float32), 2.0 / size)

    def soft(self, distance: NDArray[np.float32]) -> Mask:
        """Coverage 0..1 from a signed distance, negative inside."""
        return np.asarray(np.clip(0.5 - distance / self.edge, 0.0, 1.0), dtype=np.float32)

    def disc(self, cx: float, cy: float, radius: float, squash: float = 1.0) -> Mask:
        """A disc, `squash` times as high as wide."""
        return self.soft(np.hypot(self.x - cx, (self.y - cy) / squash) - radius)

    def box(self, cx: float, cy: float, half_width: float, half_height: float, angle: float = 0.0) -> Mask:
        """A box turned by `angle` radians."""
        c, s = np.cos(angle), np.sin(angle)
        u = (self.x - cx) * c + (self.y - cy) * s
        v = -(self.x - cx) * s + (self.y - cy) * c
        return self.soft(np.maximum(np.abs(u) - half_width, np.abs(v) - half_height).astype(np.float32))


@dataclass(frozen=True)
class Look:
    """How one file's object looks: place, scale, colours (RGB, 0..1)."""

    cx: float
    cy: float
    scale: float
    main: NDArray[np.float32]
    accent: NDArray[np.float32]


Layer = tuple[Mask, NDArray[np.float32]]
Painter = Callable[[Canvas, Look, float], list[Layer]]


def drum(canvas: Canvas, look: Look, d: float) -> list[Layer]:
    """A drum whose skin bulges: wider and brighter when struck."""
    skin = look.main + (1 - look.main) * 0.5 * d
    return [
        (canvas.box(look.cx, look.cy + 0.35 * look.scale, 0.5 * look.scale, 0.35 * look.scale), look.accent),
        (canvas.disc(look.cx, look.cy, look.scale * (0.5 + 0.3 * d), 0.55 + 0.3 * d), skin.astype(np.float32)),
    ]


def hammer(canvas: Canvas, look: Look, d: float) -> list[Layer]:
    """A hammer that swings down onto a block."""
    angle = -0.9 + 0.9 * d
    reach = 0.75 * look.scale
    pivot_x, pivot_y = look.cx - 0.5 * look.scale, look.cy + 0.1 * look.scale
    head_x, head_y = pivot_x + reach * np.cos(angle), pivot_y + reach * np.sin(angle)
    mid_x, mid_y = (pivot_x + head_x) / 2, (pivot_y + head_y) / 2
    return [
        (canvas.box(look.cx + 0.25 * look.scale, look.cy + 0.55 * look.scale, 0.4 * look.scale, 0.2), look.accent),
        (canvas.box(mid_x, mid_y, reach / 2, 0.07, angle), look.main * 0.6),
        (canvas.box(head_x, head_y, 0.17 * look.scale, 0.28 * look.scale, angle), look.main),
    ]


def hopper(canvas: Canvas, look: Look, d: float) -> list[Layer]:
    """A ball that hops."""
    floor = look.cy + 0.55 * look.scale
    return [
        (canvas.box(look.cx, floor + 0.4, 0.7 * look.scale, 0.08), look.accent),
        (canvas.disc(look.cx, floor - 0.05 - 0.75 * d * look.scale, 0.36 * look.scale), look.main),
    ]


def lamp(canvas: Canvas, look: Look, d: float) -> list[Layer]:
    """A lamp that flashes."""
    dim = look.main * 0.35
    lit = (dim + (np.array([1.0, 0.97, 0.8], np.float32) - dim) * d).astype(np.float32)
    return [
        (canvas.box(look.cx, look.cy + 0.6 * look.scale, 0.18 * look.scale, 0.22 * look.scale), look.accent),
        (canvas.disc(look.cx, look.cy, 0.5 * look.scale), lit),
    ]


def shutter(canvas: Canvas, look: Look, d: float) -> list[Layer]:
    """Two blinds that snap together over a window."""
    half = 0.6 * look.scale
    blind = half * (0.15 + 0.35 * d)
    return [
        (canvas.box(look.cx, look.cy, half, half), look.accent),
        (canvas.box(look.cx, look.cy - half + blind, half, blind), look.main),
        (canvas.box(look.cx, look.cy + half - blind, half, blind), look.main),
    ]


def piston(canvas: Canvas, look: Look, d: float) -> list[Layer]:
    """A block pushed out to the right."""
    left = look.cx - 0.6 * look.scale
    head = left + (0.3 + 0.8 * d) * look.scale
    return [
        (canvas.box((left + head) / 2, look.cy, max((head - left) / 2, 0.02), 0.09), look.accent * 0.7),
        (canvas.box(left, look.cy, 0.16 * look.scale, 0.5 * look.scale), look.accent),
        (canvas.box(head, look.cy, 0.2 * look.scale, 0.38 * look.scale), look.main),
    ]


def bird(canvas: Canvas, look: Look, d: float) -> list[Layer]:
    """A round bird that flaps both wings up."""
    spread = 0.62 * look.scale
    lift = 0.25 * look.scale - 0.6 * d * look.scale
    return [
        (canvas.box(look.cx - spread * 0.8, look.cy + lift, 0.36 * look.scale, 0.12, -0.9 * d + 0.3), look.accent),
        (canvas.box(look.cx + spread * 0.8, look.cy + lift, 0.36 * look.scale, 0.12, 0.9 * d - 0.3), look.accent),
        (canvas.disc(look.cx, look.cy, 0.36 * look.scale), look.main),
    ]


def string(canvas: Canvas, look: Look, d: float) -> list[Layer]:
    """A thick string pulled sideways."""
    bow = look.cx + 0.55 * d * look.scale * np.cos(canvas.y * np.pi / 2.2)
    body = canvas.soft((np.abs(canvas.x - bow) - 0.12 * look.scale).astype(np.float32))
    return [(canvas.box(look.cx, look.cy + 0.75, 0.5 * look.scale, 0.14), look.accent), (body, look.main)]
