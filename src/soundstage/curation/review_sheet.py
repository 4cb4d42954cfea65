"""Verdicts as a spreadsheet: people review with any player and any table program until they have a page for it.

A sheet is CSV in UTF-8. What programs do to such files on the way back is understood: a byte order mark, other line
ends, quotes, another order of columns, semicolons or tabs for commas, a comma in numbers.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..config.tree import ContractsConfig
from ..data.records import VERDICTS
from ..errors import DataError
from ..stages.workspace import Workspace
from .review import SIMULATED, append_new, latest_verdicts

FILLED_IN = ("verdict", "audio_shift_sec", "seconds_spent", "reviewer", "at")
"""Columns that people fill in; the rest is for them to read."""

_ABOUT = ("current_verdict", "label", "caption", "split", "source_uri", "start_sec", "duration_sec", "media")
_SIGNALS = (
    *("sync_score", "sync_match", "sync_offset_sec", "synchronisability", "av_correlation", "av_offset_sec"),
    *("motion_peak", "loudness_dbfs", "speech_share"),
)
COLUMNS = ("clip_id", *FILLED_IN, *_ABOUT, *_SIGNALS)

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_SHOWN_PROBLEMS = 20
_LIMITS = ContractsConfig()

Row = Mapping[str, Any]


def render_sheet(
    clips: Iterable[Row], signals: Mapping[str, Row], verdicts: Mapping[str, Row], workspace: Workspace
) -> str:
    """The sheet of `clips` in their order, with the cells of `FILLED_IN` empty.

    `verdicts` are those that count now, by clip id. `media` is the URI of the normalised clip on this machine. Text
    that a table program would take for a formula (a caption may come from a stranger) gets an apostrophe in front.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    for clip in clips:
        verdict = verdicts.get(clip["clip_id"])
        about = {name: _harmless(clip[name]) for name in ("label", "caption", "split", "source_uri")}
        measured = ((name, signals[clip["clip_id"]][name]) for name in _SIGNALS)
        writer.writerow(
            {
                "clip_id": clip["clip_id"],
                "current_verdict": ""
                if verdict is None
                else _harmless(f"{verdict['verdict']} ({verdict['reviewer']})"),
                **about,
                "start_sec": f"{clip['start_us'] / 1e6:g}",
                "duration_sec": f"{clip['duration_us'] / 1e6:g}",
                "media": workspace.resolve(clip["media_uri"]).as_uri(),
                **{name: f"{value:.4g}" for name, value in measured if value is not None},
            }
        )
    # With a byte order mark: without one Excel reads UTF-8 as something else.
    return "\ufeff" + text.getvalue()


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


@dataclass(frozen=True)
class Sheet:
    """The verdicts that people filled in."""

    rows: list[dict[str, Any]]
    """as rows of REVIEWS, in the order of the file; `at` is empty where nobody filled it in"""
    blank: int
    """rows without a verdict: nobody has reviewed them yet"""


def read_sheet(path: Path, known: Iterable[str], reviewer: str = "", limits: ContractsConfig = _LIMITS) -> Sheet:
    """Read the verdicts of a sheet about the clips `known`; `reviewer` is who fills in where the cell is empty.

    What the data contracts would refuse later (`limits`: a verdict's time, an offset) is refused here.

    Columns: clip_id, verdict, seconds_spent, and reviewer unless given; at (ISO 8601 with a time zone) and, for the
    verdict `shift`, audio_shift_sec. Others are ignored.

    Raises:
        DataError: the file is no such table, or rows are wrong; each is named with its line and what was expected.
    """
    known = set(known)
    problems: list[str] = []
    rows: list[dict[str, Any]] = []
    blank = 0
    lines: dict[tuple[str, str, str], tuple[int, dict[str, Any]]] = {}
    for line, cells in read_cells(path, ("clip_id", "verdict")):
        if not cells["verdict"]:
            blank += 1
            continue
        try:
            row = _verdict(cells, known, reviewer, limits)
            first, other = lines.setdefault((row["clip_id"], row["reviewer"], row["at"]), (line, row))
            if other != row:
                raise ValueError(
                    f"another verdict on this clip stands in line {first}; expected one, or each with `at`"
                )
        except ValueError as error:
            problems.append(f"line {line}: {error}")
            continue
        if first == line:
            rows.append(row)
    if problems:
        raise DataError(_refusal(path, problems))
    return Sheet(rows, blank)


def _refusal(path: Path, problems: Sequence[str]) -> str:
    rest = len(problems) - _SHOWN_PROBLEMS
    shown = [*problems[:_SHOWN_PROBLEMS], *([f"and {rest} more"] if rest > 0 else [])]
    return f"{path}: {len(problems)} rows cannot be used, so nothing was imported; mend them:\n  " + "\n  ".join(shown)


def import_sheet(workspace: Workspace, sheet: Sheet, now: datetime) -> list[dict[str, Any]]:
    """Append the verdicts of a sheet that the ledger does not hold yet, all or none; return those appended.

    A verdict with its time is known when the ledger holds that very row. One without gets the time `now`, and is known
    when it is what its reviewer last said about the clip, in as many seconds. So a file imported twice changes nothing,
    and a sheet that is filled in further and imported again adds what is new.

    Raises:
        DataError: a row is no verdict of a person.
    """
    stamp = _utc(now)
    stamped = [row | {"at": row["at"] or stamp} for row in sheet.rows]

    def choose(ledger: Sequence[Row]) -> list[Row]:
        exact = {tuple(sorted(row.items())) for row in ledger}
        said: dict[str, dict[str, Row]] = {}
        for name in {row["reviewer"] for row in ledger}:
            said[name] = latest_verdicts(row for row in ledger if row["reviewer"] == name)
        new: list[Row] = []
        for given, row in zip(sheet.rows, stamped, strict=True):
            before = said.get(row["reviewer"], {}).get(row["clip_id"])
            if given["at"]:
                is_known = tuple(sorted(row.items())) in exact
            else:
                is_known = before is not None and dict(before) | {"at": ""} == given
            if not is_known:
                new.append(row)
        return new

    return append_new(workspace, stamped, choose)


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _verdict(cells: Row, known: set[str], reviewer: str, limits: ContractsConfig) -> dict[str, Any]:
    """One row of REVIEWS; a ValueError says what is wrong with it."""
    clip_id, verdict = cells["clip_id"].removeprefix("'"), cells["verdict"].lower()
    name = cells.get("reviewer", "") or reviewer
    if clip_id not in known:
        raise ValueError(f"clip_id {clip_id!r} is no clip of this workspace; expected one as `review export` wrote it")
    if verdict not in VERDICTS:
        raise ValueError(f"verdict {cells['verdict']!r}, expected {', '.join(VERDICTS)}, or an empty cell")
    if not name or name == SIMULATED:
        raise ValueError(f"reviewer {name!r}, expected a person's name in the cell or by --reviewer")
    seconds = _number(cells, "seconds_spent", "the seconds this verdict took, like 6.5")
    if not 0 <= seconds <= limits.max_review_sec:
        most = f"{limits.max_review_sec:g} (contracts.max_review_sec)"
        raise ValueError(f"seconds_spent {cells['seconds_spent']!r}, expected 0 to {most}")
    return {
        "clip_id": clip_id,
        "verdict": verdict,
        "reviewer": name,
        "seconds_spent": seconds,
        "at": _moment(cells.get("at", "")),
        "audio_shift_sec": _shift(cells, verdict, limits.max_abs_shift_sec),
    }


def _shift(cells: Row, verdict: str, limit: float) -> float | None:
    if verdict != "shift":
        if cells.get("audio_shift_sec", ""):
            raise ValueError(f"audio_shift_sec {cells['audio_shift_sec']!r} with verdict {verdict}, expected `shift`")
        return None
    shift = _number(cells, "audio_shift_sec", "the seconds to add to audio time, like -0.3 for sound that is late")
    if abs(shift) > limit:
        raise ValueError(
            f"audio_shift_sec {shift:g}, expected at most {limit:g} either way (contracts.max_abs_shift_sec)"
        )
    return shift


def _number(cells: Row, column: str, expected: str) -> float:
    text = cells.get(column, "").removeprefix("'")
    # A program set to a language with decimal commas writes 6,5.
    plain = text.replace(",", ".") if text.count(",") == 1 and "." not in text else text
    try:
        value = float(plain)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{column} {text!r}, expected {expected}")
    return value


def _moment(text: str) -> str:
    if not text:
        return ""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"at {text!r}, expected ISO 8601 with a time zone like 2030-01-31T12:00:00Z, or an empty cell")
    return _utc(moment)


def read_cells(path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file as line number and {column: stripped cell}; rows of empty cells are left out.

    Raises:
        DataError: not UTF-8, broken quotes, a required column is missing or stands twice, a row longer than the header.
    """
    text = _decoded(path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, required[0]), strict=True)
    header: list[str] = []
    line = 0
    try:
        for cells in reader:
            # A quoted cell may hold line ends: a row begins after the last line of the one before.
            first, line = line + 1, reader.line_num
            stripped = [cell.strip() for cell in cells]
            if not any(stripped) or (not header and stripped[0].lower().startswith("sep=")):
                continue
            if not header:
                header = _header(path, stripped, required)
                continue
            if any(stripped[len(header) :]):
                raise DataError(f"{path} line {first}: {len(stripped)} cells, expected {len(header)} as in the header")
            yield first, dict(zip(header, [*stripped, *[""] * len(header)], strict=False))
    except csv.Error as error:
        raise DataError(f"{path} line {line + 1}: not readable as CSV ({error}); mend the quotes around it") from error
    if not header:
        raise DataError(f"{path} is empty; expected a header with {', '.join(required)}")


def _decoded(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; save the table as `CSV UTF-8`, not as a workbook") from error


def _delimiter(text: str, column: str) -> str:
    """Which of comma, semicolon and tab stands in the line that names `column`."""
    head = next((line for line in text.splitlines()[:2] if column in line.lower()), "")
    return max(",;\t", key=head.count) if head else ","


def _header(path: Path, cells: Sequence[str], required: Sequence[str]) -> list[str]:
    names = [cell.lower() for cell in cells]
    missing = [name for name in required if name not in names]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if missing or twice:
        raise DataError(
            f"{path}: columns {', '.join(names)}; missing {missing or 'none'}, standing twice {twice or 'none'}; "
            f"expected {', '.join(required)} once each, as `soundstage review export` writes them"
        )
    return names
