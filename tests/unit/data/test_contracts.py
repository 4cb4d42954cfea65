from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from soundstage.data.contracts import Contract
from soundstage.data.findings import Fact, Verdict
from soundstage.data.suites import Rule, Suite

IN_RANGE = Rule("ExpectColumnValuesToBeBetween", "v is 0 to 9", {"column": "v", "min_value": 0, "max_value": 9})
SUITE = Suite(
    "numbers", "name", [Rule("ExpectColumnValuesToNotBeNull", "name is never null", {"column": "name"}), IN_RANGE]
)


def _table(values: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"name": [f"row {i:03d}" for i in range(len(values))], "v": values})


def test_one_bad_row_among_very_many_fails(tmp_path: Path) -> None:
    contract = Contract(tmp_path / "gx")
    contract.judge(SUITE, [_table([1.0] * 20_000 + [-3.0])])
    (failure,) = contract.finish(tmp_path / "docs").failures
    assert (failure.offenders, failure.examples, failure.found) == (1, ["row 20000"], ["-3.0"])
    assert not contract.holds
    assert str(failure) == (
        "suite numbers: ExpectColumnValuesToBeBetween: expected that v is 0 to 9; 1 offend, found -3.0: row 20000"
    )


def test_only_the_first_ten_offenders_are_named_and_all_are_counted(tmp_path: Path) -> None:
    contract = Contract(tmp_path / "gx")
    contract.judge(SUITE, [_table([5.0, *([99.0] * 25)])])
    contract.judge_facts("together", [Fact("odd", "nothing is odd", [f"item {i:02d}" for i in range(12)])])
    row, fact = contract.finish(tmp_path / "docs").failures
    assert (row.offenders, row.examples[0], len(row.examples)) == (25, "row 001", 10)
    assert str(fact).endswith("item 09 and 2 more")


def test_a_missing_column_is_told_apart(tmp_path: Path) -> None:
    contract = Contract(tmp_path / "gx")
    contract.judge(SUITE, [_table([1.0]).drop(columns="v")])
    (failure,) = contract.finish(tmp_path / "docs").failures
    assert 'could not be judged: Error: The column "v" in BatchData does not exist' in str(failure)


def test_findings_keep_the_order_of_the_rules_and_facts_hold_without_offenders(tmp_path: Path) -> None:
    contract = Contract(tmp_path / "gx")
    contract.judge(SUITE, [_table([1.0, 2.0])])
    contract.judge_facts("together", [Fact("odd", "nothing is odd", [])])
    verdict = contract.finish(tmp_path / "docs")
    assert [finding.description for finding in verdict.findings] == [
        "name is never null",
        "v is 0 to 9",
        "nothing is odd",
    ]
    assert verdict.to_json()["success"]
    assert contract.holds


def _mixed(rows: int = 61) -> pd.DataFrame:
    """Numbers, words and nulls of which many offend, some of them often."""
    draw = np.random.default_rng(3)
    words = [None if n % 11 == 5 or n >= 40 else str(draw.choice(["a", "bb", "C", "Dd", "e"])) for n in range(rows)]
    numbers = pd.array([pd.NA if n % 7 == 3 else int(n) for n in draw.integers(-3, 13, rows)], dtype="Int64")
    values = [float("nan") if n % 13 == 2 else float(v) for n, v in enumerate(draw.uniform(-1, 10, rows).round(1))]
    return pd.DataFrame({"name": [f"row {n:03d}" for n in range(rows)], "v": values, "n": numbers, "word": words})


MIXED = Suite(
    "mixed",
    "name",
    [
        Rule("ExpectTableColumnsToMatchOrderedList", "there is an x", {"column_list": ["name", "v", "n", "word", "x"]}),
        Rule("ExpectColumnValuesToNotBeNull", "n is never null", {"column": "n"}),
        Rule("ExpectColumnValuesToNotBeNull", "name is never null", {"column": "name"}),
        IN_RANGE,
        Rule("ExpectColumnValuesToBeBetween", "n is 0 to 9", {"column": "n", "min_value": 0, "max_value": 9}),
        Rule("ExpectColumnValuesToBeInSet", "word is a or bb", {"column": "word", "value_set": ["a", "bb"]}),
        Rule("ExpectColumnValuesToMatchRegex", "word is lower", {"column": "word", "regex": "^[a-z]+$"}),
        Rule("ExpectColumnValuesToMatchRegex", "x is lower", {"column": "x", "regex": "^[a-z]+$"}),
        Rule("ExpectColumnValuesToBeBetween", "word is 0 to 9", {"column": "word", "min_value": 0, "max_value": 9}),
    ],
)


def _judged(folder: Path, rows: int) -> tuple[Verdict, dict[str, str]]:
    """Verdict and pages of `MIXED` on parts of `rows` rows."""
    table = _mixed()
    contract = Contract(folder / "gx")
    contract.judge(MIXED, (table.iloc[start : start + rows] for start in range(0, len(table), rows)))
    verdict = contract.finish(folder / "docs")
    return verdict, {path.relative_to(folder).as_posix(): path.read_text() for path in folder.glob("docs/**/*.html")}


@pytest.fixture(scope="module")
def judged_whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Verdict, dict[str, str]]:
    return _judged(tmp_path_factory.mktemp("whole"), 1000)


@pytest.mark.parametrize("rows", [20, 60], ids=lambda rows: f"partitions of {rows}")
def test_partitions_give_the_verdict_and_the_pages_that_gx_gives_for_all_rows(
    tmp_path: Path, judged_whole: tuple[Verdict, dict[str, str]], rows: int
) -> None:
    whole, pages = judged_whole
    assert [finding.success for finding in whole.findings] == [False, False, True, *[False] * 6]
    verdict, merged = _judged(tmp_path, rows)
    assert verdict == whole
    assert merged == pages


def test_a_suite_without_any_partition_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="suite numbers got no partition to judge"):
        Contract(tmp_path / "gx").judge(SUITE, [])


@pytest.fixture(scope="module")
def two_sites(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    sites = []
    for name in ("first", "second"):
        folder = tmp_path_factory.mktemp(name)
        contract = Contract(folder / "gx")
        contract.judge(SUITE, [_table([1.0, 77.0])])
        contract.finish(folder / "docs")
        sites.append({p.relative_to(folder).as_posix(): p.read_text() for p in folder.glob("docs/**/*.html")})
    return sites


def test_data_docs_repeat_byte_for_byte(two_sites: list[dict[str, str]]) -> None:
    first, second = two_sites
    assert len(first) >= 3
    assert first == second


def test_data_docs_show_the_promise_and_report_to_nobody(two_sites: list[dict[str, str]]) -> None:
    pages = "\n".join(two_sites[0].values())
    assert "v is 0 to 9" in pages
    assert "77" in pages
    assert "dataContextId" not in pages
