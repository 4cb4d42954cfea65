"""How noise is added and what the network answers: one class a kind of prediction, each on its scheduler's terms."""

from __future__ import annotations

from typing import Any, Protocol

import torch

NUM_TRAIN_TIMESTEPS = 1000


class Noising(Protocol):
    """The forward process of a backbone and the meaning of its output.

    `sigma` (B,) in 0..1 says how noisy a sample is, 1 being the noisiest; latents are (B, C, F, h, w).
    """

    name: str

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        """What the transformer is told of `sigma`, (B,)."""

    def noisy(self, clean: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """`clean` with so much of `noise` in it."""

    def target(
        self, clean: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor, first: torch.Tensor
    ) -> torch.Tensor:
        """What the network shall put out; `first` (B, C, 1, h, w) is the clean first latent frame."""

    def for_scheduler(
        self, output: torch.Tensor, noisy: torch.Tensor, sigma: torch.Tensor, first: torch.Tensor
    ) -> torch.Tensor:
        """The network's output as the sampler's scheduler takes it; `sigma` broadcasts against `noisy`."""


class FlowVelocity:
    """Flow matching: `noisy = (1 - sigma) clean + sigma noise`, the network predicts `noise - clean`.

    Lipman et al., "Flow Matching for Generative Modeling", 2023, with the direction of time that diffusers has.
    """

    name = "velocity"

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        """See `Noising`."""
        return sigma * NUM_TRAIN_TIMESTEPS

    def noisy(self, clean: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """See `Noising`."""
        level = _over(sigma, clean)
        return (1.0 - level) * clean + level * noise

    def target(
        self,
        clean: torch.Tensor,
        noise: torch.Tensor,
        sigma: torch.Tensor,  # noqa: ARG002 -- other kinds need it
        first: torch.Tensor,  # noqa: ARG002
    ) -> torch.Tensor:
        """See `Noising`."""
        return noise - clean

    def for_scheduler(
        self,
        output: torch.Tensor,
        noisy: torch.Tensor,  # noqa: ARG002
        sigma: torch.Tensor,  # noqa: ARG002
        first: torch.Tensor,  # noqa: ARG002
    ) -> torch.Tensor:
        """See `Noising`."""
        return output


class CleanResidual(FlowVelocity):
    """Flow matching whose network predicts the clean latents minus the first frame: the preconditioned stand-in."""

    name = "clean_residual"

    def target(
        self,
        clean: torch.Tensor,
        noise: torch.Tensor,  # noqa: ARG002
        sigma: torch.Tensor,  # noqa: ARG002
        first: torch.Tensor,
    ) -> torch.Tensor:
        """See `Noising`."""
        return clean - first

    def for_scheduler(
        self, output: torch.Tensor, noisy: torch.Tensor, sigma: torch.Tensor, first: torch.Tensor
    ) -> torch.Tensor:
        """See `Noising`: the velocity that the residual stands for."""
        return (noisy - (first + output)) / sigma


class DiffusionVelocity:
    """Variance-preserving diffusion with v-prediction (Salimans and Ho, "Progressive Distillation", 2022).

    `noisy = sqrt(a) clean + sqrt(1 - a) noise`, `v = sqrt(a) noise - sqrt(1 - a) clean`, where a is the scheduler's
    `alphas_cumprod` at the timestep; `sigma` is the timestep's share of all timesteps.
    """

    name = "v_prediction"

    def __init__(self, alphas_cumprod: torch.Tensor) -> None:
        self._alphas_cumprod = alphas_cumprod.float()

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        """See `Noising`; whole numbers."""
        count = len(self._alphas_cumprod)
        # The level of a timestep itself, t / count in float32, may lie a rounding below it.
        return (sigma.double() * count + 1e-4).long().clamp(max=count - 1)

    def _parts(self, sigma: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kept = self._alphas_cumprod.to(sigma.device)[self.timestep(sigma)]
        return _over(kept.sqrt(), like), _over((1.0 - kept).sqrt(), like)

    def noisy(self, clean: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """See `Noising`."""
        kept, added = self._parts(sigma, clean)
        return kept * clean + added * noise

    def target(
        self,
        clean: torch.Tensor,
        noise: torch.Tensor,
        sigma: torch.Tensor,
        first: torch.Tensor,  # noqa: ARG002
    ) -> torch.Tensor:
        """See `Noising`."""
        kept, added = self._parts(sigma, clean)
        return kept * noise - added * clean

    def for_scheduler(
        self,
        output: torch.Tensor,
        noisy: torch.Tensor,  # noqa: ARG002
        sigma: torch.Tensor,  # noqa: ARG002
        first: torch.Tensor,  # noqa: ARG002
    ) -> torch.Tensor:
        """See `Noising`."""
        return output


def noising_of(scheduler: Any) -> Noising:
    """The forward process that a diffusers scheduler was made for.

    Raises:
        ValueError: a kind of prediction that no family of ours uses.
    """
    config = scheduler.config
    if config.get("use_flow_sigmas") or type(scheduler).__name__.startswith("FlowMatch"):
        return FlowVelocity()
    if config.get("prediction_type") == "v_prediction":
        return DiffusionVelocity(scheduler.alphas_cumprod)
    raise ValueError(
        f"scheduler {type(scheduler).__name__} predicts {config.get('prediction_type')!r}; known are flow matching "
        "and v_prediction"
    )


def _over(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.view(-1, *([1] * (like.ndim - 1)))
