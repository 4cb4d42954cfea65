"""Verdicts to a spreadsheet and back: harmless cells, damage that programs do, refusals by line, nothing twice."""

import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from soundstage.curation import review
from soundstage.curation.review_sheet import COLUMNS, import_sheet, read_sheet, render_sheet
from soundstage.data.records import REVIEWS, write_arrow
from soundstage.errors import DataError
from soundstage.stages import Workspace
from tests.unit.curation.records import clip_id, clip_row, review_row, signals_row

KNOWN = [clip_id(n) for n in range(6)]
NOW, LATER = datetime(2030, 5, 1, 12, tzinfo=UTC), datetime(2030, 5, 2, 12, tzinfo=UTC)
HEAD = "clip_id,verdict,seconds_spent,reviewer,at,audio_shift_sec\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


def _write(tmp_path: Path, text: str | bytes, name: str = "sheet.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _rendered(workspace: Workspace, clips: list[dict[str, Any]], verdicts: dict[str, Any] | None = None) -> str:
    signals = {clip["clip_id"]: signals_row(0, sync_match=-2.5) for clip in clips}
    return render_sheet(clips, signals, verdicts or {}, workspace)


def test_a_sheet_holds_what_a_reviewer_needs(workspace: Workspace) -> None:
    clips = [clip_row(1, caption='a "red", round drum', start_us=1_500_000), clip_row(0)]
    text = _rendered(workspace, clips, {clip_id(0): review_row(0, "drop")})
    assert text.startswith("\ufeffclip_id,verdict,")
    assert text.count("\r\n") == 3
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
    assert [row["clip_id"] for row in rows] == [clip_id(1), clip_id(0)]  # the order given is kept
    assert tuple(rows[0]) == COLUMNS
    first = rows[0]
    assert (first["caption"], first["start_sec"], first["duration_sec"]) == ('a "red", round drum', "1.5", "4")
    assert first["media"] == workspace.resolve(clips[0]["media_uri"]).as_uri()
    assert (first["sync_match"], first["sync_score"], first["av_correlation"]) == ("-2.5", "", "0.8")
    assert [row["current_verdict"] for row in rows] == ["", "drop (ana)"]
    assert {row[name] for row in rows for name in ("verdict", "seconds_spent", "reviewer", "at")} == {""}


@pytest.mark.parametrize("start", list("=+-@\t\r"), ids=repr)
def test_text_of_strangers_is_no_formula(workspace: Workspace, start: str) -> None:
    clip = clip_row(0, caption=f"{start}cmd|' /C calc'!A0", label=f"{start}x", source_uri=f"{start}y.mp4")
    (row,) = csv.DictReader(io.StringIO(_rendered(workspace, [clip]).removeprefix("\ufeff"), newline=""))
    for name in ("caption", "label", "source_uri"):
        assert row[name] == "'" + clip[name]


def test_a_filled_sheet_comes_back(workspace: Workspace, tmp_path: Path) -> None:
    text = _rendered(workspace, [clip_row(n, caption="-a\nb, c") for n in range(4)])
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    rows[0] |= {"verdict": "keep", "seconds_spent": "6.5"}
    rows[1] |= {"verdict": "Drop ", "seconds_spent": "3", "reviewer": "bo", "at": "2030-04-30T14:00:00+02:00"}
    rows[2] |= {"verdict": "shift", "seconds_spent": "20", "audio_shift_sec": "-0.25"}
    filled = io.StringIO()
    writer = csv.DictWriter(filled, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    sheet = read_sheet(_write(tmp_path, filled.getvalue()), KNOWN, "ana")
    assert sheet.blank == 1
    added = import_sheet(workspace, sheet, NOW)
    assert review.read_reviews(workspace) == added
    expected = [
        review_row(0, "keep", seconds_spent=6.5, at="2030-05-01T12:00:00Z"),
        review_row(1, "drop", "bo", seconds_spent=3.0, at="2030-04-30T12:00:00Z"),
        review_row(2, "shift", seconds_spent=20.0, at="2030-05-01T12:00:00Z", audio_shift_sec=-0.25),
    ]
    assert added == expected


PLAIN = f"{HEAD}{clip_id(0)},keep,6.5,ana,,\n{clip_id(1)},shift,2,ana,,0.5\n"
DAMAGED = {
    "byte order mark": "\ufeff" + PLAIN,
    "CRLF": PLAIN.replace("\n", "\r\n"),
    "CR": PLAIN.replace("\n", "\r"),
    "no last line end": PLAIN.rstrip("\n"),
    "all quoted": "".join(",".join(f'"{c}"' for c in line.split(",")) + "\n" for line in PLAIN.splitlines()),
    "columns in another order": "".join(",".join(reversed(line.split(","))) + "\n" for line in PLAIN.splitlines()),
    "semicolons and decimal commas": PLAIN.replace(",", ";").replace("6.5", "6,5").replace("0.5", "0,5"),
    "tabs": PLAIN.replace(",", "\t"),
    "sep line": "sep=,\n" + PLAIN,
    "blank lines and columns": PLAIN.replace("\n", ",,\n").replace(HEAD.strip(), "\n" + HEAD.strip()) + ",,,,,,,\n\n",
    "spaces and capitals": PLAIN.replace(",", " , ").replace("keep", "KEEP").replace("verdict", "Verdict"),
    "apostrophes": PLAIN.replace(clip_id(0), "'" + clip_id(0)).replace("0.5", "'0.5"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_what_table_programs_do_to_a_file_is_understood(tmp_path: Path, damage: str) -> None:
    rows = read_sheet(_write(tmp_path, DAMAGED[damage]), KNOWN).rows
    assert rows == [
        review_row(0, "keep", seconds_spent=6.5, at=""),
        review_row(1, "shift", seconds_spent=2.0, at="", audio_shift_sec=0.5),
    ]


def _import(workspace: Workspace, tmp_path: Path, rows: str, now: datetime = NOW) -> int:
    return len(import_sheet(workspace, read_sheet(_write(tmp_path, HEAD + rows), KNOWN), now))


def test_importing_again_changes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    rows = f"{clip_id(0)},keep,6.5,ana,,\n{clip_id(1)},drop,2,ana,2030-01-01T00:00:00Z,\n"
    assert _import(workspace, tmp_path, rows) == 2
    before = workspace.reviews.read_bytes()
    assert _import(workspace, tmp_path, rows, LATER) == 0
    assert workspace.reviews.read_bytes() == before
    # The sheet is filled in further: what is new is added.
    assert _import(workspace, tmp_path, rows + f"{clip_id(2)},drop,1,ana,,\n", LATER) == 1


def test_a_changed_mind_is_a_new_verdict_and_so_is_changing_it_back(workspace: Workspace, tmp_path: Path) -> None:
    for verdict in ("keep", "drop", "keep"):
        assert _import(workspace, tmp_path, f"{clip_id(0)},{verdict},2,ana,,\n") == 1
    assert _import(workspace, tmp_path, f"{clip_id(0)},keep,2,bo,,\n") == 1
    rows = review.read_reviews(workspace)
    assert [row["verdict"] for row in rows] == ["keep", "drop", "keep", "keep"]
    assert review.latest_verdicts(rows)[clip_id(0)]["reviewer"] == "bo"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("nobody,keep,1,ana,,", "clip_id 'nobody' is no clip of this workspace"),
        (f"{clip_id(3)},maybe,1,ana,,", "verdict 'maybe', expected keep, drop, shift, or an empty cell"),
        (f"{clip_id(3)},keep,1,,,", "reviewer '', expected a person's name"),
        (f"{clip_id(3)},keep,1,simulated,,", "reviewer 'simulated', expected a person's name"),
        (f"{clip_id(3)},keep,,ana,,", "seconds_spent '', expected the seconds this verdict took"),
        (f"{clip_id(3)},keep,quick,ana,,", "seconds_spent 'quick'"),
        (f"{clip_id(3)},keep,nan,ana,,", "seconds_spent 'nan'"),
        (f"{clip_id(3)},keep,-1,ana,,", "seconds_spent '-1', expected 0 to 86400"),
        (f"{clip_id(3)},keep,1,ana,yesterday,", "at 'yesterday', expected ISO 8601"),
        (f"{clip_id(3)},keep,1,ana,2030-01-01T10:00:00,", "with a time zone"),
        (f"{clip_id(3)},shift,1,ana,,", "audio_shift_sec '', expected the seconds to add to audio time"),
        (f"{clip_id(3)},shift,1,ana,,2.5", r"audio_shift_sec 2.5, expected at most 2 either way"),
        (f"{clip_id(3)},keep,1,ana,,0.5", "audio_shift_sec '0.5' with verdict keep, expected `shift`"),
        (f"{clip_id(0)},drop,1,ana,,", "another verdict on this clip stands in line 2"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_is_imported(
    workspace: Workspace, tmp_path: Path, row: str, message: str
) -> None:
    # The wrong row stands in line 5: the caption of the row before it holds a line end.
    text = f'note,{HEAD}x,{clip_id(0)},keep,1,ana,,\n"two\nlines",{clip_id(1)},keep,1,ana,,\n,{row}\n'
    with pytest.raises(DataError, match=rf"1 rows cannot be used, so nothing was imported.*\n  line 5: .*{message}"):
        import_sheet(workspace, read_sheet(_write(tmp_path, text), KNOWN), NOW)
    assert not workspace.reviews.exists()


def test_every_wrong_row_is_told_but_not_a_thousand(tmp_path: Path) -> None:
    rows = "".join(f"nobody{n},keep,1,ana,,\n" for n in range(50))
    with pytest.raises(DataError, match=r"50 rows cannot be used.*\n  line 2: (.*\n)*  line 21: .*\n  and 30 more$"):
        read_sheet(_write(tmp_path, HEAD + rows), KNOWN)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected a header with clip_id, verdict"),
        (b"clip,verdict\n", r"columns clip, verdict; missing \['clip_id'\]"),
        (b"clip_id,verdict,verdict\n", r"standing twice \['verdict'\]"),
        (b"clip_id,verdict\na,keep,too,many\n", "line 2: 4 cells, expected 2"),
        (b'clip_id,verdict\na,"keep\nb,drop\n', "not readable as CSV .*unexpected end of data"),
        ("clip_id,verdict\n".encode("utf-16"), "is not UTF-8 text; save the table as `CSV UTF-8`"),
        (b"PK\x03\x04\xff\xfe", "is not UTF-8 text"),
    ],
    ids=["empty", "column missing", "column twice", "long row", "open quote", "utf-16", "workbook"],
)
def test_a_file_that_is_no_such_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_sheet(_write(tmp_path, content), KNOWN)
    with pytest.raises(DataError, match=r"absent.csv cannot be read: No such file"):
        read_sheet(tmp_path / "absent.csv", KNOWN)


def test_an_older_ledger_is_read_and_upgraded(workspace: Workspace, tmp_path: Path) -> None:
    old = pa.schema([field for field in REVIEWS if field.name != "audio_shift_sec"])
    rows = [{name: review_row(n)[name] for name in old.names} for n in (5, 1)]
    write_arrow(workspace.reviews, pa.Table.from_pylist(rows, schema=old))
    before = workspace.reviews.read_bytes()
    assert review.read_reviews(workspace) == [review_row(5), review_row(1)]
    assert workspace.reviews.read_bytes() == before  # reading writes nothing
    assert _import(workspace, tmp_path, f"{clip_id(2)},shift,1,ana,,0.5\n") == 1
    after = review.read_reviews(workspace)
    assert after[:2] == [review_row(5), review_row(1)]
    assert after[2]["audio_shift_sec"] == 0.5


def test_a_damaged_ledger_is_never_overwritten(workspace: Workspace, tmp_path: Path) -> None:
    workspace.reviews.parent.mkdir(parents=True)
    workspace.reviews.write_bytes(b"half a file")
    with pytest.raises(DataError, match=r"ledger .* cannot be read as Parquet"):
        _import(workspace, tmp_path, f"{clip_id(2)},keep,1,ana,,\n")
    assert workspace.reviews.read_bytes() == b"half a file"
