"""A planned number and where it comes from."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

GIB = 2**30

Origin = Literal["counted", "measured", "assumed"]
"""`counted`: from shapes and configuration, exact but for what its module says. `assumed`: a number of the calibration
that nobody has measured here, or a counted one times such. `measured`: the calibration says where."""


class Figure(NamedTuple):
    """A number with its unit and its origin."""

    value: float
    unit: str
    origin: Origin = "counted"

    def as_json(self) -> dict[str, Any]:
        """For JSON."""
        return self._asdict()

    def __str__(self) -> str:
        size = abs(self.value)
        digits = 0 if size >= 1000 or self.value == int(self.value) else 1 if size >= 10 else 3
        return f"{self.value:,.{digits}f} {self.unit}".rstrip()


def gib(size: float, origin: Origin = "counted") -> Figure:
    """Bytes as GiB."""
    return Figure(size / GIB, "GiB", origin)
