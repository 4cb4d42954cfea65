"""What the sync signals of a clip amount to: left as placed, corrected, or dropped."""

from __future__ import annotations

import pytest

from soundstage.config.tree import SelectConfig
from soundstage.curation.rules import Sync, judge_sync

from .records import signals_row

IN_SYNC = {"sync_scorer": "s", "sync_score": 4.0, "sync_match": 2.0, "sync_offset_sec": 0.01, "sync_confidence": 0.97}
LATE = IN_SYNC | {"sync_score": -3.0, "sync_offset_sec": 0.4}
PERIODIC = IN_SYNC | {"sync_offset_sec": 0.5, "sync_confidence": 0.25, "synchronisability": 0.2}


@pytest.mark.parametrize(
    ("signals", "limits", "expected"),
    [
        pytest.param(IN_SYNC, {}, Sync(), id="belongs as placed"),
        pytest.param(LATE, {}, Sync(audio_shift_sec=-0.4), id="belongs at one other offset"),
        pytest.param(LATE | {"sync_score": 0.1}, {}, Sync(audio_shift_sec=-0.4), id="fits nearly, better elsewhere"),
        pytest.param(IN_SYNC | {"sync_offset_sec": 0.12}, {}, Sync(), id="within the tolerance"),
        pytest.param(LATE | {"sync_confidence": 0.3}, {}, Sync(reason="unsynced"), id="offset uncertain"),
        pytest.param(LATE | {"sync_match": -1.0}, {}, Sync(reason="unsynced"), id="belongs at none"),
        pytest.param(PERIODIC, {}, Sync(), id="periodic, fits as placed"),
        pytest.param(
            PERIODIC | {"sync_score": -1.0}, {}, Sync(reason="unsynced"), id="periodic, does not fit as placed"
        ),
        pytest.param(
            PERIODIC, {"min_synchronisability": 0.5}, Sync(reason="not_synchronisable"), id="periodic, asked for more"
        ),
        pytest.param(IN_SYNC, {"min_sync_score": 5.0}, Sync(audio_shift_sec=-0.01), id="stricter than its score"),
        pytest.param(
            IN_SYNC | {"av_correlation": None, "av_offset_sec": None}, {}, Sync(), id="the curator has the last word"
        ),
        pytest.param(IN_SYNC | {"av_correlation": -1.0, "av_offset_sec": 1.0}, {}, Sync(), id="over the correlation"),
    ],
)
def test_the_curator_decides_where_it_spoke(signals, limits, expected):
    row = signals_row(1, **({"synchronisability": 0.85} | signals))
    assert judge_sync(row, SelectConfig(**limits)) == expected


def test_without_a_curator_correlation_decides():
    assert judge_sync(signals_row(1, av_correlation=0.1), SelectConfig()) == Sync(reason="unsynced")
    assert judge_sync(signals_row(1, av_correlation=0.9, av_offset_sec=0.0), SelectConfig()) == Sync()
    silent = signals_row(1, av_correlation=None, av_offset_sec=None, av_confidence=None)
    assert judge_sync(silent, SelectConfig()) == Sync(reason="unmeasured")
