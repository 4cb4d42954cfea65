"""Charts hold the numbers they were given."""

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from soundstage.curation import charts
from soundstage.curation.calibrate import Calibration, choose, precision_curve

ITEM: dict[str, Any] = {
    "edges": [-0.5, 0.5, 1.5, 2.5],
    "kept": [5, 0, 1],
    "dropped": [2, 3, 0],
    "null": 4,
    "field": "max_cuts",
    "threshold": 0.0,
}


def _drawn(changes: dict[str, Any]) -> Any:
    axes = Figure().add_subplot()
    charts._histogram(axes, "cuts", ITEM | changes)
    return axes


def test_bars_are_the_counts_and_the_line_is_the_threshold() -> None:
    axes = _drawn({})
    dropped, kept = axes.containers
    assert [bar.get_height() for bar in dropped] == ITEM["dropped"]
    assert [(bar.get_y(), bar.get_height()) for bar in kept] == [(2, 5), (3, 0), (0, 1)]
    assert [line.get_xdata()[0] for line in axes.lines] == [0.5]  # a highest whole number: between 0 and 1
    assert "null 4" in axes.get_title(loc="left") + axes.get_title()


@pytest.mark.parametrize("threshold", [None, -1.0, 7.0])
def test_a_threshold_outside_the_range_is_not_drawn(threshold: float | None) -> None:
    assert len(_drawn({"threshold": threshold}).lines) == 0


def test_curves_are_the_points(tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    good = rng.random(60) < 0.5
    points = precision_curve(rng.normal(size=60) + good, good)
    curve = Calibration("sync_match", "above", {"used": 60}, points, choose(points, 0.7, "point")).as_dict()
    axes = Figure().add_subplot()
    charts._curve(axes, curve, 0.7, "yield")
    line = next(line for line in axes.lines if str(line.get_label()).startswith("precision"))
    assert np.array_equal(line.get_xdata(), [point.recall for point in points])
    assert np.array_equal(line.get_ydata(), [point.precision for point in points])
    png = charts.calibration_png([curve, curve | {"chosen": None}], 0.7)
    assert png == charts.calibration_png([curve, curve | {"chosen": None}], 0.7)
    assert png.startswith(b"\x89PNG")
