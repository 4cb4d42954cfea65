"""What planning takes from outside: facts of GPUs, and the shares of them that real work reaches."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from ..config.base import Config
from ..errors import ConfigError

Positive = Annotated[float, Field(gt=0)]
Achieved = Annotated[float, Field(gt=0, le=1)]


class Gpu(Config):
    """A GPU by its datasheet; gigabytes are 1e9 bytes."""

    memory_gb: Positive
    bf16_tflops: Positive = Field(description="dense")
    fp32_tflops: Positive
    memory_gb_per_sec: Positive
    link_gb_per_sec: Positive = Field(description="to its neighbours in the node, one way")
    source: str = Field(description="where these figures are public")


class Calibration(Config):
    """Everything the planner does not count itself."""

    gpus: dict[str, Gpu]
    gpus_per_node: int = Field(ge=1)
    network_gb_per_sec: Positive = Field(description="between nodes, for each GPU, one way")
    achieved_training: Achieved = Field(description="share of the dense FLOP/s that a training step reaches")
    achieved_encoding: Achieved = Field(description="share of the fp32 FLOP/s that a video autoencoder reaches")
    achieved_link: Achieved = Field(description="share of the bandwidth between GPUs")
    overhead_gib: float = Field(ge=0, description="of each GPU: context, communication buffers, workspaces")
    fragmentation: float = Field(ge=0, description="held by the allocator, as a share of what a step makes")
    host_overhead_gib: float = Field(ge=0, description="of a training process on the host, beyond what is counted")
    checkpoint_gb_per_sec: Positive = Field(description="writing to where checkpoints lie")
    window_seconds: float = Field(ge=0, description="decoding, scaling and hearing a window on a worker's cores")
    encode_workers_per_gpu: int = Field(ge=1)
    text_parameters: dict[str, float] = Field(description="of the text encoder, by family")
    codec_parameters: dict[str, float] = Field(description="of the video autoencoder, by family, where none is known")
    audio_parameters: float = Field(ge=0, description="of all audio encoders together")

    def gpu(self, name: str) -> Gpu:
        """The GPU of this name.

        Raises:
            ConfigError: none is; the known ones are named.
        """
        if name not in self.gpus:
            raise ConfigError(
                f"--gpu {name}: not in the calibration, which knows {', '.join(sorted(self.gpus))}; add it to a file "
                "of your own and give that with --calibration"
            )
        return self.gpus[name]


def load_calibration(path: Path | None = None) -> Calibration:
    """The calibration in a YAML or JSON file, by default that of the package.

    Raises:
        ConfigError: it cannot be read, or is not complete.
    """
    try:
        text = path.read_text() if path else resources.files(__package__).joinpath("calibration.yaml").read_text()
    except OSError as error:
        raise ConfigError(f"--calibration {path}: {error.strerror}") from error
    try:
        return Calibration.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as error:
        raise ConfigError(
            f"--calibration {path}: {error}; the package's planning/calibration.yaml shows every key"
        ) from error
