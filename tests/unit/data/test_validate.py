"""Each gate passes small valid records; one row corrupted in each stops it with suite, expectation and clip id."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from soundstage.config.slices import ValidateSlice
from soundstage.config.tree import ContractsConfig
from soundstage.data import records, validate
from soundstage.errors import ContractError, DataError
from soundstage.stages import StageRecord, Workspace, execute
from tests.unit.curation.records import clip_id, clip_row, put, review_row, signals_row

Tables = dict[str, list[dict[str, Any]]]
SCHEMAS = {
    "clips": records.CLIPS,
    "ingested": records.CLIPS,
    "rejects": records.REJECTS,
    "signals": records.SIGNALS,
    "selection": records.SELECTION,
    "reviews": records.REVIEWS,
    "samples": records.SHARD_SAMPLES,
}
SHARD = b"\0" * 4096


def _selection_row(number: int, use: str, **changes: Any) -> dict[str, Any]:
    return {"clip_id": clip_id(number), "use": use, "reasons": "", "weight": 1.0, "audio_shift_sec": 0.0} | changes


def _sample_row(number: int, use: str, offset: int) -> dict[str, Any]:
    return {
        "key": hashlib.sha256(f"{number} {offset}".encode()).hexdigest(),
        "clip_id": clip_id(number),
        "use": use,
        "caption": "a drum",
        "weight": 1.0,
        "window_start_us": 0,
        "flip": False,
        "shard": "shards/000000.tar",
        "offset": offset,
        "size": 1024,
        "bucket": "12x32x32",
        "sha256": hashlib.sha256(bytes(1024)).hexdigest(),
    }


def _valid() -> Tables:
    splits = ["pretrain", "pretrain", "validation", "test", "pretrain"]
    return {
        "clips": [clip_row(n, split=split) for n, split in enumerate(splits)],
        "ingested": [clip_row(n, group="", split="") for n in range(5)],
        "rejects": [
            {"source_uri": "b.mp4", "start_us": 0, "duration_us": 0, "reason": "no_audio", "detail": "no audio stream"}
        ],
        "signals": [signals_row(n) for n in range(4)]
        + [signals_row(4, av_align=None, av_offset_sec=None, av_correlation=None, av_confidence=None)],
        "selection": [
            _selection_row(0, "pretrain"),
            _selection_row(1, "finetune", audio_shift_sec=-0.4),
            _selection_row(2, "validation"),
            _selection_row(3, "test"),
            _selection_row(4, "dropped", reasons="unmeasured"),
        ],
        "reviews": [review_row(1, "drop", "simulated", at="1970-01-01T00:00:00Z"), review_row(1, "keep")],
        "samples": [
            _sample_row(0, "pretrain", 0),
            _sample_row(1, "finetune", 1024),
            _sample_row(2, "validation", 2048),
        ],
    }


class Gates:
    """Records of one workspace, and the gates run on them."""

    def __init__(self, root: Path, tables: Tables, **contracts: Any) -> None:
        self.workspace = Workspace.open(root)
        self.tables = tables
        self.config = ValidateSlice(contracts=ContractsConfig(**contracts))
        for row in tables["ingested"]:
            media = self.workspace.resolve(row["media_uri"])
            media.parent.mkdir(parents=True, exist_ok=True)
            media.write_bytes(b"media")

    def _writer(self, name: str) -> Callable[[Path], Any]:
        # Without the schema's own refusal of nulls: it is the gate that must find them.
        nullable = pa.schema([field.with_nullable(True) for field in SCHEMAS[name]])
        table = pa.Table.from_pylist(self.tables[name], schema=nullable)
        return lambda path: pq.write_table(table, path)

    def _inputs(self) -> dict[str, StageRecord]:
        sources = {row["source_uri"] for name in ("ingested", "rejects") for row in self.tables[name]}
        made: dict[str, StageRecord] = {}
        files: dict[str, dict[str, Callable[[Path], Any]]] = {
            "ingest": {"clips.parquet": self._writer("ingested"), "rejects.parquet": self._writer("rejects")},
            "split": {"clips.parquet": self._writer("clips")},
            "score": {"signals.parquet": self._writer("signals")},
            "select": {"selection.parquet": self._writer("selection")},
            "review": {"reviews.parquet": self._writer("reviews")},
            "encode": {
                "samples.parquet": self._writer("samples"),
                "shards/000000.tar": lambda path: path.write_bytes(SHARD),
                "index.json": lambda path: path.write_text(json.dumps(self._index(path.parent, made["selection"]))),
            },
        }
        names = {"split": "clips", "score": "signals", "select": "selection", "encode": "shards"}
        counts = {"sources": len(sources)}
        for stage, written in files.items():
            made[names.get(stage, stage)] = put(self.workspace, stage, written, counts)
        return made

    @staticmethod
    def _index(folder: Path, selection: StageRecord) -> dict[str, Any]:
        """What the index says of the shard and the table beside it."""
        table = (folder / "samples.parquet").read_bytes()
        shard = {"shard": "shards/000000.tar", "samples": 3, "bytes": 4096, "bucket": "12x32x32"}
        return {
            "shards": [shard | {"sha256": hashlib.sha256(SHARD).hexdigest()}],
            "tables": {"samples.parquet": {"bytes": len(table), "sha256": hashlib.sha256(table).hexdigest()}},
            "buckets": {"12x32x32": {}},
            "selection": selection.content,
        }

    def run(self, gate: str) -> StageRecord:
        function = getattr(validate, gate)
        return execute(
            f"validate-{gate}", function, self.config, self._inputs(), self.workspace, code_version="t", cacheable=False
        ).record


@pytest.mark.parametrize("gate", ["clips", "signals", "selection", "shards"])
def test_valid_records_pass_and_keep_result_and_docs(tmp_path: Path, gate: str) -> None:
    gates = Gates(tmp_path, _valid())
    record = gates.run(gate)
    result = json.loads(gates.workspace.output(record, "result.json").read_text())
    assert result["success"]
    assert result["expectations"] == record.counts["expectations"] > 15
    assert gates.workspace.output(record, "data_docs/index.html").stat().st_size > 1000
    assert gates.run(gate).content == record.content


def test_empty_rejects_and_reviews_are_valid(tmp_path: Path) -> None:
    tables = _valid() | {"rejects": [], "reviews": []}
    tables["selection"][1] |= {"use": "pretrain"}
    gates = Gates(tmp_path, tables)
    gates.run("clips")
    gates.run("selection")


# record, row, corruption, suite, expectation, what is promised: by gate, first of rows, then of records together
Corruption = tuple[str, int, dict[str, Any], str, str, str]
BETWEEN, IN_SET, REGEX = (
    "ExpectColumnValuesToBeBetween",
    "ExpectColumnValuesToBeInSet",
    "ExpectColumnValuesToMatchRegex",
)
CORRUPTIONS: list[tuple[str, list[Corruption]]] = [
    (
        "clips",
        [
            ("clips", 1, {"clip_id": clip_id(0)}, "whole_records", "repeated_in_clips", "clip_id is unique"),
            ("clips", 2, {"width": -3}, "clips", BETWEEN, "width is 16 to 16384 pixels"),
            ("clips", 2, {"split": "train"}, "clips", IN_SET, "split is one of pretrain, judge"),
            ("clips", 3, {"media_sha256": "xyz"}, "clips", REGEX, "media_sha256 is 64 hex"),
            ("clips", 3, {"media_uri": "media/../x.mp4"}, "clips", REGEX, "media_uri is a file under media/"),
            ("clips", 4, {"caption": " "}, "clips", REGEX, "caption is not empty"),
            ("rejects", 0, {"reason": "ugly"}, "rejects", IN_SET, "reason is one of not_media"),
        ],
    ),
    (
        "clips",
        [
            ("clips", 0, {"media_uri": "media/gone.mp4"}, "clips_together", "media_missing", "the media file of every"),
            (
                "clips",
                1,
                {"num_frames": 30},
                "clips_together",
                "frames_and_duration_disagree",
                "is the duration within",
            ),
            (
                "clips",
                2,
                {"group": clip_row(1)["group"]},
                "clips_together",
                "in_two_splits",
                "no group is in two splits",
            ),
            (
                "clips",
                2,
                {"duplicate_of": clip_id(99)},
                "clips_together",
                "duplicates_of_nothing",
                "a clip of the same group that is no duplicate itself",
            ),
            ("clips", 4, {"clip_id": clip_id(99)}, "clips_together", "clips_lost_or_added", "all and no others"),
        ],
    ),
    (
        "signals",
        [
            ("signals", 1, {"motion": 1.5}, "signals", BETWEEN, "motion is between 0 and 1"),
            ("signals", 2, {"cuts": -1}, "signals", BETWEEN, "cuts is not negative"),
            ("signals", 2, {"image_text_cosine": 1.2}, "signals", BETWEEN, "image_text_cosine is between -1 and 1"),
            ("signals", 1, {"speech_share": -0.1}, "signals", BETWEEN, "speech_share is between 0 and 1"),
            ("signals", 1, {"sharpness": None}, "signals", "ExpectColumnValuesToNotBeNull", "sharpness is never null"),
            ("signals", 3, {"av_confidence": float("inf")}, "signals", BETWEEN, "not negative and finite"),
            ("signals", 3, {"clip_id": "short"}, "signals", REGEX, "clip_id is 64 hexadecimal digits"),
        ],
    ),
    (
        "signals",
        [
            ("signals", 1, {"av_align": float("nan")}, "signals_together", "not_a_number", "no signal is NaN"),
            ("signals", 2, {"av_offset_sec": None}, "signals_together", "half_an_offset", "measured together or not"),
            (
                "signals",
                2,
                {"sync_score": 1.0},
                "signals_together",
                "half_a_learned_judgement",
                "together or not at all",
            ),
            ("signals", 3, {"clip_id": clip_id(99)}, "signals_together", "unscored", "every clip has signals"),
        ],
    ),
    (
        "selection",
        [
            ("selection", 1, {"use": "spare"}, "selection", IN_SET, "use is one of pretrain"),
            ("selection", 2, {"audio_shift_sec": 2.5}, "selection", BETWEEN, "at most 2 s either way"),
            ("selection", 3, {"weight": 0.0}, "selection", BETWEEN, "weight is positive and finite"),
            ("selection", 3, {"reasons": "so, so"}, "selection", REGEX, "reasons joined by commas"),
            ("reviews", 1, {"verdict": "maybe"}, "reviews", IN_SET, "verdict is one of keep"),
            ("reviews", 1, {"at": "noon"}, "reviews", REGEX, "at is ISO 8601 in UTC"),
        ],
    ),
    (
        "selection",
        [
            (
                "selection",
                0,
                {"use": "finetune"},
                "selection_together",
                "finetune_without_keep",
                "a verdict that keeps it: keep or shift",
            ),
            ("selection", 2, {"clip_id": clip_id(99)}, "selection_together", "clips_lost_or_unknown", "a known clip"),
            ("selection", 3, {"use": "pretrain"}, "selection_together", "moved_between_splits", "only drops"),
            ("selection", 4, {"reasons": ""}, "selection_together", "dropped_without_reason", "has a reason"),
        ],
    ),
    (
        "shards",
        [
            ("samples", 0, {"flip": None}, "shards", "ExpectColumnValuesToNotBeNull", "flip is never null"),
            ("samples", 1, {"use": "test"}, "shards", IN_SET, "use is one of pretrain, finetune, validation"),
            ("samples", 2, {"shard": "/x.tar"}, "shards", REGEX, "shard is a tar file under shards/"),
        ],
    ),
    (
        "shards",
        [
            ("samples", 0, {"clip_id": clip_id(3)}, "shards_together", "samples_not_selected", "nothing of the test"),
            ("samples", 1, {"offset": 512}, "shards_together", "overlapping", "no two samples of a shard overlap"),
            ("samples", 2, {"offset": 4096}, "shards_together", "outside_their_shard", "inside its shard"),
        ],
    ),
    (
        "shards",
        [
            ("samples", 0, {"bucket": "12x32"}, "shards", REGEX, "bucket is frames, height and width joined by x"),
            ("samples", 1, {"sha256": "0"}, "shards", REGEX, "sha256 is 64 hexadecimal digits"),
        ],
    ),
    (
        "shards",
        [
            ("samples", 1, {"bucket": "9x9x9"}, "shards_together", "not_of_their_shards_bucket", "bucket of its shard"),
        ],
    ),
]


@pytest.mark.parametrize(
    ("gate", "corruptions"), CORRUPTIONS, ids=[f"{gate}-{items[0][3]}" for gate, items in CORRUPTIONS]
)
def test_corrupt_rows_stop_the_gate_and_are_named(tmp_path: Path, gate: str, corruptions: list[Corruption]) -> None:
    tables = _valid()
    gates = Gates(tmp_path, tables)
    for record, row, changes, *_ in corruptions:
        tables[record][row] |= changes
    with pytest.raises(ContractError) as error:
        gates.run(gate)
    assert error.value.exit_code == 5
    lines = str(error.value).splitlines()
    for record, row, _, suite, expectation, promise in corruptions:
        (line,) = [text for text in lines if f"suite {suite}: {expectation}: " in text and promise in text]
        offender = tables[record][row]
        assert str(offender.get("clip_id", offender.get("source_uri"))) in line


@pytest.fixture
def long_tables() -> Tables:
    """Four partitions of ten rows and a fifth with two; what is wrong is in the third and in the last."""
    tables = _valid()
    tables["clips"] = [clip_row(n) for n in range(42)]
    tables["signals"] = [signals_row(n) for n in range(42)]
    tables["signals"][23] |= {"cuts": -4}
    tables["signals"][26] |= {"cuts": -5, "motion": None}
    tables["signals"][41] |= {"clip_id": clip_id(7), "motion": 3.5}
    return tables


def _failures(workspace: Path) -> list[dict[str, Any]]:
    result = json.loads((workspace / "contracts" / "validate-signals" / "result.json").read_text())
    return [finding for finding in result["findings"] if not finding["success"]]


def test_an_offender_in_the_third_partition_is_found_whatever_the_partitions(
    tmp_path: Path, long_tables: Tables
) -> None:
    found = []
    for rows in (10, 100_000):
        with pytest.raises(ContractError, match=rf"cuts is not negative; 2 offend, found -4, -5: {clip_id(23)}"):
            Gates(tmp_path / str(rows), long_tables, partition_rows=rows).run("signals")
        found.append(_failures(tmp_path / str(rows)))
    assert found[0] == found[1]
    pages = sorted(tmp_path.glob("10/contracts/validate-signals/data_docs/validations/**/*.html"))
    assert [page.stem for page in pages] == ["records-signals", "records-whole_records"]
    named = {finding["description"]: (finding["offenders"], finding["examples"]) for finding in found[0]}
    assert named == {
        "motion is never null": (1, [clip_id(26)]),
        "motion is between 0 and 1": (1, [clip_id(7)]),
        "cuts is not negative": (2, [clip_id(23), clip_id(26)]),
        "in signals, clip_id is unique": (2, [clip_id(7)]),
    }


def test_a_failed_gate_keeps_its_docs_until_it_passes(tmp_path: Path) -> None:
    tables = _valid()
    tables["signals"][2]["cuts"] = -1
    gates = Gates(tmp_path, tables)
    kept = tmp_path / "contracts" / "validate-signals"
    with pytest.raises(ContractError, match=str(kept / "data_docs" / "index.html")):
        gates.run("signals")
    assert not json.loads((kept / "result.json").read_text())["success"]
    assert "cuts is not negative" in "".join(page.read_text() for page in kept.glob("data_docs/**/*.html"))
    tables["signals"][2]["cuts"] = 0
    gates.run("signals")
    assert not kept.exists()


def test_too_many_rejects_stop_the_run(tmp_path: Path) -> None:
    gates = Gates(tmp_path, _valid(), max_reject_share=0.1)
    with pytest.raises(ContractError, match=r"rejected_beyond_limit: expected that at most 10% .* b\.mp4"):
        gates.run("clips")


def test_an_altered_shard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gates = Gates(tmp_path, _valid())
    inputs = gates._inputs()
    gates.workspace.output(inputs["shards"], "shards/000000.tar").write_bytes(b"\1" * 4096)
    monkeypatch.setattr(gates, "_inputs", lambda: inputs)
    with pytest.raises(ContractError, match=r"shards_not_as_indexed: .*: shards/000000\.tar"):
        gates.run("shards")


def test_shards_of_another_selection_and_altered_tables_are_told(tmp_path: Path) -> None:
    gates = Gates(tmp_path, _valid())
    inputs = gates._inputs()
    gates.tables["selection"][0]["weight"] = 2.0
    inputs["selection"] = put(gates.workspace, "select", {"selection.parquet": gates._writer("selection")})
    index = gates.workspace.output(inputs["shards"], "index.json")
    stated = json.loads(index.read_text())
    stated["tables"]["samples.parquet"]["sha256"] = "0" * 64
    index.write_text(json.dumps(stated))
    gates._inputs = lambda: inputs  # type: ignore[method-assign]
    with pytest.raises(ContractError) as error:
        gates.run("shards")
    content = inputs["selection"].content
    assert "shards_of_another_selection: expected that the shards were encoded from this selection" in str(error.value)
    assert f"{stated['selection'][:16]}, not {content[:16]}" in str(error.value)
    assert "tables_not_as_indexed: " in str(error.value)


def test_a_missing_column_and_a_wrong_type_are_told(tmp_path: Path) -> None:
    gates = Gates(tmp_path, _valid())
    table = pa.Table.from_pylist(gates.tables["signals"], schema=records.SIGNALS)
    table = table.set_column(table.schema.get_field_index("cuts"), "cuts", pa.array([0.0] * 5)).drop_columns(["motion"])
    inputs = gates._inputs()
    inputs["signals"] = put(gates.workspace, "score", {"signals.parquet": lambda p: pq.write_table(table, p)})
    gates._inputs = lambda: inputs  # type: ignore[method-assign]
    with pytest.raises(ContractError) as error:
        gates.run("signals")
    assert "the columns are those of the schema" in str(error.value)
    assert 'The column "motion" in BatchData does not exist' in str(error.value)
    assert "motion (missing, not double)" in str(error.value)


def test_a_record_that_is_no_parquet_is_a_data_error(tmp_path: Path) -> None:
    gates = Gates(tmp_path, _valid())
    inputs = gates._inputs()
    inputs["signals"] = put(gates.workspace, "score", {"signals.parquet": lambda p: p.write_bytes(b"not parquet")})
    gates._inputs = lambda: inputs  # type: ignore[method-assign]
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        gates.run("signals")
