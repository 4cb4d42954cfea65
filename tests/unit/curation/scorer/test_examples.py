"""What a scorer learns from: roles that share nothing, clips as their records say, delays that are true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from soundstage.config.tree import ScorerConfig
from soundstage.curation.scorer import examples
from soundstage.curation.scorer.examples import assign_roles, draw_batch, load_examples
from soundstage.errors import DataError
from soundstage.media.encode import write_video
from soundstage.models.sync import SyncScorer
from soundstage.models.sync.scorer import hop_sec
from soundstage.stages import Workspace
from soundstage.stages.files import sha256_text

from ..makers import FPS, RATE, clicks, irregular, pulses
from ..records import clip_id, clip_row
from .examples_made import config, flash_and_click, mels_of

LABELS = ("drum", "bell", "bird")


def pool(count: int = 120) -> list[dict[str, Any]]:
    """Three clips a group, three classes."""
    return [clip_row(n, label=LABELS[n // 3 % 3], group=sha256_text(f"group {n // 3}")) for n in range(count)]


def ids(rows: list[Any]) -> set[str]:
    return {row["clip_id"] for row in rows}


def test_roles_share_no_group_and_lose_no_clip() -> None:
    rows = pool()
    roles = assign_roles(rows, "pretrain", config(held_out_share=0.3, held_out_classes=("bird",)))
    parts = [roles.train, roles.held_out, roles.held_out_classes]
    assert sum(map(len, parts)) == len(rows)
    assert set().union(*map(ids, parts)) == ids(rows)
    train, held_out = ({row["group"] for row in part} for part in parts[:2])
    assert not train & held_out
    # 27 groups of the two classes; a share of 0.3 gives 8 +- 2.4.
    assert 3 <= len(held_out) <= 14
    assert {row["label"] for row in roles.train + roles.held_out} == {"drum", "bell"}
    assert {row["label"] for row in roles.held_out_classes} == {"bird"}


def test_a_group_with_a_held_out_class_is_not_trained_on_through_its_other_clips() -> None:
    rows = pool(30)
    rows.append(clip_row(99, label="bird", group=rows[0]["group"]))
    roles = assign_roles(rows, "pretrain", config(held_out_share=0.0, held_out_classes=("bird",)))
    measured = {row["group"] for row in roles.held_out_classes}
    assert not measured & {row["group"] for row in roles.train}


@pytest.mark.parametrize(
    "changes",
    [{"split": "judge"}, {"split": "test"}, {"duplicate_of": clip_id(1)}, {"duration_us": 2_299_999}],
    ids=["other split", "test", "near-duplicate", "too short to shift"],
)
def test_clips_that_do_not_serve_are_left_out(changes: dict[str, Any]) -> None:
    rows = pool(12)
    left_out = rows[0] | changes
    roles = assign_roles([left_out, *rows[1:]], "pretrain", config(crop_sec=2.0))
    assert ids(roles.train + roles.held_out) == ids(rows[1:])


def test_roles_depend_on_the_seed_and_the_clips_and_on_no_order() -> None:
    rows, seeded = pool(), config(held_out_share=0.4, max_clips=20)
    first = assign_roles(rows, "pretrain", seeded)
    assert assign_roles(rows[::-1], "pretrain", seeded) == first
    assert assign_roles(rows, "pretrain", config(held_out_share=0.4, max_clips=20, seed=5)) != first
    assert len(first.train) == len(first.held_out) == 20


def test_further_clips_do_not_move_a_group() -> None:
    few, many = (assign_roles(pool(n), "pretrain", config(held_out_share=0.4)) for n in (60, 120))
    assert ids(few.held_out) <= ids(many.held_out)
    assert ids(few.train) <= ids(many.train)


@pytest.mark.parametrize(("share", "held_out"), [(0.0, 0), (1.0, 120)])
def test_the_whole_range_of_shares_holds(share: float, held_out: int) -> None:
    assert len(assign_roles(pool(), "pretrain", config(held_out_share=share)).held_out) == held_out


@pytest.mark.parametrize("crop_sec", [2.0, 1.0])
def test_the_stated_delay_is_the_one_between_picture_and_sound(crop_sec: float, monkeypatch: Any) -> None:
    """A flash and a click at one time: their places in the windows differ by what the batch says."""
    # Light and noise are changed elsewhere; here the flash must be found again.
    monkeypatch.setattr(examples, "_relit", lambda frames, _rng: torch.from_numpy(frames.copy()).float())
    fps, batch = 24, 64
    settings = config(fps=fps, crop_sec=crop_sec, batch=batch, max_offset_sec=0.9)
    example = flash_and_click(2.0)
    scorer = SyncScorer(settings, example.sample_rate)
    drawn = draw_batch([example], mels_of(scorer, [example]), settings, np.random.default_rng(0))
    assert drawn.frames.shape == (batch, round(crop_sec * fps), 16, 16)
    checked = []
    for frames, mel, late in zip(drawn.frames, drawn.mel, drawn.late_sec.tolist(), strict=True):
        flash, energy = frames.amax((1, 2)), mel.mean(0)
        if flash.max() < 255 or energy.max() < energy.median() + 1:
            continue  # one of them lies outside of its window
        seen, heard = int(flash.argmax()) / fps, int(energy.argmax()) * hop_sec(example.sample_rate)
        # A mel window of 64 ms at this rate; its peak is at most a hop or two away.
        assert heard - seen == pytest.approx(late, abs=0.021)
        checked.append(late)
    assert len(checked) > 15
    assert min(checked) < -0.1
    assert max(checked) > 0.1


@pytest.mark.parametrize("changes", [{}, {"fps": 6, "crop_sec": 1.0}, {"max_offset_sec": 0.4}], ids=str)
def test_delays_stay_within_what_a_window_can_measure(changes: dict[str, Any]) -> None:
    settings = config(batch=100, **changes)
    example = flash_and_click(2.0)
    scorer = SyncScorer(settings, example.sample_rate)
    drawn = draw_batch([example], mels_of(scorer, [example]), settings, np.random.default_rng(1))
    correlations = scorer.correlations(drawn.frames[:1], drawn.mel[:1])[0, 0]
    measured = torch.nonzero(correlations > -1).flatten() - scorer.reach
    lags = drawn.late_sec * settings.fps
    assert float(lags.min()) >= int(measured.min())
    assert float(lags.max()) <= int(measured.max())
    assert float(lags.max() - lags.min()) > 0.5 * int(measured.max() - measured.min())


def test_batches_repeat_with_their_generator_and_change_tone_and_light() -> None:
    settings = config(batch=4)
    example = flash_and_click(2.0)
    mels = mels_of(SyncScorer(settings, example.sample_rate), [example])
    first, again, other = (draw_batch([example], mels, settings, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in ("frames", "mel", "late_sec"))
    assert not torch.equal(first.frames, other.frames)
    assert len({float(frames.mean()) for frames in first.frames}) == 4


def test_a_batch_holds_no_clip_twice_while_there_are_enough() -> None:
    made = [flash_and_click(0.5 + 0.25 * n) for n in range(6)]
    settings = config(batch=6)
    drawn = draw_batch(made, [torch.full((24, 400), float(n)) for n in range(6)], settings, np.random.default_rng(2))
    assert sorted(round(float(mel.mean())) for mel in drawn.mel) == [0, 1, 2, 3, 4, 5]


SECONDS = 2.5


def written(workspace: Workspace, **changes: Any) -> dict[str, Any]:
    """A real clip whose sound ends early, with its record."""
    row = clip_row(0, num_frames=round(SECONDS * FPS), duration_us=round(SECONDS * 1e6))
    colour = np.repeat(pulses(irregular(SECONDS), SECONDS)[..., None], 3, axis=3)
    write_video(workspace.resolve(row["media_uri"]), colour, FPS, clicks([0.5], 1.0), RATE)
    return row | changes


def test_examples_are_small_squares_with_sound_as_long_as_the_pictures(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    row = written(workspace)
    (example,) = load_examples([row], workspace, ScorerConfig(frame_size=16))
    assert (example.clip_id, example.label, example.group) == (row["clip_id"], row["label"], row["group"])
    assert example.frames.shape == (60, 16, 16)
    assert (example.fps, example.sample_rate) == (FPS, RATE)
    assert example.waveform.shape == (round(SECONDS * RATE),)
    assert not example.waveform[-RATE:].any()


def remove(workspace: Workspace, row: dict[str, Any]) -> None:
    workspace.resolve(row["media_uri"]).unlink()


@pytest.mark.parametrize(
    ("changes", "damage", "message"),
    [
        ({"num_frames": 96}, None, r"holds 60 frames and sound at 16000 Hz, its record says 96 and 16000 Hz"),
        ({"sample_rate": 8000}, None, r"its record says 60 and 8000 Hz"),
        ({}, remove, r"cannot be learned from"),
    ],
    ids=["frames", "rate", "gone"],
)
def test_a_clip_that_is_not_what_its_record_says_is_named(
    changes: dict[str, Any], damage: Callable[..., None] | None, message: str, tmp_path: Path
) -> None:
    workspace = Workspace.open(tmp_path)
    row = written(workspace, **changes)
    if damage is not None:
        damage(workspace, row)
    with pytest.raises(DataError, match=message) as caught:
        list(load_examples([row], workspace, ScorerConfig(frame_size=16)))
    assert row["clip_id"] in str(caught.value)
