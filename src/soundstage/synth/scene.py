"""A scene: one object of a class with its look, background and events, rendered to frames and sound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import objects, sounds
from .events import Events, draw_events
from .objects import Canvas, Look, Painter
from .sounds import Voice, render_sound


@dataclass(frozen=True)
class WorldClass:
    """A kind of thing: how it looks, how it sounds, how it is called."""

    label: str
    painter: Painter
    voice: Voice
    caption: str


CATALOGUE: tuple[WorldClass, ...] = (
    WorldClass("drum", objects.drum, sounds.thump, "a {colour} drum is struck"),
    WorldClass("hammer", objects.hammer, sounds.clank, "a {colour} hammer hits a block"),
    WorldClass("ball", objects.hopper, sounds.chirp_up, "a {colour} ball hops"),
    WorldClass("lamp", objects.lamp, sounds.bell, "a {colour} lamp flashes"),
    WorldClass("shutter", objects.shutter, sounds.click, "a {colour} shutter snaps"),
    WorldClass("piston", objects.piston, sounds.hiss, "a {colour} piston pushes"),
    WorldClass("bird", objects.bird, sounds.tweet, "a {colour} bird flaps"),
    WorldClass("string", objects.string, sounds.pluck, "a {colour} string is plucked"),
)

_COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.2, 0.18),
    "green": (0.2, 0.7, 0.28),
    "blue": (0.22, 0.38, 0.88),
    "yellow": (0.92, 0.8, 0.2),
    "purple": (0.6, 0.28, 0.75),
    "white": (0.93, 0.93, 0.9),
}


@dataclass(frozen=True)
class Scene:
    """All that one clean file is made of."""

    kind: WorldClass
    colour: str
    look: Look
    background: NDArray[np.float32]
    """two corner colours (2, 3), blended over the height"""
    events: Events

    @property
    def caption(self) -> str:
        """What a person would write under the picture."""
        return self.kind.caption.format(colour=self.colour)

    def frames(self, size: int, fps: int, duration_sec: float) -> NDArray[np.uint8]:
        """Pictures at `fps`: (T, size, size, 3)."""
        canvas = Canvas.of_size(size)
        blend = ((canvas.y + 1) / 2)[..., None]
        base = self.background[0] * (1 - blend) + self.background[1] * blend
        times = np.arange(round(duration_sec * fps)) / fps
        drawn: dict[float, NDArray[np.uint8]] = {}
        pictures = []
        for displacement in np.round(self.events.displacement(times), 3):
            if displacement not in drawn:
                drawn[displacement] = self._paint(canvas, base, float(displacement))
            pictures.append(drawn[displacement])
        return np.stack(pictures)

    def _paint(self, canvas: Canvas, base: NDArray[np.float32], displacement: float) -> NDArray[np.uint8]:
        picture = base.copy()
        for mask, colour in self.kind.painter(canvas, self.look, displacement):
            picture += mask[..., None] * (colour - picture)
        return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)

    def sound(
        self, rng: np.random.Generator, duration_sec: float, sample_rate: int, late_sec: float = 0.0
    ) -> NDArray[np.float32]:
        """The sound track (samples,), `late_sec` behind the picture."""
        return render_sound(rng, self.kind.voice, self.events.shifted(late_sec), duration_sec, sample_rate)


def draw_scene(rng: np.random.Generator, kind: WorldClass, duration_sec: float) -> Scene:
    """A random scene of the class."""
    colour = str(rng.choice(sorted(_COLOURS)))
    accent = np.array(_COLOURS[str(rng.choice([c for c in sorted(_COLOURS) if c != colour]))], np.float32) * 0.7
    main = np.clip(np.array(_COLOURS[colour]) + rng.normal(scale=0.04, size=3), 0, 1).astype(np.float32)
    look = Look(rng.uniform(-0.06, 0.06), rng.uniform(-0.06, 0.06), rng.uniform(0.95, 1.1), main, accent)
    background = rng.uniform(0.05, 0.45, size=(2, 1)) + rng.normal(scale=0.04, size=(2, 3))
    return Scene(kind, colour, look, np.clip(background, 0, 1).astype(np.float32), draw_events(rng, duration_sec))
