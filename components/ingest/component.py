"""Component `ingest`: raw videos with sound become normalised clips; what cannot is rejected under a reason."""

from kfp import dsl

from components.base import soundstage_component


@soundstage_component
def ingest(
    config: str,
    code_version: str,
    inputs_digest: str,
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Raw videos with sound become normalised clips; what cannot is rejected under a reason."""
    from soundstage.front import run_component

    inputs: dict[str, str] = {}
    record.metadata.update(run_component("ingest", config, code_version, inputs, record.path, inputs_digest))
