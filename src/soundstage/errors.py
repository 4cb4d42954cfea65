"""The errors that a user can cause, each with a documented exit code of the command line.

    SoundstageError           1  any other refusal
    ├── ConfigError           2  configuration or arguments
    ├── DataError             4  media, manifests, shards: the item is named
    │   └── ContractError     5  a data contract failed: suite, expectation and clip ids are named
    ├── GateRefused           3  the promotion gate said no
    ├── TrainingError         6  a training process failed; its last words are quoted
    └── TrainingStopped       7  training was asked to stop, has saved a checkpoint and can go on

A message names the item, what was found, what was expected and what to do.
"""


class SoundstageError(Exception):
    """Base of all errors meant for a user; `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigError(SoundstageError):
    """Configuration or arguments that cannot be used."""

    exit_code = 2


class GateRefused(SoundstageError):  # noqa: N818 - a verdict, and named as one
    """The promotion gate refused a model: the message lists each failed rule and by how much."""

    exit_code = 3


class DataError(SoundstageError):
    """Media, manifests or shards that cannot be used."""

    exit_code = 4


class ContractError(DataError):
    """A data contract failed: the message names suite, expectation and the offending clip ids."""

    exit_code = 5


class TrainingError(SoundstageError):
    """A training process failed."""

    exit_code = 6


class TrainingStopped(SoundstageError):  # noqa: N818 - no failure: running the stage again goes on
    """Training was asked to stop from outside (a drained node, a preemption), and saved a checkpoint first."""

    exit_code = 7
