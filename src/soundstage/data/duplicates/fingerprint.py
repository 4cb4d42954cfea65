"""The fingerprint of a clip: its sound words, picture words and motion, and the table that holds those of a corpus.

A second of clip takes 25 x 4 bytes of sound, 8 x 16 of pictures and 24 of motion: 252 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...errors import DataError
from .picture import motion_steps, picture_words, small_pictures
from .sound import sound_words

FINGERPRINT_VERSION = "1"
"""changes whenever a bit may come out otherwise; fingerprints of two versions are never compared"""

_TYPES = {"sound": "<u4", "picture": "<u8", "picture_sure": "<u8", "motion": "u1"}


@dataclass(frozen=True)
class Fingerprint:
    """What is compared of a clip; each array has a fixed rate and starts with the clip."""

    sound: NDArray[np.uint32]
    """(ticks at SOUND_HZ,)"""
    picture: NDArray[np.uint64]
    """(ticks at PICTURE_HZ,)"""
    picture_sure: NDArray[np.uint64]
    """which bits of `picture` are to be trusted; (ticks at PICTURE_HZ,)"""
    motion: NDArray[np.uint8]
    """(ticks at MOTION_HZ,)"""

    def to_bytes(self) -> dict[str, bytes]:
        """The arrays as little-endian bytes: the columns of FINGERPRINTS."""
        return {name: getattr(self, name).astype(kind).tobytes() for name, kind in _TYPES.items()}

    @staticmethod
    def from_bytes(columns: Mapping[str, Any]) -> Fingerprint:
        """Back from `to_bytes`.

        Raises:
            ValueError: a column whose length is no multiple of its word.
        """
        return Fingerprint(**{name: np.frombuffer(columns[name], kind) for name, kind in _TYPES.items()})


def fingerprint(frames: NDArray[np.uint8], fps: float, waveform: NDArray[np.float32], sample_rate: int) -> Fingerprint:
    """Fingerprint of a clip in memory: `frames` (T, H, W, 3) RGB, `waveform` (samples,) from the first frame on.

    Raises:
        ValueError: other shapes.
    """
    small = small_pictures(frames, fps)
    return Fingerprint(sound_words(waveform, sample_rate), *picture_words(small), motion_steps(small))


@dataclass(frozen=True)
class Ragged:
    """Arrays of different length in one: those of clip i are `values[starts[i]:starts[i + 1]]`."""

    values: NDArray[Any]
    starts: NDArray[np.int64]

    def __getitem__(self, index: int) -> NDArray[Any]:
        return self.values[self.starts[index] : self.starts[index + 1]]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def take(self, chosen: NDArray[np.int64]) -> Ragged:
        """The arrays of some clips, in the order given; itself when these are all in their order."""
        if np.array_equal(chosen, np.arange(len(self))):
            return self
        lengths = np.diff(self.starts)[chosen]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.arange(starts[-1]) + np.repeat(self.starts[:-1][chosen] - starts[:-1], lengths)
        return Ragged(self.values[places], starts)

    @staticmethod
    def joined(parts: Sequence[NDArray[Any]], kind: str) -> Ragged:
        """Parts in a row."""
        starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        return Ragged(np.concatenate([np.zeros(0, kind), *parts]).astype(kind), starts)


@dataclass(frozen=True)
class Fingerprints:
    """Fingerprints of a corpus; clip i has the i-th of each."""

    sound: Ragged
    picture: Ragged
    picture_sure: Ragged
    motion: Ragged

    def __len__(self) -> int:
        return len(self.sound)

    def __getitem__(self, index: int) -> Fingerprint:
        return Fingerprint(*(getattr(self, name)[index] for name in _TYPES))

    def take(self, chosen: NDArray[np.int64]) -> Fingerprints:
        """Some of them, in the order given."""
        return Fingerprints(**{name: getattr(self, name).take(chosen) for name in _TYPES})

    @staticmethod
    def of(items: Sequence[Fingerprint]) -> Fingerprints:
        """Fingerprints in a row."""
        return Fingerprints(
            **{name: Ragged.joined([getattr(item, name) for item in items], kind) for name, kind in _TYPES.items()}
        )

    @staticmethod
    def of_table(table: pa.Table) -> Fingerprints:
        """From rows of FINGERPRINTS, in their order, without a Python object a clip.

        Raises:
            DataError: rows of another version, or broken ones.
        """
        versions = sorted(pc.unique(table.column("version")).to_pylist())
        if versions not in ([], [FINGERPRINT_VERSION]):
            raise DataError(
                f"fingerprints have version {', '.join(versions)}, this code compares version {FINGERPRINT_VERSION}; "
                "rerun `soundstage ingest`"
            )
        return Fingerprints(**{name: _ragged(table.column(name), kind) for name, kind in _TYPES.items()})


def _ragged(column: pa.ChunkedArray, kind: str) -> Ragged:
    array = column.cast(pa.large_binary()).combine_chunks()
    _, bounds, data = array.buffers()
    starts = np.frombuffer(bounds, "<i8")[array.offset : array.offset + len(array) + 1]
    width = np.dtype(kind).itemsize
    if (np.diff(starts) % width).any():
        raise DataError(f"fingerprints hold a broken column of {width}-byte words; rerun `soundstage ingest`")
    stored = b"" if data is None else memoryview(data)[starts[0] : starts[-1]]
    return Ragged(np.frombuffer(stored, kind), (starts - starts[0]) // width)
