"""What a contract says in the end: facts as they are stated, findings as they came out, and the verdict of a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

EXAMPLES = 10


class Fact:
    """A promise about records together: it holds when there is no offender."""

    def __init__(self, name: str, description: str, offenders: Iterable[str]) -> None:
        """`offenders` are clip ids, or whatever names the offending item; they are counted, not kept."""
        self.name = name
        self.description = description
        self.count = 0
        smallest: set[str] = set()
        for offender in offenders:
            self.count += 1
            smallest.add(offender)
            if len(smallest) > EXAMPLES:
                smallest.remove(max(smallest))
        self.examples = sorted(smallest)
        """the first ten offenders by name, each once"""


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
