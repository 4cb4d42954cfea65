"""What the processes of a job said last, from their log: torchrun's report of dead ranks, and our own refusals."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass

_OWN = "soundstage: "
# torchrun's report of one rank, as `ChildFailedError` of torch.distributed.elastic formats it.
_DEAD = re.compile(
    r"^\s*rank\s*: (?P<rank>\d+) .*\n\s*exitcode\s*: (?P<code>-?\d+) \(pid: (?P<pid>\d+)\)", re.MULTILINE
)
_ROOT = re.compile(r"^Root Cause", re.MULTILINE)


@dataclass(frozen=True)
class DeadRank:
    """A rank that ended with an error; a negative code is the signal that killed it."""

    rank: int
    pid: int
    code: int

    def __str__(self) -> str:
        if self.code >= 0:
            return f"rank {self.rank} (process {self.pid}) exited with code {self.code}"
        number = -self.code
        known = {item.value: item.name for item in signal.Signals}
        words = f"rank {self.rank} (process {self.pid}) was killed by signal {number} ({known.get(number, 'unknown')})"
        return words + (", as the kernel does when memory runs out" if number == signal.SIGKILL else "")


def dead_ranks(text: str) -> list[DeadRank]:
    """The ranks that torchrun reports, those that died first in front; not those that torchrun itself ended then.

    A rank that a signal killed comes before those that exited: they may only have missed it in a collective.
    """
    root = _ROOT.search(text)
    place = root.start() if root else 0
    found = [(match.start() < place, match) for match in _DEAD.finditer(text)]
    ranks = [(late, DeadRank(*(int(match[name]) for name in ("rank", "pid", "code")))) for late, match in found]
    ranks = [(late, dead) for late, dead in ranks if dead.code != -signal.SIGTERM]
    return [dead for _, dead in sorted(ranks, key=lambda item: (item[1].code >= 0, item[0], item[1].rank))]


def last_words(texts: Iterable[str], lines: int = 15) -> str:
    """The first dead rank, then our own refusals, each once, else the ends of the logs.

    `texts` are the logs of the job's hosts: each has a torchrun of its own.
    """
    texts = list(texts)
    dead = sorted((rank for text in texts for rank in dead_ranks(text)), key=lambda rank: rank.code >= 0)
    own = [line.removeprefix(_OWN) for text in texts for line in text.splitlines() if line.startswith(_OWN)]
    said = list(dict.fromkeys(own)) or [line for text in texts for line in text.splitlines()[-lines:]]
    return "\n".join([*(str(rank) for rank in dead[:1]), *said])
