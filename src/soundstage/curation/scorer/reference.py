"""Where a scorer lies, told without loading it."""

from __future__ import annotations

import json
from pathlib import Path

from ...config.slices import ScorerSlice
from ...errors import DataError
from ...stages.files import sha256_file, sha256_text
from ...stages.record import StageRecord
from ...stages.workspace import Workspace

SCORER_FOLDER, DESCRIPTION_FILE, GROUPS_FILE = "scorer", "scorer.json", "groups.parquet"


def pretrained_digest(config: ScorerSlice, workspace: Workspace) -> str:  # noqa: ARG001
    """Hash of the saved scorer that the configuration names and of its list of groups; empty when one is to be trained.

    Raises:
        DataError: the folder holds no scorer's description.
    """
    if config.scorer.pretrained is None:
        return ""
    folder = Path(config.scorer.pretrained).expanduser()
    describe(folder)
    # All that is taken over: a list of groups that is laid beside an old scorer makes the stage run anew.
    files = [*sorted(path for path in folder.iterdir() if path.is_file()), folder.parent / GROUPS_FILE]
    hashes = {path.name: sha256_file(path) for path in files if path.is_file()}
    return sha256_text(json.dumps(hashes, sort_keys=True))


def describe(folder: Path) -> dict[str, object]:
    """The description of the scorer saved in `folder`.

    Raises:
        DataError: there is none, or it is not readable as one.
    """
    path = folder / DESCRIPTION_FILE
    try:
        about = json.loads(path.read_text())
        return dict(about) | {"fingerprint": about["fingerprint"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no description of a sync scorer ({error!r}); give the folder `scorer` that "
            "`soundstage train scorer` wrote"
        ) from error


def scorer_folder(record: StageRecord, workspace: Workspace) -> Path | None:
    """The folder of the scorer that a `curator` or `judge` stage made; None when it made none."""
    name = f"{SCORER_FOLDER}/{DESCRIPTION_FILE}"
    return workspace.output(record, name).parent if name in record.outputs else None
