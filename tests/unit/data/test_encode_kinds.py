"""Stage `encode` with several audio encoders, windows that are not square, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from soundstage.config.slices import EncodeSlice
from soundstage.data.windows import window_sound
from soundstage.errors import ConfigError, DataError
from soundstage.media.decode import decode_clip
from soundstage.models.audio.load import load_audio_encoders
from soundstage.stages import Execution, StageRecord, Workspace

from .encoding import FRAMES, RATE, config, reader_of, records, run, write_clip, write_frames

SEVERAL = [
    "model.audio.encoders.slow={type: log_mel_onset, hop_length: 800, n_fft: 1024, num_mel_bins: 8}",
    "model.audio.encoders.tower={type: sync_tower}",
]


@pytest.fixture(scope="module")
def heard_through_several(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Workspace, dict[str, StageRecord], Execution, EncodeSlice]:
    """Two clips through a fine and a slow encoder and the tower of the pipeline's own curator."""
    workspace = Workspace.open(tmp_path_factory.mktemp("several") / "workspace")
    chosen = [
        {"clip_id": c, "use": "pretrain", "reasons": "", "weight": 1.0, "audio_shift_sec": s}
        for c, s in (("clip0", 0.0), ("clip1", 0.3))
    ]
    clips = [write_clip(workspace, row["clip_id"], 80) for row in chosen]
    inputs, slice_ = records(workspace, clips, chosen, curator=True), config(*SEVERAL)
    return workspace, inputs, run((workspace, inputs), slice_), slice_


def test_every_encoder_hears_the_same_window(
    heard_through_several: tuple[Workspace, dict[str, StageRecord], Execution, EncodeSlice],
) -> None:
    workspace, _, done, slice_ = heard_through_several
    reader = reader_of(workspace, done, slice_)
    payload, margin = workspace.resolve(done.record.payload), slice_.window.audio_margin_sec
    encoders = load_audio_encoders(slice_.model.audio, payload / "encoders")
    assert set(encoders) == {"mel", "slow", "tower"}
    assert len(reader) == 4
    for position, row in enumerate(reader.rows):
        clip = decode_clip(workspace.resolve(f"media/{row['clip_id']}.mp4"))
        shift = {"clip0": 0.0, "clip1": 0.3}[row["clip_id"]]
        sound = window_sound(clip, row["window_start_us"] * 1e-6, shift, slice_.window, RATE)
        _, audio = reader.read(position)
        assert audio.keys() == encoders.keys()
        for name, encoder in encoders.items():
            wanted = encoder(torch.from_numpy(sound), -margin).features
            # Stored as float16: half a unit in the last of its 11 bits.
            torch.testing.assert_close(audio[name], wanted, rtol=2**-11, atol=1e-4)
    shapes = {name: tuple(features.shape) for name, features in audio.items()}
    # 1.6 s with both ends; the tower has 8 vectors of its own.
    assert shapes["mel"] == (161, 17)
    assert shapes["slow"] == (33, 9)
    assert shapes["tower"][1] == 8


def test_the_index_says_what_was_heard_and_where_it_lies(
    heard_through_several: tuple[Workspace, dict[str, StageRecord], Execution, EncodeSlice],
) -> None:
    workspace, inputs, done, slice_ = heard_through_several
    index = reader_of(workspace, done, slice_).index
    assert [index["grids"][name]["hop_sec"] for name in ("mel", "slow")] == [0.01, 0.05]
    encoders = load_audio_encoders(slice_.model.audio, workspace.resolve(done.record.payload) / "encoders")
    assert index["grids"] == {name: vars(encoder.grid) for name, encoder in encoders.items()}
    assert index["encoders"] == {f"audio.{name}": encoder.fingerprint for name, encoder in encoders.items()}
    # The tower goes along, byte for byte: nothing else gives it a name.
    made = {name: file.sha256 for name, file in inputs["curator"].outputs.items()}
    kept = {name: file.sha256 for name, file in done.record.outputs.items() if name.startswith("encoders/")}
    assert kept == {f"encoders/tower/{name.removeprefix('scorer/')}": digest for name, digest in made.items()}


def test_shards_of_other_encoders_are_refused(
    heard_through_several: tuple[Workspace, dict[str, StageRecord], Execution, EncodeSlice],
) -> None:
    workspace, _, done, _ = heard_through_several
    with pytest.raises(DataError, match="were encoded with another audio than the model uses"):
        reader_of(workspace, done, config(SEVERAL[0]))


def test_a_curator_that_was_not_trained_cannot_be_heard_through(
    tmp_path: Path,
) -> None:
    workspace = Workspace.open(tmp_path / "workspace")
    row = {"clip_id": "a", "use": "pretrain", "reasons": "", "weight": 1.0, "audio_shift_sec": 0.0}
    inputs = records(workspace, [write_clip(workspace, "a", 80)], [row])
    message = r"model\.audio\.encoders\.tower hears .* none was trained: none trained: 3 clips; leave it out"
    with pytest.raises(DataError, match=message):
        run((workspace, inputs), config(*SEVERAL))


@pytest.mark.parametrize(("height", "width"), [(16, 32), (32, 16)])
def test_a_window_that_is_not_square_shows_the_middle_of_the_picture(tmp_path: Path, height: int, width: int) -> None:
    workspace = Workspace.open(tmp_path / "workspace")
    frames = np.zeros((FRAMES, 48, 48, 3), np.uint8)
    frames[:, 12:36, :, 1] = 200  # the middle rows are green, the middle columns blue
    frames[:, :, 12:36, 2] = 200
    row = {"clip_id": "a", "use": "pretrain", "reasons": "", "weight": 1.0, "audio_shift_sec": 0.0}
    slice_ = config(f"window.size={height}", f"window.width={width}", windows_per_clip=1)
    inputs = records(workspace, [write_frames(workspace, "a", frames)], [row])
    reader = reader_of(workspace, run((workspace, inputs), slice_), slice_)
    latents, _ = reader.read(0)
    assert latents.shape == (3, slice_.window.num_frames, height, width)
    # The narrow side shows the middle half of the clip alone, the long side all of it.
    across, along = ("green", "blue") if width > height else ("blue", "green")
    planes = {"green": (latents[1] + 1) * 127.5, "blue": (latents[2] + 1) * 127.5}
    long = planes[along] if width > height else planes[along].mT
    # H.264 halves the resolution of colour: two pixels from an edge are left out.
    inner = planes[across][:, 3:-3, 3:-3]
    assert inner.min() > 150
    assert long[:, 3:-3, 11:-11].min() > 150
    assert long[:, 3:-3, 1:5].max() < 50
    assert long[:, 3:-3, -5:-1].max() < 50


def test_a_window_the_codec_cannot_take_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    vae = tmp_path / "checkpoint" / "vae"
    vae.mkdir(parents=True)
    (vae / "config.json").write_text('{"_class_name": "AutoencoderKLWan", "z_dim": 16}')
    workspace = Workspace.open(tmp_path / "workspace")
    row = {"clip_id": "a", "use": "pretrain", "reasons": "", "weight": 1.0, "audio_shift_sec": 0.0}
    clip = write_clip(workspace, "a", 80)
    workspace.resolve(clip["media_uri"]).unlink()
    slice_ = config(f"model.backbone.pretrained={tmp_path / 'checkpoint'}")
    with pytest.raises(ConfigError, match=r"window\.num_frames=6: .* 4 frames into a latent .* take 5 or 9"):
        run((workspace, records(workspace, [clip], [row])), slice_)
