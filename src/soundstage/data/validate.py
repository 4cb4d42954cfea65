"""The gates between stages: each judges one record with what it must agree with, and stops the pipeline if it fails.

Every gate leaves `result.json` and `data_docs/`; those of a failed one are kept in the workspace under
`contracts/<stage>/`, because a failed stage has no payload.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from ..config.slices import ValidateSlice
from ..errors import ContractError
from ..stages.execute import Inputs, Outcome, Work
from ..stages.files import write_json
from . import facts, suites
from .contracts import Contract
from .findings import Fact, Verdict
from .partitions import Record
from .records import CLIPS, REJECTS, REVIEWS, SELECTION, SHARD_SAMPLES, SIGNALS
from .shard_facts import shards_facts
from .suites import Suite

# As floats, which plain pandas makes of whole numbers beside a null, the values found would depend on the partition.
_TYPES = {pa.int64(): pd.Int64Dtype()}


def clips(config: ValidateSlice, inputs: Inputs, work: Work) -> Outcome:
    """Judge the clips after the split, and the rejects of the ingestion they come from.

    Raises:
        ContractError: suite, expectation and clip ids of all that fails.
    """
    limits = config.contracts
    table = _record(config, work, inputs, "clips", "clips.parquet")
    rejects = _record(config, work, inputs, "ingest", "rejects.parquet")
    ingested = _record(config, work, inputs, "ingest", "clips.parquet")
    judged = [(suites.clips_suite(limits), table, CLIPS), (suites.rejects_suite(limits), rejects, REJECTS)]
    counts = inputs["ingest"].counts

    def together() -> list[Fact]:
        return facts.clips_facts(table, ingested, rejects, counts, work.workspace, limits)

    return _gate("validate-clips", work, judged, together)


def signals(config: ValidateSlice, inputs: Inputs, work: Work) -> Outcome:
    """Judge the signals of the clips.

    Raises:
        ContractError: suite, expectation and clip ids of all that fails.
    """
    table = _record(config, work, inputs, "signals", "signals.parquet")
    scored = _record(config, work, inputs, "clips", "clips.parquet")
    judged = [(suites.signals_suite(config.contracts), table, SIGNALS)]
    return _gate("validate-signals", work, judged, lambda: facts.signals_facts(scored, table))


def selection(config: ValidateSlice, inputs: Inputs, work: Work) -> Outcome:
    """Judge the selection and the verdicts it rests on, together with the clips.

    Raises:
        ContractError: suite, expectation and clip ids of all that fails.
    """
    limits = config.contracts
    table = _record(config, work, inputs, "selection", "selection.parquet")
    reviews = _record(config, work, inputs, "review", "reviews.parquet")
    known = _record(config, work, inputs, "clips", "clips.parquet")
    judged = [(suites.selection_suite(limits), table, SELECTION), (suites.reviews_suite(limits), reviews, REVIEWS)]
    return _gate("validate-selection", work, judged, lambda: facts.selection_facts(known, table, reviews))


def shards(config: ValidateSlice, inputs: Inputs, work: Work) -> Outcome:
    """Judge the encoded samples against the selection and the files they lie in.

    Raises:
        ContractError: suite, expectation and clip ids of all that fails.
    """
    table = _record(config, work, inputs, "shards", "samples.parquet")
    chosen = _record(config, work, inputs, "selection", "selection.parquet")
    folder = work.workspace.output(inputs["shards"], "index.json").parent
    judged = [(suites.shards_suite(config.contracts), table, SHARD_SAMPLES)]

    def together() -> list[Fact]:
        return shards_facts(chosen, table, folder, inputs["selection"].content)

    return _gate("validate-shards", work, judged, together)


def _record(config: ValidateSlice, work: Work, inputs: Inputs, name: str, file: str) -> Record:
    """A record as it is: its columns are for the suite to judge."""
    return Record(work.workspace.output(inputs[name], file), config.contracts.partition_rows)


def _gate(
    stage: str, work: Work, records: Sequence[tuple[Suite, Record, pa.Schema]], together: Callable[[], list[Fact]]
) -> Outcome:
    """Judge rows, then each record as a whole, then records together: these facts are computed from sound ones only."""
    contract = Contract(work.scratch / "contract")
    for suite, record, _ in records:
        contract.judge(suite, (table.to_pandas(types_mapper=_TYPES.get) for table in record.partitions()))
    whole = [fact for suite, record, schema in records for fact in facts.whole_facts(suite, record, schema)]
    contract.judge_facts("whole_records", whole)
    if contract.holds:
        contract.judge_facts(f"{records[0][0].name}_together", together())
    verdict = contract.finish(work.out / "data_docs")
    write_json(work.out / "result.json", verdict.to_json())
    kept = work.workspace.root / "contracts" / stage
    if verdict.failures:
        raise ContractError(_message(stage, verdict, _keep(work.out, kept)))
    # The documents of an earlier failure would contradict this verdict.
    shutil.rmtree(kept, ignore_errors=True)
    rows = sum(len(record) for _, record, _ in records)
    return Outcome(counts={"rows": rows, "expectations": len(verdict.findings), "failed": 0})


def _keep(out: Path, kept: Path) -> Path:
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(out, kept)
    return kept


def _message(stage: str, verdict: Verdict, kept: Path) -> str:
    lines = [f"{stage}: {len(verdict.failures)} of {len(verdict.findings)} expectations of the data contract failed:"]
    lines += [f"  {finding}" for finding in verdict.failures]
    lines.append(f"mend the data or the stage that wrote it; Data Docs: {kept / 'data_docs' / 'index.html'}")
    return "\n".join(lines)
