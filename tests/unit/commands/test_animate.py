"""`soundstage animate`: one video, a long one, a table of them; what fails is named, what is there stays."""

from __future__ import annotations

import json
import shutil
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from soundstage import cli
from soundstage.media.decode import decode_clip
from soundstage.media.frames import enlarged
from soundstage.models.animate import Animator
from soundstage.models.pipeline import AudioSyncPipeline

from ..models.folders import WINDOW, image, tiny_model

RATE = 16000
APP = cli.build()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pipeline, pictures and sounds."""
    root = tmp_path_factory.mktemp("place")
    made = tiny_model(root / "made")
    AudioSyncPipeline(Animator.load(*made)).save_pretrained(root / "pipeline")
    for index in range(3):
        Image.fromarray(image(index)).save(root / f"{index}.png")
        sound = np.random.default_rng(index).normal(0, 0.1, round(2.5 * RATE))
        _write_wav(root / f"{index}.wav", sound.astype(np.float32))
    (root / "broken.png").write_bytes(b"no picture")
    return root


def _write_wav(path: Path, sound: Any) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((sound * 32767).astype("<i2").tobytes())


def run(place: Path, *arguments: str, model: str = "pipeline") -> Result:
    given = ["--model", str(place / model), "--steps", "2", "--workspace", str(place / "workspace")]
    return CliRunner().invoke(APP, ["animate", *arguments, *given])


def one(place: Path, *arguments: str, model: str = "pipeline") -> Result:
    return run(place, "--image", str(place / "0.png"), "--audio", str(place / "0.wav"), *arguments, model=model)


def batch(place: Path, table: Path, out: Path, *arguments: str) -> Result:
    return run(place, "--batch", str(table), "--out", str(out), *arguments)


def test_one_video_has_the_models_frames_and_the_sound(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    result = one(place, "--prompt", "a click", "--out", str(out), "--seed", "4", "--text-guidance", "2")
    assert result.exit_code == 0, result.output
    assert "6 frames at 6 fps" in result.output
    assert "ends 1.5 s before the sound" in result.output
    clip = decode_clip(out)
    animator = Animator.load(place / "made" / "backbone", place / "made" / "adapter")
    sound = decode_clip_sound(place / "0.wav")
    made = animator.animate(image(), sound, RATE, "a click", seed=4, num_inference_steps=2, text_guidance_scale=2.0)
    # x264 at crf 18 and halved colour: noise of single pixels, enlarged eightfold, comes back within a few levels.
    assert np.abs(clip.frames.astype(float) - enlarged(made)).mean() < 8
    assert clip.frames.shape == (6, 128, 128, 3)
    assert len(clip.waveform) / clip.sample_rate == pytest.approx(1.0, abs=1024 / RATE)
    assert np.corrcoef(clip.waveform[: RATE - 2048], sound[: RATE - 2048])[0, 1] > 0.9


def decode_clip_sound(path: Path) -> Any:
    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


def test_a_saved_pipeline_is_the_model_it_was_saved_from(place: Path, tmp_path: Path) -> None:
    for model in ("pipeline", "made"):
        assert one(place, "--out", str(tmp_path / f"{model}.mp4"), model=model).exit_code == 0
    assert (tmp_path / "pipeline.mp4").read_bytes() == (tmp_path / "made.mp4").read_bytes()


def test_a_long_sound_is_animated_whole_and_its_seams_are_told(place: Path, tmp_path: Path) -> None:
    result = one(place, "--out", str(tmp_path / "a.mp4"), "--long", "--overlap", "2")
    assert result.exit_code == 0, result.output
    clip = decode_clip(tmp_path / "a.mp4")
    assert (len(clip.frames), "15 frames at 6 fps" in result.output) == (15, True)  # 2.5 s
    assert len(clip.waveform) / clip.sample_rate == pytest.approx(2.5, abs=1024 / RATE)
    assert "3 seams" in result.output
    assert "drift from the first frame" in result.output
    assert all(f"frame {frame}: " in result.output for frame in (4, 8, 12))


def test_a_table_is_animated_row_by_row_and_bad_rows_are_named(place: Path, tmp_path: Path) -> None:
    table = place / "table.jsonl"
    rows: list[Any] = [
        {"image": "0.png", "audio": "0.wav", "prompt": "a click"},
        {"image": "absent.png", "audio": "0.wav", "prompt": ""},
        {"image": "1.png", "audio": "1.wav", "seed": 7, "out": "sub/knock.mp4"},
        {"image": "broken.png", "audio": "0.wav"},
        {"image": "1.png", "audio": "1.wav", "seed": -1},
        {"image": "1.png"},
        {"image": "2.png", "audio": "2.wav", "out": "../escape.mp4"},
        {"image": "2.png", "audio": "2.wav", "out": "sub/knock.mp4"},
        {"image": "2.png", "audio": "0.png"},
        {"image": "2.png", "audio": "2.wav", "prompt": "last"},
    ]
    table.write_text("\n".join(json.dumps(row) for row in rows) + "\nnot json\n")
    out = tmp_path / "out"
    result = batch(place, table, out, "--batch-size", "2")
    assert result.exit_code == 4
    assert "11 rows: 3 written, 0 were there already, 8 failed" in result.output
    made = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    videos = ["row-000001.mp4", "row-000010.mp4", "sub/knock.mp4"]
    assert made == sorted(["failed.jsonl", *videos, *(f"{name}.json" for name in videos)])
    reasons = [json.loads(line)["reason"] for line in (out / "failed.jsonl").read_text().splitlines()]
    for line, reason in {
        2: "absent.png cannot be read",
        4: "broken.png: image of 10 bytes",
        5: "`seed` must be a whole number",
        6: "no column `audio`",
        7: "within the folder of results",
        8: "is the result of table.jsonl, line 3 already",
        9: "0.png: audio",
        11: "not valid JSON",
    }.items():
        (found,) = [each for each in reasons if each.startswith(f"table.jsonl, line {line}:")]
        assert reason in found
        assert found in result.output
    # A row is what the command makes of it alone.
    one(place, "--prompt", "a click", "--out", str(tmp_path / "alone.mp4"))
    together = decode_clip(out / "row-000001.mp4").frames.astype(float)
    # In a batch, matrix products round otherwise: a level of 255 at most before the video is coded.
    assert np.abs(together - decode_clip(tmp_path / "alone.mp4").frames).mean() < 1.0


def test_what_is_there_of_the_same_is_not_made_again(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "inputs"
    folder.mkdir()
    for name in ("0.png", "1.png", "0.wav", "1.wav"):
        shutil.copy(place / name, folder / name)
    table, out = folder / "table.csv", tmp_path / "out"
    table.write_text("image,audio,prompt,seed\n0.png,0.wav,a click,1\n1.png,1.wav,a knock,\n")
    counts = "2 rows: {} written, {} were there already, 0 failed".format
    assert counts(2, 0) in batch(place, table, out).output
    first, second = out / "row-000002.mp4", out / "row-000003.mp4"
    times = first.stat().st_mtime_ns, second.stat().st_mtime_ns
    again = batch(place, table, out)
    assert (again.exit_code, counts(0, 2) in again.output) == (0, True)
    assert f"table.csv, line 2: {first} is there already" in again.output
    assert (first.stat().st_mtime_ns, second.stat().st_mtime_ns) == times
    # The same name with another content is another input, and so are other settings.
    shutil.copy(place / "2.png", folder / "1.png")
    assert counts(1, 1) in batch(place, table, out).output
    assert first.stat().st_mtime_ns == times[0]
    assert counts(2, 0) in batch(place, table, out, "--audio-guidance", "3").output
    assert counts(0, 2) in batch(place, table, out, "--audio-guidance", "3").output
    # A video that is damaged, or without its note, is made again.
    first.write_bytes(b"half")
    (out / "row-000003.mp4.json").write_text("{")
    assert counts(2, 0) in batch(place, table, out, "--audio-guidance", "3").output
    assert len(decode_clip(first).frames) == WINDOW.num_frames
    # Another seed of those that name none touches them alone.
    assert counts(1, 1) in batch(place, table, out, "--audio-guidance", "3", "--seed", "9").output


def test_another_model_makes_them_again(place: Path, tmp_path: Path) -> None:
    table = place / "once.csv"
    table.write_text("image,audio\n0.png,0.wav\n")
    other = AudioSyncPipeline(Animator.load(*tiny_model(tmp_path / "made", seed=1)))
    other.save_pretrained(tmp_path / "pipeline")
    (tmp_path / "workspace").mkdir()
    counts = "1 rows: {} written, {} were there already".format
    assert counts(1, 0) in batch(place, table, tmp_path / "out").output
    assert counts(1, 0) in batch(tmp_path, table, tmp_path / "out").output
    assert counts(0, 1) in batch(tmp_path, table, tmp_path / "out").output


def test_tables_in_other_forms_and_long_sounds(place: Path, tmp_path: Path) -> None:
    rows = [{"image": "0.png", "audio": "0.wav", "seed": 3}, {"image": "1.png", "audio": "1.wav", "seed": None}]
    pq.write_table(pa.Table.from_pylist(rows), place / "table.parquet")
    result = batch(place, place / "table.parquet", tmp_path, "--long")
    assert result.exit_code == 0, result.output
    note = json.loads((tmp_path / "row-000001.mp4.json").read_text())
    assert (note["inputs"]["seed"], note["settings"]["long"]) == (3, True)
    assert len(note["seams"]["seams"]) == 3  # 15 frames by windows of 6 that share 2
    assert note["seams"]["seam_ratio"] == max(seam["ratio"] for seam in note["seams"]["seams"])
    assert len(decode_clip(tmp_path / "row-000002.mp4").frames) == 15


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give --image and --audio, or a table of them with --batch"),
        (["--batch", "t.csv", "--image", "a.png"], 2, "--batch takes images"),
        (["--image", "a.png", "--audio", "a.wav", "--overlap", "2"], 2, "--overlap is about the windows of --long"),
        (["--image", "a.png", "--audio", "a.wav"], 4, "--image a.png cannot be read"),
        (["--batch", "absent.csv"], 4, "--batch absent.csv cannot be read"),
    ],
)
def test_options_that_do_not_belong_together(place: Path, arguments: list[str], code: int, message: str) -> None:
    result = run(place, *arguments)
    assert (result.exit_code, message in result.output) == (code, True), result.output


def test_tables_that_are_none_are_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "table.txt").write_text("image,audio\n")
    (tmp_path / "table.csv").write_text("picture,audio\n0.png,0.wav\n")
    for name, message in (("table.txt", "must end in .csv, .parquet, .jsonl"), ("table.csv", "no column `image`")):
        result = batch(place, tmp_path / name, tmp_path / "out")
        assert (result.exit_code, message in result.output) == (4, True), result.output
    assert not (tmp_path / "out").exists()


def test_an_overlap_that_no_window_can_have(place: Path, tmp_path: Path) -> None:
    result = one(place, "--long", "--overlap", "6", "--out", str(tmp_path / "a.mp4"))
    assert (result.exit_code, "take 4 or 5" in result.output) == (2, True), result.output
