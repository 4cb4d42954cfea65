"""The registered model's code: MLflow copies this file into every version and runs it to load one.

It is executed by itself, away from its package, so its imports are absolute; the package travels beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from soundstage.tracking.folders import ADAPTER_FOLDER, referenced_backbone
from soundstage.tracking.request import decode_image, decode_sound, encode_answer


class AnimationModel(PythonModel):
    """Picture + sound + caption -> MP4 with the sound."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the adapter onto its backbone, which is checked against the registered fingerprint."""
        from soundstage.models.animate import Animator

        adapter = Path(context.artifacts[ADAPTER_FOLDER])
        self._animator = Animator.load(referenced_backbone(adapter.parent), adapter)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row of `image` (PNG, JPEG or WebP bytes), `audio` (WAV or other file bytes), `caption`; one video each.

        `params` are those of the signature: seed, num_inference_steps, audio_guidance_scale, text_guidance_scale.

        Raises:
            DataError: a picture or sound that cannot be read.
        """
        del context
        rows = zip(model_input["image"], model_input["audio"], model_input["caption"], strict=True)
        videos = [self._animate(image, audio, caption, params or {}) for image, audio, caption in rows]
        return pd.DataFrame({"video": videos})

    def _animate(self, image: bytes, audio: bytes, caption: str, params: dict[str, Any]) -> bytes:
        waveform, sample_rate = decode_sound(audio)
        frames = self._animator.animate(decode_image(image), waveform, sample_rate, caption, **params)
        return encode_answer(frames, self._animator.fps, waveform, sample_rate)


mlflow.models.set_model(AnimationModel())
