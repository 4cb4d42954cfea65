"""Component `review`: take a snapshot of the ledger of human verdicts."""

from kfp import dsl

from components.base import soundstage_component


@soundstage_component
def review(
    config: str,
    code_version: str,
    inputs_digest: str,
    clips: dsl.Input[dsl.Artifact],
    signals: dsl.Input[dsl.Artifact],
    ingest: dsl.Input[dsl.Artifact],
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Take a snapshot of the ledger of human verdicts."""
    from soundstage.front import run_component

    inputs = {"clips": clips.path, "signals": signals.path, "ingest": ingest.path}
    record.metadata.update(run_component("review", config, code_version, inputs, record.path, inputs_digest))
