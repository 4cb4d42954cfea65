"""The table of VGGSound is known by its shape, and each row finds its file by any of three conventions."""

from __future__ import annotations

import pytest

from soundstage.data.sources.item import WHOLE, Range
from soundstage.data.sources.vggsound import VggSoundFiles, is_vggsound, read_vggsound
from soundstage.errors import DataError

# Lines of the dataset's own shape; a comma in a label is quoted there.
TABLE = b'---g-f_I2yQ,1,people marching,test\n--0PQM4-hqg,30,"waterfall, burbling",train\n'


def test_rows_say_label_and_origin() -> None:
    first, second = read_vggsound("vggsound.csv", TABLE)
    assert (first.youtube_id, first.start_sec, first.words["label"]) == ("---g-f_I2yQ", 1, "people marching")
    assert second.words == {
        "label": "waterfall, burbling",
        "provenance": "VGGSound train: YouTube --0PQM4-hqg from 30 s",
    }


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("vggsound.csv", TABLE, True),
        ("vggsound.csv", b"\xef\xbb\xbf" + TABLE, True),
        ("vggsound.jsonl", TABLE, False),
        ("t.csv", b"file,label,caption,licence\na,b,c,d\n", False),
        ("t.csv", b"---g-f_I2yQ,1,people\n", False),
        ("t.csv", b"", False),
    ],
    ids=["its own", "with a mark of byte order", "no csv", "a header", "three values", "empty"],
)
def test_the_shape_is_recognised(name: str, data: bytes, expected: bool) -> None:
    assert is_vggsound(name, data) is expected


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"---g-f_I2yQ,one,x,test\n", "line 3: expected YouTube id"),
        (b"short,1,x,test\n", "line 3: expected YouTube id"),
        (b"---g-f_I2yQ,1,other words,train\n", "line 3: ---g-f_I2yQ from 1 s stands on line 1 already"),
        (b'---g-f_I2yQ,2,"x,test\n', "not valid CSV"),
    ],
    ids=["no number", "no id", "twice", "open quote"],
)
def test_other_rows_are_refused_by_line(line: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_vggsound("vggsound.csv", TABLE + line)


@pytest.mark.parametrize(
    ("uris", "expected"),
    [
        (["--0PQM4-hqg_000030.mp4"], ("--0PQM4-hqg_000030.mp4", WHOLE)),
        (["video/--0PQM4-hqg_30000_40000.mkv"], ("video/--0PQM4-hqg_30000_40000.mkv", WHOLE)),
        (["--0PQM4-hqg.webm"], ("--0PQM4-hqg.webm", Range(30_000_000, 40_000_000))),
        (["--0PQM4-hqg.mp4", "--0PQM4-hqg_000030.mp4"], ("--0PQM4-hqg_000030.mp4", WHOLE)),
        (["z/--0PQM4-hqg.mp4", "a/--0PQM4-hqg.mp4"], ("a/--0PQM4-hqg.mp4", Range(30_000_000, 40_000_000))),
        (["--0PQM4-hqg_000031.mp4", "--0PQM4-hqg_31000_41000.mp4", "0--0PQM4-hqg.mp4"], None),
        ([], None),
    ],
    ids=["six digits", "milliseconds", "whole video", "cut goes first", "first by name", "another start", "no file"],
)
def test_files_are_found_by_convention(uris: list[str], expected: object) -> None:
    row = read_vggsound("vggsound.csv", TABLE)[1]
    assert VggSoundFiles(uris).find(row) == expected
    assert row.expected_name == "--0PQM4-hqg_000030.mp4"
