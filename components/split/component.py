"""Component `split`: every group of clips goes to one split."""

from kfp import dsl

from components.base import soundstage_component


@soundstage_component
def split(
    config: str,
    code_version: str,
    ingest: dsl.Input[dsl.Artifact],
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Every group of clips goes to one split."""
    from soundstage.front import run_component

    inputs = {"ingest": ingest.path}
    record.metadata.update(run_component("split", config, code_version, inputs, record.path))
