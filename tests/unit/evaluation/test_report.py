"""The report of a finished run made by hand: complete, self-contained, safe, the same each time, honest about gaps."""

from __future__ import annotations

import base64
import doctest
import hashlib
import html
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pytest

from soundstage.catalog import STAGES
from soundstage.data.records import CLIPS, SELECTION, TRUTH, read_table, write_table
from soundstage.evaluation import report_numbers
from soundstage.evaluation.protocol import ARMS
from soundstage.evaluation.report import plot_files, write_report
from soundstage.evaluation.report_funnel import planted_defects
from soundstage.stages.files import sha256_text

from .finished_run import FinishedRun, evaluation

SECTIONS = ("verdict", "data", "training", "samples", "controls", "lineage")
PLOTS = ("funnel", "losses_by_reason", "loss_backbone", "loss_pretrain", "loss_finetune", "controls", "classes")


@pytest.fixture
def run(tmp_path: Path) -> FinishedRun:
    return FinishedRun(tmp_path / "workspace")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A complete run; tests read it and leave it as it is."""
    run = FinishedRun(tmp_path_factory.mktemp("whole") / "workspace")
    (run.workspace.runs / "20300131-120000-abcdef").mkdir(parents=True)
    (run.workspace.runs / "20300131-120000-abcdef" / "config.yaml").write_text("preset: tiny\ntrial: false\n")
    return run


@pytest.fixture(scope="module")
def page(whole: FinishedRun) -> str:
    return page_of(whole)


def page_of(run: FinishedRun, **changes: object) -> str:
    path = run.workspace.root / "report.html"
    write_report(run.workspace, run.records(), run.summary(**changes), path)
    return path.read_text(encoding="utf-8")


def words(page: str) -> str:
    """What a reader sees, with single spaces."""
    without = re.sub(r"<(style|script)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", without)).split())


def test_every_section_stands_in_order_with_its_facts(page: str) -> None:
    positions = [page.index(f'id="{name}"') for name in SECTIONS]
    assert positions == sorted(positions)
    text = words(page)
    for fact in (
        "soundstage-tiny version 3",
        "preset tiny",
        "Promoted : all 4 rules",
        "aliases: candidate",
        "0.83 0.78 … 0.88 n 64",  # the key number with its interval
        "✓ needed ≥ 0.6",
        "6 sources gave 4 clips; 2 sources were rejected whole",
        "the clip's own sound, late by 2 frames",
        "+0.012 (−0.038 … 0.062, n 64)",
        "The reviewer was simulated: 3 verdicts",
        "Human effort behind this model: 0 verdicts by people",
        "The backbone is a stand-in",
        "The stand-in is preconditioned: it predicts the clean clip as a residual on the first frame",
        "c0ffee" * 6,
        "git commit of the code",
        hashlib.sha256(b"weights").hexdigest(),
    ):
        assert fact in text, fact
    ran = re.findall(r'<th class="nowrap">([\w-]+)</th><td>[^<]*</td><td class="nowrap">(ran|unchanged)<', page)
    assert [stage for stage, how in ran if how == "ran"] == ["evaluate", "register", "promote"]
    assert len(ran) == len(STAGES)


def judge_rows(page: str) -> list[list[str]]:
    """Cells of the table of the judge."""
    _, _, rest = page.partition("<caption>Judge <code>0123456789abcdef</code>")
    rows = re.findall(r"<tr>(.*?)</tr>", rest.partition("</table>")[0], flags=re.DOTALL)
    return [[words(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL)] for row in rows]


def test_the_judges_figures_stand_under_its_name_with_the_true_clips_first(page: str) -> None:
    head, *rows = judge_rows(page)
    assert head[0] == "condition"
    assert [row[0] for row in rows] == ["truth", *(arm.name.replace("_", " ") for arm in ARMS)]
    assert rows[0][1:] == ["2.50", "2.45 … 2.55", "0.38 s", "0.33 … 0.42", "64"]
    assert rows[1][1:3] == ["−1.25", "−1.30 … −1.20"]


def test_a_condition_that_the_judge_could_not_judge_has_no_number(run: FinishedRun) -> None:
    nothing = {"mean": None, "low": None, "high": None, "n": 0}
    run.evaluation["judge"]["conditions"]["silent"] = {"sync_score": nothing, "abs_offset_sec": nothing, "unjudged": 64}
    (silent,) = [row for row in judge_rows(page_of(run)) if row[0] == "silent"]
    assert silent[1:] == ["not measured", "", "not measured", "", "0"]


def test_without_a_judge_the_reason_stands_there(run: FinishedRun) -> None:
    del run.evaluation["judge"]
    run.notes["evaluate"] = {"judge": "none trained: 3 clips of split judge can be trained on"}
    page = page_of(run)
    assert judge_rows(page) == []
    assert "No judge: none trained: 3 clips of split judge can be trained on." in words(page)


def test_file_needs_nothing_else(page: str) -> None:
    without_namespaces = re.sub(r'xmlns(:\w+)?="http://www\.w3\.org/[^"]*"', "", page)
    assert not re.search(r"https?:|(src|href)=\"(?!data:|#)|url\((?!#)|@import", without_namespaces)
    # The page's own policy forbids everything else, and lets its one script run.
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
        in page
    )


def test_videos_are_those_of_the_evaluation_in_the_order_of_the_protocol(page: str, whole: FinishedRun) -> None:
    found = re.findall(r'<video src="data:video/mp4;base64,([^"]+)" data-condition="(\w+)" controls loop', page)
    expected = ["truth", *(arm.name for arm in ARMS)]
    assert [condition for _, condition in found] == expected * 2
    files = {path.read_bytes() for path in whole.payload("evaluate").glob("samples/*/truth.mp4")}
    assert {base64.b64decode(data) for data, name in found if name == "truth"} == files
    text = words(page)
    assert "swapped 0.88" in text
    assert "silent not measured" in text
    assert text.count("has no sound track") == 2  # the arm without audio, of both clips
    assert len(page) < 1_000_000


def test_hostile_text_stays_text(run: FinishedRun) -> None:
    hostile = "<script>alert('x')</script>$\\frac{&"
    run.relabel(hostile, 'quote" onload="x')
    run.evaluation["per_class"] = {hostile: run.evaluation["per_class"]["drum"]}
    run.notes["ingest"] = {"source": hostile}
    page = page_of(run)
    assert page.count("<script") == 1
    assert "alert('x')" not in page.partition("<script>")[2]
    assert 'onload="x' not in page
    for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        ElementTree.fromstring(svg)  # raises where something is not escaped


def test_equal_results_give_equal_bytes(page: str, whole: FinishedRun, tmp_path: Path) -> None:
    assert page_of(whole) == page
    first, again = (plot_files(whole.workspace, whole.records(), tmp_path / name) for name in "ab")
    assert [path.name for path in first] == [f"{name}.png" for name in PLOTS]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_inner_ids_of_figures_do_not_meet(page: str) -> None:
    ids = Counter(re.findall(r'\bid="([^"]+)"', page))
    assert [name for name, n in ids.items() if n > 1] == []


def test_without_a_test_clip_nothing_is_invented(run: FinishedRun) -> None:
    means = dict.fromkeys((arm.name for arm in ARMS), None)
    run.evaluation = evaluation(means, clips=0) | {"paired": {}, "per_class": {}}
    run.notes["evaluate"] = {"evaluation": "no test clip survived selection: nothing was measured"}
    (run.payload("evaluate") / "samples" / "index.json").write_text("[]")
    run.promoted = False
    page = page_of(run)
    text = words(page)
    assert "Refused : 1 of 4 rules" in text
    assert "version 2 stays champion" in text
    assert "No samples: no test clip survived selection" in text
    assert "Not measured: no test clip survived selection" in text
    assert "Stage two minus stage one , paired by clip: not measured" in text
    assert not re.search(r"\b(None|nan|null|undefined)\b", text)
    names = [path.name for path in plot_files(run.workspace, run.records(), run.workspace.root / "plots")]
    assert "controls.png" not in names
    assert "funnel.png" in names


def test_skipped_stage_two_says_why(run: FinishedRun) -> None:
    run.curves["finetune"] = {"train": [], "validation": []}
    run.notes["finetune"] = {"stage_two": "skipped: no clip has a keep verdict"}
    run.evaluation = evaluation({arm.name: None if arm.name == "stage_one" else 0.5 for arm in ARMS}) | {"paired": {}}
    text = words(page_of(run))
    assert "Stage two No curve: skipped: no clip has a keep verdict." in text
    assert "Stage two: skipped" in text.partition("Lineage")[2]


def test_fate_of_planted_defects(run: FinishedRun) -> None:
    rows = {row.defect: row for row in planted_defects(run.workspace, run.records())}
    fates = {name: [outcome for outcome, n in row.outcomes.items() if n] for name, row in rows.items()}
    assert fates == {
        "broken": ["ingest"],
        "duplicate": ["ingest"],  # the copy was kept and its original rejected: one of the two is gone
        "shifted": ["corrected"],
        "still": ["signals"],
        "swapped": ["kept"],  # missed
        "clean": ["kept"],  # lives on through its copy
    }
    assert rows["swapped"].details == [("used for test", 1)]
    assert all(sum(row.outcomes.values()) == row.planted for row in rows.values())
    assert list(rows)[-1] == "clean"


def _rewrite(path: Path, schema: pa.Schema, change: Callable[[int, dict[str, Any]], dict[str, Any]]) -> None:
    rows = sorted(read_table(path, schema), key=lambda row: str(row.get("source_uri", "")))
    write_table(path, schema, [row | change(n, row) for n, row in enumerate(rows)], [schema.names[0]])


@pytest.mark.parametrize("copy_stands", [True, False])
def test_of_a_near_duplicate_pair_either_may_stay(run: FinishedRun, copy_stands: bool) -> None:
    ids = [sha256_text(str(number)) for number in range(4)]
    # File 2 is a near-duplicate of the clean file 3; the one that does not stand for both is dropped.
    dropped, stays = (3, 2) if copy_stands else (2, 3)
    kinds = {2: ("near_duplicate", "videos/3.mp4"), 3: ("none", "")}
    _rewrite(
        run.payload("ingest") / "truth.parquet",
        TRUTH,
        lambda n, row: dict(zip(("defect", "original"), kinds.get(n, (row["defect"], row["original"])), strict=True)),
    )
    _rewrite(
        run.payload("ingest") / "clips.parquet",
        CLIPS,
        lambda n, row: {"duplicate_of": ids[stays] if row["clip_id"] == ids[dropped] else ""},
    )
    uses = {ids[dropped]: ("dropped", "near_duplicate"), ids[stays]: ("test", "")}
    _rewrite(
        run.payload("select") / "selection.parquet",
        SELECTION,
        lambda n, row: dict(
            zip(("use", "reasons"), uses.get(row["clip_id"], (row["use"], row["reasons"])), strict=True)
        ),
    )
    rows = {row.defect: row for row in planted_defects(run.workspace, run.records())}
    assert rows["near_duplicate"].outcomes["signals"] == rows["near_duplicate"].planted == 1
    assert rows["clean"].outcomes["kept"] == rows["clean"].planted == 2


def test_what_a_full_class_has_no_room_for_is_set_aside(run: FinishedRun) -> None:
    _rewrite(
        run.payload("select") / "selection.parquet",
        SELECTION,
        lambda n, row: {"reasons": "class_full"} if row["use"] == "dropped" else {},
    )
    (row,) = [row for row in planted_defects(run.workspace, run.records()) if row.defect == "still"]
    assert (row.outcomes["set_aside"], row.details) == (1, [("class_full", 1)])


def test_a_wrong_correction_is_no_catch(run: FinishedRun) -> None:
    records = run.records()
    tight = records["select"].model_copy(update={"config": {"select": {"offset_tolerance_sec": 0.04}}})
    (row,) = [row for row in planted_defects(run.workspace, records | {"select": tight}) if row.defect == "shifted"]
    assert row.outcomes["kept"] == 1
    assert row.details == [("used for finetune with a wrong offset correction", 1)]


def test_numbers_read_as_their_docstrings_say() -> None:
    result = doctest.testmod(report_numbers)
    assert result.attempted == 3
    assert result.failed == 0


def test_real_sources_have_no_truth_table(run: FinishedRun) -> None:
    (run.payload("ingest") / "truth.parquet").unlink()
    assert "Planted defects" not in page_of(run)
