"""The registered scorer's code: MLflow copies this file into every version and runs it to load one.

It is executed by itself, away from its package, so its imports are absolute; the package travels beside it.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

_GREY_SIDE = 96
# ITU-R BT.601 luma: what a decoder puts out as grey.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class ScorerModel(PythonModel):
    """Video with sound -> what the sync scorer says of it."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the scorer, whose weights are checked against its fingerprint."""
        from soundstage.models.sync import load_scorer

        self._scorer, _ = load_scorer(Path(context.artifacts["scorer"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row of `video` (the bytes of a file with picture and sound); one row of estimates each, NaN if none.

        Raises:
            DataError: a file that is no video with sound.
        """
        del context, params
        from soundstage.models.sync import SyncEstimate

        columns = [field.name for field in fields(SyncEstimate)]
        rows = [self._row(video) for video in model_input["video"]]
        return pd.DataFrame(rows, columns=columns, dtype="float64")

    def _row(self, video: bytes) -> dict[str, float]:
        from soundstage.media.normalise import NormaliseSettings, Span, decode_spans
        from soundstage.media.place_audio import decode_audio
        from soundstage.media.probe import Limits, probe

        fps, rate = self._scorer.config.fps, self._scorer.sample_rate
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "video"
            path.write_bytes(video)
            source = probe(path, Limits(min_duration_sec=0.0, max_duration_sec=600.0, max_pixels=3840 * 2160))
            span = Span(0, int(source.duration * 1_000_000))
            frames = next(decode_spans(path, source, [span], NormaliseSettings(_GREY_SIDE, fps, rate)))
            waveform = decode_audio(path, source, rate)
        grey = (frames @ _LUMA + 0.5).astype(np.uint8)
        estimate = self._scorer.estimate(grey, fps, waveform)
        return {} if estimate is None else asdict(estimate)


mlflow.models.set_model(ScorerModel())
