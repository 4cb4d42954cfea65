"""The page: complete, harmless, self-contained, the same each time, honest about media that are gone."""

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soundstage.config.tree import SelectConfig
from soundstage.curation.funnel import distributions, make_funnel
from soundstage.curation.funnel_page import funnel_page
from soundstage.media.encode import write_video
from soundstage.stages import Workspace
from tests.unit.curation.makers import RATE, clicks, pulses
from tests.unit.curation.records import clip_id, clip_row, signals_row


def _row(number: int, use: str, reasons: str = "", shift: float = 0.0) -> dict[str, Any]:
    return {"clip_id": clip_id(number), "use": use, "reasons": reasons, "weight": 1.0, "audio_shift_sec": shift}


ROWS = [
    _row(0, "pretrain"),
    _row(1, "finetune", shift=-0.25),
    _row(2, "dropped", "near_duplicate"),
    *(_row(n, "dropped", "cut,unsynced") for n in range(3, 8)),
    _row(8, "dropped", "class_full"),
]
HOSTILE = "<script>alert('x')</script>"
CLIPS = {
    clip_id(n): clip_row(n, label=HOSTILE if n == 3 else "drum", duplicate_of=clip_id(0) if n == 2 else "")
    for n in range(9)
}
SIGNALS = {clip_id(n): signals_row(n, av_correlation=n / 10, cuts=int(3 <= n < 8)) for n in range(9)}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Media of all clips but 8."""
    place = Workspace.open(tmp_path_factory.mktemp("workspace"))
    frames = np.repeat(pulses([0.5], 1.0)[..., None], 3, axis=3)
    for n in range(8):
        write_video(place.resolve(CLIPS[clip_id(n)]["media_uri"]), frames, 24, clicks([0.5], 1.0, seed=n), RATE)
    return place


def _page(workspace: Workspace, examples: int = 2) -> str:
    funnel, spread = make_funnel(ROWS, CLIPS), distributions(ROWS, SIGNALS, SelectConfig())
    spread = {name: spread[name] for name in ("cuts", "av_correlation")}  # drawing all of them takes seconds
    return funnel_page(ROWS, CLIPS, SIGNALS, funnel, spread, workspace, examples)


@pytest.fixture(scope="module")
def page(workspace: Workspace) -> str:
    return _page(workspace)


def test_every_group_is_told_and_shown(page: str) -> None:
    text = " ".join(html.unescape(re.sub(r"<style.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)).split())
    for fact in (
        "2 kept, 7 dropped; 1 of the kept have a corrected sound offset",
        "cut 5 a cut inside the clip",
        "near duplicate (1)",
        "stands for the clip above",
        "cut (5)",
        "class full (1) good enough",
        "media file is gone or does not decode",
        "corrected (1)",
        "sound moved by -0.250 s",
        "kept (1)",
        "cut, unsynced",
    ):
        assert fact in text, fact
    # near-duplicate and what stands for it, two of five cuts, corrected, kept; and the histograms.
    assert page.count("data:image/png;base64,") == 6 + 1
    shown = [n for n in range(3, 8) if f"<code>{clip_id(n)}</code>" in page]
    assert shown == sorted(sorted(range(3, 8), key=clip_id)[:2])


def test_the_page_needs_and_runs_nothing(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"https?:|(src|href)=\"(?!data:)", page)
    assert "default-src 'none'" in page


def test_equal_selections_give_equal_bytes_and_no_machine_path(page: str, workspace: Workspace, tmp_path: Path) -> None:
    assert _page(workspace) == page
    assert str(workspace.root) not in page
    assert str(tmp_path.parent) not in page


def test_without_examples_nothing_is_decoded(workspace: Workspace) -> None:
    page = _page(workspace, examples=0)
    assert page.count("data:image/png;base64,") == 1
    assert "Examples" not in page
