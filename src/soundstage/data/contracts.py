"""Great Expectations' one door: judge tables by suites, keep the Data Docs, and name what fails.

Two kinds of promises are judged: rules about rows, partition by partition, and facts about all rows or several records
together. Facts are computed by the caller, once; here they are a table of one row whose columns count offenders, each
expected to be 0. However many partitions a record has, it has one finding a rule and one page in the Data Docs.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from .findings import EXAMPLES, Fact, Finding, Verdict
from .merging import merge_details, plain_details
from .suites import Rule, Suite

# Read at import: without it every run reports to the makers of the library.
os.environ["GX_ANALYTICS_ENABLED"] = "false"

import great_expectations as gx
from great_expectations.core import ExpectationSuiteValidationResult
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.data_context.types.resource_identifiers import (
    ExpectationSuiteIdentifier,
    ValidationResultIdentifier,
)

# No clock in hashed files: each run of the same contract gives the same documents.
_RUN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_STAMP = re.compile(r"\b2\d{7}T\d{6}\.\d+Z\b")
_BEACON = re.compile(r"https://great-expectations-web-assets[^\"']*")


class Contract:
    """Judges tables inside a file context, so that the Data Docs outlive the process."""

    def __init__(self, folder: Path) -> None:
        """`folder` becomes the context's project; what lay there is removed."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._context = gx.get_context(mode="file", project_root_dir=folder)
        self._context.variables.progress_bars = ProgressBarsConfig(globally=False)
        self._source = self._context.data_sources.add_pandas("records")
        self._site = folder / "gx" / "uncommitted" / "data_docs" / "local_site"
        self._findings: list[Finding] = []

    @property
    def holds(self) -> bool:
        """Whether nothing has failed yet."""
        return all(finding.success for finding in self._findings)

    def judge(self, suite: Suite, partitions: Iterable[pd.DataFrame]) -> None:
        """Judge rows given in one or more partitions, of which one at a time is held; what is found is as on all rows.

        The rules must be about rows or about columns: whatever needs all rows at once is a fact.
        """
        for rule, result in self._validate(suite.name, suite.rules, partitions, suite.row_id):
            self._findings.append(_row_finding(suite, rule, result))

    def judge_facts(self, name: str, facts: Sequence[Fact]) -> None:
        """Judge facts as one row of counts."""
        table = pd.DataFrame({fact.name: [fact.count] for fact in facts})
        rules = [
            Rule(
                "ExpectColumnValuesToBeBetween",
                fact.description,
                {"column": fact.name, "min_value": 0, "max_value": 0},
            )
            for fact in facts
        ]
        results = self._validate(name, rules, [table], None)
        for fact, (_, result) in zip(facts, results, strict=True):
            success = result["success"]
            self._findings.append(
                Finding(name, fact.name, fact.description, success, fact.count, fact.examples, [], "")
            )

    def finish(self, docs: Path) -> Verdict:
        """Write the Data Docs to `docs` and return the verdict."""
        self._context.build_data_docs()
        _settle(self._site)
        shutil.copytree(self._site, docs, ignore=shutil.ignore_patterns("fonts"))
        return Verdict(self._findings)

    def _validate(
        self, name: str, rules: Sequence[Rule], partitions: Iterable[pd.DataFrame], row_id: str | None
    ) -> list[tuple[Rule, Mapping[str, Any]]]:
        """Each rule with its result over all partitions; numbered, since GX returns them in an order of its own."""
        expectations = [
            getattr(gx.expectations, rule.expectation)(
                description=rule.description, severity="critical", meta={"rule": number}, **rule.arguments
            )
            for number, rule in enumerate(rules)
        ]
        suite = self._context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
        asset = self._source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        merged: ExpectationSuiteValidationResult | None = None
        for table in partitions:
            result_format: dict[str, Any] = {"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES}
            if row_id in table.columns:
                result_format["unexpected_index_column_names"] = [row_id]
            result = asset.get_batch({"dataframe": table}).validate(suite, result_format=result_format)
            merged = _merge(merged, result)
        if merged is None:
            raise ValueError(f"suite {name} got no partition to judge; an empty record is one partition without rows")
        self._store(name, merged)
        numbered = {item.expectation_config.meta["rule"]: item.to_json_dict() for item in merged.results}
        return [(rule, numbered[number]) for number, rule in enumerate(rules)]

    def _store(self, name: str, result: ExpectationSuiteValidationResult) -> None:
        """Keep a merged result where the Data Docs find it, as GX keeps the results of its own runs."""
        run_id = RunIdentifier(name, _RUN_TIME)
        result.meta |= {"run_id": run_id, "validation_time": run_id.run_time, "batch_parameters": None}
        suite_id = ExpectationSuiteIdentifier(name=name)
        identifier = ValidationResultIdentifier(
            batch_identifier=result.batch_id, expectation_suite_identifier=suite_id, run_id=run_id
        )
        self._context.validation_results_store.store_validation_results(result, identifier, suite_id)


def _merge(
    before: ExpectationSuiteValidationResult | None, after: ExpectationSuiteValidationResult
) -> ExpectationSuiteValidationResult:
    """Add one partition's result to that of the partitions before it."""
    for item in after.results:
        item.result = plain_details(item.result)
    if before is None:
        # A hash of the first partition alone says nothing of the record.
        after.meta["batch_markers"].pop("pandas_data_fingerprint", None)
        return after
    more = {item.expectation_config.meta["rule"]: item for item in after.results}
    for item in before.results:
        other = more[item.expectation_config.meta["rule"]]
        item.success = item.success and other.success
        item.result = merge_details(item.result, other.result)
        if _error(other.exception_info) and not _error(item.exception_info):
            item.exception_info = other.exception_info
    held = sum(bool(item.success) for item in before.results)
    before.success = held == len(before.results)
    before.statistics |= {
        "successful_expectations": held,
        "unsuccessful_expectations": len(before.results) - held,
        "success_percent": held / len(before.results) * 100,
    }
    return before


def _row_finding(suite: Suite, rule: Rule, result: Mapping[str, Any]) -> Finding:
    detail = result["result"]
    rows = detail.get("partial_unexpected_index_list") or []
    found = detail.get("partial_unexpected_list") or ([detail["observed_value"]] if "observed_value" in detail else [])
    return Finding(
        suite=suite.name,
        expectation=rule.expectation,
        description=rule.description,
        success=result["success"],
        offenders=int(detail.get("unexpected_count", 0)),
        examples=[str(row[suite.row_id]) for row in rows],
        found=[] if result["success"] else list(dict.fromkeys(_short(value) for value in found))[:3],
        error=_error(result["exception_info"]),
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _error(info: Mapping[str, Any]) -> str:
    """The message of a failed judgement; GX nests one mapping a metric where several fail, and raises nothing."""
    infos = [info] if "raised_exception" in info else list(info.values())
    messages = {str(item["exception_message"]).strip() for item in infos if item["raised_exception"]}
    return "; ".join(sorted(messages))


def _settle(site: Path) -> None:
    """Make the pages repeatable and silent: no clock, no random ids, no image that tells its makers who reads."""
    names: dict[str, str] = {}
    for page in sorted(site.rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        text = _BEACON.sub("data:,", text)
        text = _STAMP.sub("19700101T000000.000000Z", text)
        text = _UUID.sub(lambda match: names.setdefault(match[0], f"id-{len(names):06d}"), text)
        page.write_text(text, encoding="utf-8")
