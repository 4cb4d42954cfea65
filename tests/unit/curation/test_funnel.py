"""The funnel's numbers: each clip counted once, in all, in its class, and in every histogram."""

from typing import Any

import numpy as np
import pytest

from soundstage.config.tree import SelectConfig
from soundstage.curation.funnel import counts, distributions, make_funnel
from soundstage.curation.rules import threshold_field
from tests.unit.curation.records import clip_id, clip_row, signals_row


def _row(number: int, use: str, reasons: str = "", shift: float = 0.0) -> dict[str, Any]:
    return {"clip_id": clip_id(number), "use": use, "reasons": reasons, "weight": 1.0, "audio_shift_sec": shift}


ROWS = [
    _row(0, "pretrain"),
    _row(1, "dropped", "cut,unsynced"),
    _row(2, "finetune", shift=0.2),
    _row(3, "dropped", "class_full"),
    _row(4, "test"),
]
CLIPS = {clip_id(n): clip_row(n, label=label) for n, label in enumerate(["a", "a", "b", "b", ""])}


def test_every_clip_is_counted_once_in_all_and_in_its_class() -> None:
    funnel = make_funnel(ROWS, CLIPS)
    assert funnel["kept"] == {"pretrain": 1, "finetune": 1, "validation": 0, "test": 1, "open_class_test": 0}
    assert {reason: item["count"] for reason, item in funnel["dropped"].items()} == {"cut": 1, "class_full": 1}
    assert funnel["per_class"] == {
        "(no label)": {"test": 1},
        "a": {"cut": 1, "pretrain": 1},
        "b": {"class_full": 1, "finetune": 1},
    }
    numbers = counts(funnel)
    kept = sum(n for name, n in numbers.items() if name.startswith("kept_"))
    assert numbers["clips"] == 5 == numbers["dropped"] + kept
    assert (numbers["dropped_cut"], numbers["corrected"]) == (1, 1)


def test_histograms_hold_every_clip_and_the_threshold() -> None:
    correlations = [0.9, 0.1, 0.3, None, 0.5]
    signals = {
        clip_id(n): signals_row(n, av_correlation=value, cuts=n % 3, loudness_dbfs=-20.0)
        for n, value in enumerate(correlations)
    }
    spread = distributions(ROWS, signals, SelectConfig(min_sync_correlation=0.4))
    assert all(sum(item["kept"]) + sum(item["dropped"]) + item["null"] == 5 for item in spread.values())
    item = spread["av_correlation"]
    assert (sum(item["kept"]), sum(item["dropped"]), item["null"]) == (3, 1, 1)
    assert (item["field"], item["threshold"]) == ("min_sync_correlation", 0.4)
    # Whole numbers have a bin each: cuts are 0, 1, 2, 0, 1 and clips 1 and 3 are dropped.
    assert spread["cuts"]["edges"] == [-0.5, 0.5, 1.5, 2.5]
    assert (spread["cuts"]["kept"], spread["cuts"]["dropped"]) == ([1, 1, 1], [1, 1, 0])
    assert "sync_score" not in spread  # never measured
    assert sum(spread["loudness_dbfs"]["kept"]) == 3  # all equal: still one bin that holds them


def test_outer_bins_hold_what_lies_beyond() -> None:
    values = np.concatenate([np.linspace(0, 1, 998), [-50.0, 70.0]])
    signals = {str(n): signals_row(n, clip_id=str(n), sync_score=float(v)) for n, v in enumerate(values)}
    rows = [_row(0, "pretrain") | {"clip_id": str(n)} for n in range(1000)]
    item = distributions(rows, signals, SelectConfig())["sync_score"]
    assert -0.1 < item["edges"][0] < item["edges"][-1] < 1.1
    assert sum(item["kept"]) == 1000


@pytest.mark.parametrize(
    ("signal", "field"),
    [
        ("loudness_dbfs", "min_loudness_dbfs"),
        ("speech_share", "max_speech_share"),
        ("av_correlation", "min_sync_correlation"),
        ("audio_text_cosine", "min_audio_text_cosine"),
        ("onsets_per_sec", None),
    ],
)
def test_each_signal_knows_its_threshold(signal: str, field: str | None) -> None:
    assert threshold_field(signal) == field
