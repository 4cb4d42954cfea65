import math
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from soundstage.curation.signals import speech_share
from soundstage.curation.signals.speech import SPEECH_RATE, speech_probabilities
from soundstage.media.sound import resample
from tests.unit.curation.makers import clicks, irregular

SHARED = Path(__file__).parents[5] / "shared" / "data" / "clips"
TIME = np.arange(3 * SPEECH_RATE) / SPEECH_RATE
RNG = np.random.default_rng(0)


def _gliding_vowel(seconds: float) -> np.ndarray:
    """Harmonics of a gliding voice under two formants, in syllables: near enough to speech for the network to doubt."""
    time = np.arange(round(seconds * SPEECH_RATE)) / SPEECH_RATE
    phase = 2 * np.pi * np.cumsum(130 + 25 * np.sin(2 * np.pi * 1.5 * time)) / SPEECH_RATE
    weights = [
        math.exp(-(((130 * k - 700) / 300) ** 2)) + 0.6 * math.exp(-(((130 * k - 1900) / 400) ** 2))
        for k in range(1, 30)
    ]
    voice = sum(weight * np.sin(k * phase) for k, weight in enumerate(weights, start=1))
    return np.asarray(0.1 * voice * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * time)), dtype=np.float32)


@pytest.mark.parametrize(
    "samples", [1, 300, 512, 513, 40_000], ids=["one sample", "under a window", "one window", "just over", "many"]
)
def test_probabilities_are_those_of_the_packages_network(samples: int) -> None:
    package = find_spec("silero_vad")
    assert package is not None
    with pytest.warns(FutureWarning, match="torch.jit.load"):
        reference = torch.jit.load(str(Path(package.origin or "").parent / "data" / "silero_vad.jit"))
    sound = _gliding_vowel(3.0)[:samples]
    padded = np.pad(sound, (0, -samples % 512))
    expected = reference.audio_forward(torch.from_numpy(padded)[None], SPEECH_RATE)[0].numpy()
    found = speech_probabilities(sound)
    assert found.shape == expected.shape
    # Single precision, summed in another order, through a recurrence.
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(0),
        np.zeros(3 * SPEECH_RATE),
        RNG.normal(scale=0.1, size=3 * SPEECH_RATE),
        0.3 * np.sin(2 * np.pi * 440 * TIME),
        0.3 * np.sign(np.sin(2 * np.pi * 90 * TIME)),
        clicks(irregular(3.0), 3.0),
    ],
    ids=["nothing", "silence", "noise", "tone", "buzz", "clicks"],
)
def test_what_is_no_speech(sound: np.ndarray) -> None:
    assert speech_share(sound.astype(np.float32), SPEECH_RATE) == 0.0


def test_another_rate_is_resampled() -> None:
    sound = _gliding_vowel(2.0)
    at_44100 = resample(sound, SPEECH_RATE, 44100)
    assert speech_share(at_44100, 44100) == pytest.approx(speech_share(sound, SPEECH_RATE), abs=0.05)


def _sound_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=SPEECH_RATE)
        parts = [part.to_ndarray()[0] for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate(parts)


def test_real_voices_and_real_dogs_and_drums() -> None:
    if not (SHARED / "manifest.csv").exists():
        pytest.skip("described real clips are not in ../shared/data/clips")
    spoken, other = ("talking_head.mp4", "nasa_narrated.mp4"), ("dog_puppy_bark.mp4", "drum_kit_topdown.mp4")
    shares = {name: speech_share(_sound_of(SHARED / name), SPEECH_RATE) for name in (*spoken, *other)}
    assert min(shares[name] for name in spoken) > 0.7
    assert max(shares[name] for name in other) < 0.05
