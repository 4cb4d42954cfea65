"""The table of VGGSound: a CSV without a header, one row a clip of ten seconds, its file found beside the table.

Rows are `YouTube id, start in seconds, label, split` (H. Chen et al., "VGGSound: a large-scale audio-visual dataset",
ICASSP 2020; the table is CC BY 4.0, the videos are their makers'). Files keep one of three conventions:
`ID_SSSSSS.mp4` with the start in six digits, `ID_STARTMS_ENDMS.mp4` in milliseconds, both cut already; or `ID.mp4`,
the whole video, of which the row's ten seconds are taken. Any suffix of a video will do, in subfolders too.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from ...errors import DataError
from .item import WHOLE, Range
from .tables import decode_text

CLIP_SEC = 10
_ID = re.compile(r"[\w-]{11}", re.ASCII)
_CUT = re.compile(r"(?P<id>[\w-]{11})_(?:(?P<sec>\d{6})|(?P<from>\d+)_(?P<to>\d+))", re.ASCII)


@dataclass(frozen=True)
class VggSoundRow:
    """One row: ten seconds of a video."""

    where: str
    youtube_id: str
    start_sec: int
    label: str
    split: str

    @property
    def words(self) -> dict[str, str]:
        """What the row says of its clip."""
        return {
            "label": self.label,
            "provenance": f"VGGSound {self.split}: YouTube {self.youtube_id} from {self.start_sec} s",
        }

    @property
    def expected_name(self) -> str:
        """Name of the clip's file by the first convention."""
        return f"{self.youtube_id}_{self.start_sec:06d}.mp4"


def is_vggsound(name: str, data: bytes) -> bool:
    """Whether the table's first row is one of VGGSound's and no header."""
    if not name.lower().endswith(".csv"):
        return False
    line = data[:4096].decode("utf-8-sig", "replace").partition("\n")[0]
    return _fits(next(csv.reader([line.strip("\r")]), []))


def _fits(values: list[str]) -> bool:
    return len(values) == 4 and bool(_ID.fullmatch(values[0])) and values[1].strip().isdecimal()


def read_vggsound(name: str, data: bytes) -> list[VggSoundRow]:
    """All rows.

    Raises:
        DataError: a row of another shape, or one that stands there twice; the line is named.
    """
    rows: dict[tuple[str, int], VggSoundRow] = {}
    for where, values in _lines(name, data):
        if not _fits(values):
            raise DataError(f"{where}: expected YouTube id, start in seconds, label, split; found {values}")
        row = VggSoundRow(where, values[0], int(values[1]), " ".join(values[2].split()), values[3].strip())
        before = rows.setdefault((row.youtube_id, row.start_sec), row)
        if before is not row:
            raise DataError(
                f"{where}: {row.youtube_id} from {row.start_sec} s stands on line "
                f"{before.where.rpartition(', line ')[2]} already; keep one of them"
            )
    return list(rows.values())


def _lines(name: str, data: bytes) -> Iterator[tuple[str, list[str]]]:
    reader = csv.reader(io.StringIO(decode_text(name, data), newline=""), strict=True)
    try:
        for values in reader:
            if values:
                yield f"{name}, line {reader.line_num}", values
    except csv.Error as error:
        raise DataError(f"{name}, line {reader.line_num}: not valid CSV: {error}") from error


class VggSoundFiles:
    """Finds the file of a row among those that lie beside the table."""

    def __init__(self, uris: Iterable[str]) -> None:
        self._cut: dict[tuple[str, int], str] = {}
        self._full: dict[str, str] = {}
        # Of several files for one row the first by name is taken, so that listing order does not matter.
        for uri in sorted(uris):
            stem = PurePosixPath(uri).stem
            cut = _CUT.fullmatch(stem)
            if cut:
                start_ms = int(cut["from"]) if cut["from"] else int(cut["sec"]) * 1000
                self._cut.setdefault((cut["id"], start_ms), uri)
            elif _ID.fullmatch(stem):
                self._full.setdefault(stem, uri)

    def find(self, row: VggSoundRow) -> tuple[str, Range] | None:
        """The uri and range of the row's clip, None when there is no file."""
        cut = self._cut.get((row.youtube_id, row.start_sec * 1000))
        if cut is not None:
            return cut, WHOLE
        full = self._full.get(row.youtube_id)
        start_us = row.start_sec * 1_000_000
        return None if full is None else (full, Range(start_us, start_us + CLIP_SEC * 1_000_000))
