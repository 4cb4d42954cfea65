"""A first look at many votes at once: do two clips agree at the offset, judged by a few ticks spread over it.

One word in common makes a vote for sound, so that a copy cut between two ticks, whose bits differ more, is not lost;
strangers of one kind share one now and then. Looking at a few ticks costs a microsecond, a full comparison 300.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from .fingerprint import Fingerprints, Ragged
from .index import Votes, joined
from .picture import MOTION_HZ, PICTURE_HZ
from .sound import UNHEARD
from .words import smooth_motion

_LOOKS = 24
_FEWEST = 8  # ticks heard on both sides
_LENIENCE = 0.1  # a few ticks know the bit error less well than all of them
_MOTION_LOOKS, _MOTION_LENIENCE = 64, 0.25
_CHUNK = 50_000


def screen_sound(blocks: Iterable[Votes], sound: Ragged, limit: float, min_overlap: float) -> Votes:
    """The best offset of each pair whose sampled bit error is at most `limit` and a lenience of 0.1.

    Offsets that leave less than `min_overlap` of the shorter clip in common (a tenth of it forgiven) are left out.
    Only what passes is kept of a block.
    """
    passed, errors = [], [np.zeros(0)]
    for votes in blocks:
        for at in range(0, len(votes.first), _CHUNK):
            chunk = votes.take(slice(at, at + _CHUNK))
            error = _errors(chunk, sound, min_overlap)
            near = error <= limit + _LENIENCE
            passed.append(chunk.take(near))
            errors.append(error[near])
    return joined(passed).best_of_pairs(np.concatenate(errors))


def screen_picture(votes: Votes, prints: Fingerprints, limit: float, min_overlap: float) -> Votes:
    """The votes (ticks at MOTION_HZ) at whose offset the sampled bit error of pictures is at most `limit` and 0.1."""
    passed = []
    for at in range(0, len(votes.first), _CHUNK):
        chunk = votes.take(slice(at, at + _CHUNK))
        first, second, enough = _sampled(chunk, np.diff(prints.motion.starts), min_overlap)
        words, sure = [], []
        for clip, ticks in ((chunk.first, first), (chunk.second, second)):
            # Sound and pictures of a clip may differ by a tick in length; every clip has a picture.
            last = np.diff(prints.picture.starts)[clip][:, None] - 1
            places = prints.picture.starts[clip][:, None] + np.minimum(ticks * PICTURE_HZ // MOTION_HZ, last)
            words.append(prints.picture.values[places])
            sure.append(prints.picture_sure.values[places])
        both = sure[0] & sure[1]
        wrong = np.bitwise_count((words[0] ^ words[1]) & both).sum(axis=1)
        bits = np.bitwise_count(both).sum(axis=1)
        passed.append(chunk.take(enough & (wrong <= (limit + _LENIENCE) * bits)))
    return joined(passed)


def screen_motion(votes: Votes, prints: Fingerprints, limit: float, min_overlap: float) -> Votes:
    """The votes (ticks at MOTION_HZ) at whose offset sampled motion correlates with `limit` less a lenience of 0.25.

    Without it clips of one look would be compared in full whenever two of their words agree: a number that grows with
    the square of such clips.
    """
    # Smoothed over the borders of clips too: a tick or two of sixty-four.
    hills = smooth_motion(prints.motion.values).astype(np.float32)
    passed = []
    for at in range(0, len(votes.first), _CHUNK):
        chunk = votes.take(slice(at, at + _CHUNK))
        first, second, enough = _sampled(chunk, np.diff(prints.motion.starts), min_overlap, _MOTION_LOOKS)
        a = hills[prints.motion.starts[chunk.first][:, None] + first]
        b = hills[prints.motion.starts[chunk.second][:, None] + second]
        a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
        together, energies = (a * b).sum(axis=1), (a * a).sum(axis=1) * (b * b).sum(axis=1)
        passed.append(
            chunk.take(enough & (together >= (limit - _MOTION_LENIENCE) * np.sqrt(energies)) & (energies > 0))
        )
    return joined(passed)


def _errors(votes: Votes, sound: Ragged, min_overlap: float) -> NDArray[np.float64]:
    """Sampled bit error of each vote; infinite where too little is common."""
    first, second, enough = _sampled(votes, np.diff(sound.starts), min_overlap)
    a = sound.values[sound.starts[votes.first][:, None] + first]
    b = sound.values[sound.starts[votes.second][:, None] + second]
    both = (a != UNHEARD) & (b != UNHEARD)
    count = both.sum(axis=1)
    wrong = np.where(both, np.bitwise_count(a ^ b), 0).sum(axis=1)
    return np.where(enough & (count >= _FEWEST), wrong / (32.0 * np.maximum(count, 1)), np.inf)


def _sampled(
    votes: Votes, lengths: NDArray[np.int64], min_overlap: float, looks: int = _LOOKS
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Ticks of first and second clips (votes, looks) spread over the common span, and whether that is long enough."""
    first, second = lengths[votes.first], lengths[votes.second]
    begin = np.maximum(0, -votes.offset)
    common = np.minimum(second, first - votes.offset) - begin
    ticks = begin[:, None] + common[:, None] * (2 * np.arange(looks) + 1) // (2 * looks)
    return ticks + votes.offset[:, None], ticks, common >= (min_overlap - 0.1) * np.minimum(first, second)
