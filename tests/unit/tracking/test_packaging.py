"""What a registered version promises in its signature is what the animator takes."""

from __future__ import annotations

import inspect

from soundstage.config.tree import EvaluateConfig
from soundstage.models.animate import Animator
from soundstage.tracking.packaging import signature


def test_the_parameters_of_the_signature_are_the_animators_with_the_values_of_the_evaluation() -> None:
    settings = EvaluateConfig(seed=5, num_inference_steps=3, audio_guidance_scale=2.0, text_guidance_scale=1.5)
    stated = {param.name: param.default for param in signature(settings).params.params}
    assert stated == {
        "seed": 5,
        "num_inference_steps": 3,
        "audio_guidance_scale": 2.0,
        "text_guidance_scale": 1.5,
    }
    taken = inspect.signature(Animator.animate).parameters.values()
    assert set(stated) == {each.name for each in taken if each.kind is each.KEYWORD_ONLY}
