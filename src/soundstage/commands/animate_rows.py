"""Rows of a table of animations: what is to be made of what, checked line by line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..data.sources.tables import Columns, plain_text, read_lines
from ..errors import DataError

COLUMNS: Columns = {
    "image": ("image",),
    "audio": ("audio",),
    "prompt": ("prompt", "caption", "text"),
    "seed": ("seed",),
    "out": ("out",),
}
_SEED_DIGITS = 18  # what any of them says fits 64 bits, strides of a long sound's windows included


@dataclass(frozen=True)
class Row:
    """One video to make; `where` is table and line, for messages."""

    where: str
    image: Path
    audio: Path
    prompt: str
    seed: int
    out: Path


def read_table(table: Path, out: Path, seed: int) -> Iterator[Row | DataError]:
    """Rows of a table; files are relative to it, results to the folder `out`, and `seed` serves rows without their own.

    A row that cannot be used comes as the error that says why.

    Raises:
        DataError: no such file, no table, or without the columns `image` and `audio`.
    """
    try:
        data = table.read_bytes()
    except OSError as error:
        raise DataError(f"--batch {table} cannot be read: {error.strerror}; check the path") from error
    taken: dict[Path, str] = {}
    for line, values in read_lines(table.name, data, COLUMNS, ("image", "audio")):
        where = f"{table.name}, line {line}"
        try:
            if isinstance(values, DataError):
                raise values
            row = _row(where, line, values, table.parent, out, seed)
            before = taken.setdefault(row.out, where)
            if before != where:
                raise DataError(f"{where}: {row.out.name} is the result of {before} already; name another `out`")
        except DataError as error:
            yield error
        else:
            yield row


def _row(where: str, line: int, values: dict[str, Any], folder: Path, out: Path, seed: int) -> Row:
    files = {name: plain_text(where, name, values[name], keep_spaces=True) for name in ("image", "audio")}
    for name, file in files.items():
        if not file.strip():
            raise DataError(f"{where}: `{name}` is empty; it must name a file relative to the table")
    own = plain_text(where, "seed", values.get("seed"))
    # Parquet made from columns with gaps has whole numbers as 3.0.
    number = own.removesuffix(".0")
    if number and not (number.isascii() and number.isdigit() and len(number) <= _SEED_DIGITS):
        raise DataError(
            f"{where}: `seed` must be a whole number from 0, of {_SEED_DIGITS} digits at most, found {own!r}"
        )
    return Row(
        where,
        folder / files["image"],
        folder / files["audio"],
        plain_text(where, "prompt", values.get("prompt")),
        int(number) if number else seed,
        out / _result_name(where, line, plain_text(where, "out", values.get("out"), keep_spaces=True)),
    )


def _result_name(where: str, line: int, given: str) -> PurePosixPath:
    name = PurePosixPath(given or f"row-{line:06d}.mp4")
    if name.is_absolute() or ".." in name.parts or name.suffix.lower() != ".mp4":
        raise DataError(f"{where}: `out` must be an .mp4 file within the folder of results, found {given!r}")
    return name
