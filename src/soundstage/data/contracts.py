"""Great Expectations' one door: judge tables by suites, keep the Data Docs, and name what fails.

Two kinds of promises are judged: rules about rows, and facts about several records together. Facts are computed by the
caller, once; here they are a table of one row whose columns count offenders, each expected to be 0.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from .suites import Rule, Suite

# Read at import: without it every run reports to the makers of the library.
os.environ["GX_ANALYTICS_ENABLED"] = "false"

import great_expectations as gx
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import ProgressBarsConfig

EXAMPLES = 10
# No clock in hashed files: each run of the same contract gives the same documents.
_RUN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_STAMP = re.compile(r"\b2\d{7}T\d{6}\.\d+Z\b")
_BEACON = re.compile(r"https://great-expectations-web-assets[^\"']*")


@dataclass(frozen=True)
class Fact:
    """A promise about records together: it holds when there is no offender."""

    name: str
    description: str
    offenders: Sequence[str]
    """clip ids, or whatever names the offending item"""


@dataclass(frozen=True)
class Finding:
    """How one expectation came out."""

    suite: str
    expectation: str
    description: str
    success: bool
    offenders: int
    """offending rows or items; 0 where the table as a whole is at fault"""
    examples: list[str]
    """the first ten offenders"""
    found: list[str]
    """the first distinct values found in them"""
    error: str
    """why it could not be judged: a missing column, a value of another type"""

    def __str__(self) -> str:
        said = f"suite {self.suite}: {self.expectation}: expected that {self.description}"
        if self.error:
            return f"{said}; it could not be judged: {self.error}"
        values = f", found {', '.join(self.found)}" if self.found else ""
        if not self.examples:
            return f"{said}{values}"
        more = f" and {self.offenders - len(self.examples)} more" if self.offenders > len(self.examples) else ""
        return f"{said}; {self.offenders} offend{values}: {', '.join(self.examples)}{more}"


@dataclass(frozen=True)
class Verdict:
    """All findings of a run, in the order the suites state their rules."""

    findings: list[Finding]

    @property
    def failures(self) -> list[Finding]:
        """Findings that break the contract."""
        return [finding for finding in self.findings if not finding.success]

    def to_json(self) -> dict[str, Any]:
        """{"success", "expectations", "failed", "findings": [...]}."""
        return {
            "success": not self.failures,
            "expectations": len(self.findings),
            "failed": len(self.failures),
            "findings": [asdict(finding) for finding in self.findings],
        }


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

    def judge(self, suite: Suite, table: pd.DataFrame) -> None:
        """Judge the rows of `table`."""
        row_id = suite.row_id if suite.row_id in table.columns else None
        for rule, result in self._validate(suite.name, suite.rules, table, row_id):
            self._findings.append(_row_finding(suite, rule, result))

    def judge_facts(self, name: str, facts: Sequence[Fact]) -> None:
        """Judge facts as one row of counts."""
        table = pd.DataFrame({fact.name: [len(fact.offenders)] for fact in facts})
        rules = [
            Rule(
                "ExpectColumnValuesToBeBetween",
                fact.description,
                {"column": fact.name, "min_value": 0, "max_value": 0},
            )
            for fact in facts
        ]
        results = self._validate(name, rules, table, None)
        for fact, (_, result) in zip(facts, results, strict=True):
            examples = sorted(fact.offenders)[:EXAMPLES]
            self._findings.append(
                Finding(name, fact.name, fact.description, result["success"], len(fact.offenders), examples, [], "")
            )

    def finish(self, docs: Path) -> Verdict:
        """Write the Data Docs to `docs` and return the verdict."""
        self._context.build_data_docs()
        _settle(self._site)
        shutil.copytree(self._site, docs, ignore=shutil.ignore_patterns("fonts"))
        return Verdict(self._findings)

    def _validate(
        self, name: str, rules: Sequence[Rule], table: pd.DataFrame, row_id: str | None
    ) -> list[tuple[Rule, Mapping[str, Any]]]:
        """Each rule with its result; GX returns them in an order of its own, so each carries its number."""
        expectations = [
            getattr(gx.expectations, rule.expectation)(
                description=rule.description, severity="critical", meta={"rule": number}, **rule.arguments
            )
            for number, rule in enumerate(rules)
        ]
        batch = self._source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        suite = self._context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
        definition = self._context.validation_definitions.add(
            gx.ValidationDefinition(name=name, data=batch, suite=suite)
        )
        result_format: dict[str, Any] = {"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES}
        if row_id:
            result_format["unexpected_index_column_names"] = [row_id]
        checkpoint = self._context.checkpoints.add(
            gx.Checkpoint(name=name, validation_definitions=[definition], result_format=result_format)
        )
        result = checkpoint.run(batch_parameters={"dataframe": table}, run_id=RunIdentifier(name, _RUN_TIME))
        (suite_result,) = (item.to_json_dict() for item in result.run_results.values())
        numbered = {item["expectation_config"]["meta"]["rule"]: item for item in suite_result["results"]}
        return [(rule, numbered[number]) for number, rule in enumerate(rules)]


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
