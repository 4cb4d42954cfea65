"""Facts about records together, each computed once: who breaks it is listed by name.

Records are read by partitions, and ids are compared as 16-byte keys, so that memory hardly grows with the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from ..config.tree import ContractsConfig
from ..curation.review import KEEPS, latest_verdicts
from ..stages.workspace import Workspace
from .batches import wrong_types
from .findings import Fact
from .partitions import KEY, Record, Row, differing, key_of, repeated
from .suites import Suite

_EVALUATION_SPLITS = ("validation", "test", "open_class_test")


def whole_facts(suite: Suite, record: Record, schema: pa.Schema) -> list[Fact]:
    """What the record called `suite.name` promises as a whole: types, and what the suite says of all its rows.

    A promise about columns that are missing or of another type is left out: their types are a finding already.
    """
    name, wrong = suite.name, wrong_types(record.schema, schema)
    sound = {field.name for field in schema if not wrong_types(record.schema, pa.schema([field]))}
    few = [f"{len(record)} rows"] * (len(record) < suite.min_rows)
    stated = [
        Fact(f"types_of_{name}", f"every column of {name} has its declared type", wrong),
        Fact(f"rows_of_{name}", f"{name} has at least {suite.min_rows} rows", few),
    ]
    if suite.unique and sound.issuperset(suite.unique.columns):
        again = record.names(repeated(record.keys(*suite.unique.columns)), suite.row_id)
        stated.append(Fact(f"repeated_in_{name}", f"in {name}, {suite.unique.description}", again))
    if suite.same in sound:
        values = pc.unique(record.column(suite.same)).to_pylist()
        several = [f"{suite.same} {value!r}" for value in values] if len(values) > 1 else []
        promise = f"{suite.same} is one and the same in all rows of {name}: rows of two versions are not compared"
        stated.append(Fact(f"versions_of_{name}", promise, several))
    return stated


def clips_facts(
    clips: Record,
    ingested: Record,
    rejects: Record,
    counts: Mapping[str, int],
    workspace: Workspace,
    config: ContractsConfig,
) -> list[Fact]:
    """Facts about clips, rejects and the media of clips."""
    used, refused = ingested.keys("source_uri"), rejects.keys("source_uri")
    sources = len(pc.unique(pa.chunked_array([*used.chunks, *refused.chunks], type=KEY)))
    wholly = pc.invert(pc.is_in(refused, value_set=used))
    share = len(pc.unique(refused.filter(wholly))) / max(sources, 1)
    groups = clips.keys("group")
    in_two_splits = pc.is_in(groups, value_set=_with_two_sides(groups, clips.column("split")))
    timing = ("clip_id", "num_frames", "fps_num", "fps_den", "duration_us")
    return [
        Fact(
            "clips_lost_or_added",
            "the split has the clips of the ingestion, all and no others",
            _differ(ingested, clips),
        ),
        Fact(
            "sources_unaccounted",
            f"each of the {counts['sources']} sources is in clips or rejects",
            [f"{counts['sources']} sources, {sources} accounted for"] * (counts["sources"] != sources),
        ),
        Fact(
            "rejected_beyond_limit",
            f"at most {config.max_reject_share:.0%} of sources are rejected (contracts.max_reject_share)",
            set(rejects.names(wholly, "source_uri")) if share > config.max_reject_share else [],
        ),
        Fact("in_two_splits", "no group is in two splits", clips.names(in_two_splits)),
        Fact(
            "duplicates_of_nothing",
            "duplicate_of names a clip of the same group that is no duplicate itself",
            clips.names(_wrongly_duplicates(clips)),
        ),
        Fact(
            "media_missing",
            "the media file of every clip exists",
            (
                row["clip_id"]
                for row in clips.rows("clip_id", "media_uri")
                if not workspace.resolve(row["media_uri"]).is_file()
            ),
        ),
        Fact(
            "frames_and_duration_disagree",
            f"num_frames at the frame rate is the duration within {config.duration_slack_sec:g} s",
            (row["clip_id"] for row in clips.rows(*timing) if _excess_sec(row) > config.duration_slack_sec),
        ),
    ]


def _wrongly_duplicates(clips: Record) -> pa.ChunkedArray:
    """True in rows whose duplicate_of is neither empty nor a clip that stands for itself in the same group."""
    is_duplicate, groups = pc.not_equal(clips.column("duplicate_of"), ""), clips.keys("group")
    kept = pc.index_in(clips.keys("duplicate_of"), value_set=clips.keys("clip_id"))
    right = pc.and_(pc.equal(groups.take(kept), groups), pc.invert(is_duplicate.take(kept)))
    return pc.and_(is_duplicate, pc.invert(pc.fill_null(right, False)))


def signals_facts(clips: Record, signals: Record) -> list[Fact]:
    """Facts about signals."""
    offsets = ("av_offset_sec", "av_correlation", "av_confidence")
    learned = ("sync_scorer", "sync_score", "sync_match", "sync_offset_sec", "sync_confidence", "synchronisability")
    return [
        Fact("unscored", "every clip has signals, and nothing else has", _differ(clips, signals)),
        Fact(
            "not_a_number",
            "no signal is NaN; what has no meaning is null",
            _not_a_number(signals),
        ),
        Fact(
            "half_an_offset",
            "offset, correlation and confidence are measured together or not at all",
            _partly_null(signals, offsets),
        ),
        Fact(
            "half_a_learned_judgement",
            "the learned scorer's name and all it says of a clip are there together or not at all",
            _partly_null(signals, learned),
        ),
    ]


def _partly_null(signals: Record, columns: tuple[str, ...]) -> Iterator[str]:
    """Clip ids of rows that are null in some of the columns and not in others."""
    return (
        row["clip_id"] for row in signals.rows("clip_id", *columns) if len({row[name] is None for name in columns}) > 1
    )


def selection_facts(clips: Record, selection: Record, reviews: Record) -> list[Fact]:
    """Facts about the selection."""
    verdicts = latest_verdicts(reviews)
    kept = pa.array([key_of(clip_id) for clip_id, row in verdicts.items() if row["verdict"] in KEEPS], KEY)
    keys, use = selection.keys("clip_id"), selection.column("use")
    where = pc.index_in(keys, value_set=clips.keys("clip_id"))
    split = clips.column("split").take(where)
    group = clips.keys("group").take(where)
    used = pc.not_equal(use, "dropped")
    own = pc.and_(pc.equal(use, split), pc.not_equal(split, "judge"))
    to_stage_two = pc.and_(pc.equal(use, "finetune"), pc.equal(split, "pretrain"))
    allowed = pc.fill_null(pc.or_(own, to_stage_two), False)
    tested = pc.is_in(use, value_set=pa.array(_EVALUATION_SPLITS))
    leaking = _with_two_sides(group.filter(used), tested.filter(used))
    return [
        Fact(
            "clips_lost_or_unknown",
            "every clip has a row and every row is a known clip",
            _differ(clips, selection),
        ),
        Fact(
            "moved_between_splits",
            "selection only drops: a clip is used in its own split, or by stage two if that is pretrain",
            selection.names(pc.and_(used, pc.invert(allowed))),
        ),
        Fact(
            "finetune_without_keep",
            f"every finetune clip has a verdict that keeps it: {' or '.join(KEEPS)}",
            selection.names(pc.and_(pc.equal(use, "finetune"), pc.invert(pc.is_in(keys, value_set=kept)))),
        ),
        Fact(
            "dropped_without_reason",
            "a dropped clip has a reason, a used one has none",
            (
                row["clip_id"]
                for row in selection.rows("clip_id", "use", "reasons")
                if (row["use"] == "dropped") != bool(row["reasons"])
            ),
        ),
        Fact(
            "group_trained_and_tested",
            "no group is used both to train and to validate or test",
            selection.names(pc.and_(used, pc.is_in(group, value_set=leaking))),
        ),
    ]


def _differ(expected: Record, found: Record) -> Iterator[str]:
    """Clip ids that one side has oftener than the other."""
    a, b = expected.keys("clip_id"), found.keys("clip_id")
    wrong = differing(a, b)
    only_found = pc.and_(pc.is_in(b, value_set=wrong), pc.invert(pc.is_in(b, value_set=a)))
    return chain(expected.names(pc.is_in(a, value_set=wrong)), found.names(only_found))


def _with_two_sides(groups: pa.ChunkedArray, sides: pa.ChunkedArray) -> pa.Array:
    """Groups that stand beside more than one value of `sides`; null is no group."""
    pairs = pa.table({"group": groups, "side": sides}).group_by(["group", "side"]).aggregate([])
    counted = pairs.group_by("group").aggregate([([], "count_all")])
    several = pc.and_(pc.greater(counted["count_all"], 1), pc.is_valid(counted["group"]))
    return counted.filter(several)["group"]


def _not_a_number(signals: Record) -> Iterator[str]:
    """Clip ids of rows with a NaN; by columns, without a dictionary for each of many rows."""
    for table in signals.partitions():
        floats = [column for column in table.columns if pa.types.is_floating(column.type)]
        found = [pc.fill_null(pc.is_nan(column), False) for column in floats]
        yield from table["clip_id"].filter(reduce(pc.or_, found)).to_pylist()


def _excess_sec(clip: Row) -> float:
    """How far the frames at the frame rate last from the duration."""
    shown_sec = clip["num_frames"] * clip["fps_den"] / max(clip["fps_num"], 1)
    return float(abs(shown_sec - clip["duration_us"] / 1e6))
