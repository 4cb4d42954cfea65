"""The gates between stages: each judges one record with what it must agree with, and stops the pipeline if it fails.

Every gate leaves `result.json` and `data_docs/`; those of a failed one are kept in the workspace under
`contracts/<stage>/`, because a failed stage has no payload.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..config.slices import ValidateSlice
from ..errors import ContractError, DataError
from ..stages.execute import Inputs, Outcome, Work
from ..stages.files import write_json
from . import facts, suites
from .contracts import Contract, Fact, Verdict
from .records import CLIPS, REJECTS, REVIEWS, SELECTION, SHARD_SAMPLES, SIGNALS
from .suites import Suite


def clips(config: ValidateSlice, inputs: Inputs, work: Work) -> Outcome:
    """Judge the clips after the split, and the rejects of the ingestion they come from.

    Raises:
        ContractError: suite, expectation and clip ids of all that fails.
    """
    table = _read(work, inputs, "clips", "clips.parquet")
    rejects = _read(work, inputs, "ingest", "rejects.parquet")
    ingested = _read(work, inputs, "ingest", "clips.parquet")

    def together() -> list[Fact]:
        return facts.clips_facts(
            table.to_pylist(),
            ingested.to_pylist(),
            rejects.to_pylist(),
            inputs["ingest"].counts,
            work.workspace,
            config.contracts,
        )

    records = [(suites.clips_suite(), table, CLIPS), (suites.rejects_suite(), rejects, REJECTS)]
    return _gate("validate-clips", work, records, together)


def signals(config: ValidateSlice, inputs: Inputs, work: Work) -> Outcome:  # noqa: ARG001
    """Judge the signals of the clips.

    Raises:
        ContractError: suite, expectation and clip ids of all that fails.
    """
    table = _read(work, inputs, "signals", "signals.parquet")
    scored = _read(work, inputs, "clips", "clips.parquet")
    records = [(suites.signals_suite(), table, SIGNALS)]
    return _gate("validate-signals", work, records, lambda: facts.signals_facts(scored.to_pylist(), table.to_pylist()))


def selection(config: ValidateSlice, inputs: Inputs, work: Work) -> Outcome:
    """Judge the selection and the verdicts it rests on, together with the clips.

    Raises:
        ContractError: suite, expectation and clip ids of all that fails.
    """
    table = _read(work, inputs, "selection", "selection.parquet")
    reviews = _read(work, inputs, "review", "reviews.parquet")
    known = _read(work, inputs, "clips", "clips.parquet")

    def together() -> list[Fact]:
        return facts.selection_facts(known.to_pylist(), table.to_pylist(), reviews.to_pylist())

    records = [(suites.selection_suite(config.contracts), table, SELECTION), (suites.reviews_suite(), reviews, REVIEWS)]
    return _gate("validate-selection", work, records, together)


def shards(config: ValidateSlice, inputs: Inputs, work: Work) -> Outcome:  # noqa: ARG001
    """Judge the encoded samples against the selection and the files they lie in.

    Raises:
        ContractError: suite, expectation and clip ids of all that fails.
    """
    table = _read(work, inputs, "shards", "samples.parquet")
    chosen = _read(work, inputs, "selection", "selection.parquet")
    folder = work.workspace.output(inputs["shards"], "index.json").parent
    records = [(suites.shards_suite(), table, SHARD_SAMPLES)]
    return _gate(
        "validate-shards", work, records, lambda: facts.shards_facts(chosen.to_pylist(), table.to_pylist(), folder)
    )


def _read(work: Work, inputs: Inputs, name: str, file: str) -> pa.Table:
    """A record as it is: its columns are for the suite to judge."""
    path = work.workspace.output(inputs[name], file)
    try:
        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path} cannot be read as Parquet: {error}; rerun `soundstage {inputs[name].stage}`"
        ) from error


def _gate(
    stage: str, work: Work, records: Sequence[tuple[Suite, pa.Table, pa.Schema]], together: Callable[[], list[Fact]]
) -> Outcome:
    """Judge rows, then types, then the facts: these are computed from sound rows only."""
    contract = Contract(work.scratch / "contract")
    for suite, table, _ in records:
        contract.judge(suite, table.to_pandas())
    contract.judge_facts("types", [facts.types_fact(suite.name, table, schema) for suite, table, schema in records])
    if contract.holds:
        contract.judge_facts(f"{records[0][0].name}_together", together())
    verdict = contract.finish(work.out / "data_docs")
    write_json(work.out / "result.json", verdict.to_json())
    kept = work.workspace.root / "contracts" / stage
    if verdict.failures:
        raise ContractError(_message(stage, verdict, _keep(work.out, kept)))
    # The documents of an earlier failure would contradict this verdict.
    shutil.rmtree(kept, ignore_errors=True)
    rows = sum(table.num_rows for _, table, _ in records)
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
