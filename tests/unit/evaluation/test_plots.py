"""The figures: what they show is what was measured."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from soundstage.curation.signals.sound import onset_envelope
from soundstage.evaluation import plots
from soundstage.evaluation.metrics.motion import motion_correlation
from soundstage.evaluation.report_figure import to_png, to_svg
from soundstage.evaluation.report_funnel import Funnel, Loss
from soundstage.evaluation.report_samples import measure_overlay, packed_picture
from soundstage.media.encode import write_video

from .finished_run import entry


def test_funnel_bars_have_the_lengths_of_the_counts() -> None:
    losses = [Loss("ingest", "damaged", "", 18), Loss("select", "still", "", 34)]
    funnel = Funnel(528, 18, 510, losses, {"pretrain": 280, "finetune": 83, "validation": 27, "test": 86}, 4)
    figure = plots.funnel_figure(funnel)
    widths: dict[float, list[float]] = {}
    for bar in figure.axes[0].patches:
        widths.setdefault(round(bar.get_y() + bar.get_height() / 2), []).append(bar.get_width())  # type: ignore[attr-defined]
    assert widths == {0: [510, 18], 1: [476, 34], 2: [280, 86, 83, 27]}
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "pretrain 280" in texts
    assert "rejected 18" in texts


@pytest.mark.parametrize(("steps", "width"), [(1, 1), (6, 1), (40, 3), (100, 5), (300, 15), (701, 35)])
def test_running_mean_is_odd_and_a_twentieth(steps: int, width: int) -> None:
    assert plots.running_width(steps) == width


def test_loss_curve_is_the_mean_of_its_neighbours() -> None:
    values = np.random.default_rng(1).uniform(1, 2, 100)
    figure = plots.loss_figure({"train": [[s + 1, v] for s, v in enumerate(values)], "validation": [[100, 1.2]]})
    raw, smooth, held_out = (np.asarray(line.get_ydata()) for line in figure.axes[0].lines)
    np.testing.assert_allclose(raw, values)
    np.testing.assert_allclose(smooth[50], values[48:53].mean())
    assert held_out.tolist() == [1.2]
    assert figure.axes[0].get_yscale() == "linear"
    falling = plots.loss_figure({"train": [[1, 1.0], [2, 0.1]], "validation": []})
    assert falling.axes[0].get_yscale() == "log"


def test_controls_show_means_intervals_and_the_gate() -> None:
    figure = plots.controls_figure(
        {"true": entry(0.8), "late": entry(-0.9), "silent": entry(None)}, {"true": ("≥", 0.6)}
    )
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["0.80", "≥ 0.60", "−0.90", "not measured"]
    low, high = axes.get_xlim()
    assert low <= -0.95
    assert high >= 1
    drawn = [np.asarray(line.get_xdata()).tolist() for line in axes.lines]
    assert [0.75, pytest.approx(0.85)] in drawn


def test_svg_follows_the_theme_and_png_is_on_white() -> None:
    figure = plots.classes_figure({"a & <b>": entry(0.5)})
    svg = to_svg(figure, "classes", 'means of "classes" <n>')
    colours = re.findall(r"(?<!, )#[0-9a-f]{6}", re.sub(r"var\([^)]*\)", "", svg))
    assert colours == []
    assert "var(--blue, #1f6fd0)" in svg
    assert 'aria-label="means of &quot;classes&quot; &lt;n>"' in svg
    assert "a &amp; &lt;b&gt;" in svg
    assert not re.search(r'<svg[^>]* (width|height)="', svg)
    picture = Image.open(io.BytesIO(to_png(figure))).convert("RGB")
    assert picture.getpixel((0, 0)) == (255, 255, 255)


def test_overlay_measures_the_files_it_is_given(tmp_path: Path) -> None:
    """A square jumps at 0.5 s; the sound starts there; the generated file jumps half a second later."""
    rate, fps = 16000, 12
    truth = np.zeros((24, 32, 32, 3), np.uint8)
    late = truth.copy()
    truth[6:, 8:24, 8:24] = 200
    late[12:, 8:24, 8:24] = 200
    sound = np.zeros(2 * rate, np.float32)
    sound[rate // 2 : rate // 2 + 2000] = np.random.default_rng(0).uniform(-0.5, 0.5, 2000)
    for name, frames in (("truth", truth), ("made", late)):
        write_video(tmp_path / f"{name}.mp4", frames, fps, sound, rate)
    overlay = measure_overlay(tmp_path / "truth.mp4", tmp_path / "made.mp4")
    frame_sec = 1 / fps
    assert abs(overlay.motion_sec[overlay.truth.argmax()] - 0.5) <= frame_sec
    assert abs(overlay.motion_sec[overlay.generated.argmax()] - 1.0) <= frame_sec
    assert abs(overlay.onset_sec[overlay.onset.argmax()] - 0.5) <= 0.05
    assert overlay.onset.max() == 1.0
    assert overlay.duration_sec == pytest.approx(2.0)
    # Compression moves the score little: the figure tells the same story as the metric.
    np.testing.assert_allclose(overlay.truth.max(), 200 / 255 / 4, rtol=0.05)
    assert motion_correlation(truth, truth) == pytest.approx(1.0)
    assert len(onset_envelope(sound, rate).values) >= len(overlay.onset)
    assert plots.overlay_figure(overlay).axes[0].get_xlim() == (0, 2.0)


def test_packed_strip_is_the_same_picture_when_enlarged(tmp_path: Path) -> None:
    small = np.random.default_rng(3).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    large = small.repeat(4, axis=0).repeat(4, axis=1)
    Image.fromarray(large).save(tmp_path / "strip.png")
    uri, width = packed_picture(tmp_path / "strip.png")
    assert width == 36
    packed = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    np.testing.assert_array_equal(packed, small)
