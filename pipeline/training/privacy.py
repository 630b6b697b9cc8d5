"""DP-SGD (Abadi et al. 2016): gradients per sample by opacus, clipped, summed, and with Gaussian noise.

Optional: needs the package opacus. The noise comes from the entropy of the system, never from a seed: whoever knows the
seed of a study could subtract noise that follows from it.
"""

import secrets
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.errors import UserError
from pipeline.core.recipes import PrivacyRecipe, Recipe
from pipeline.core.runtime import Runtime
from pipeline.training.strategy import Strategy

ACCOUNTANT = "rdp"  # Renyi differential privacy of the Poisson-subsampled Gaussian mechanism (Mironov et al. 2019)


class PrivateStrategy(Strategy):
    """One process, whose optimiser sees only the noisy sums of clipped gradients.

    The loss of the objective must be a mean over samples, none of which depends on another.
    """

    def __init__(self, objective: nn.Module, recipe: Recipe, runtime: Runtime) -> None:
        if runtime.world > 1:
            raise UserError(f"privacy trains in one process, found {runtime.world}; launch with cpu or gpu1")
        assert recipe.privacy is not None
        self.privacy = recipe.privacy
        super().__init__(objective, recipe, runtime)
        self.sums = [torch.zeros_like(weight) for weight in self.weights]

    def _wrap(self, objective: nn.Module) -> Any:
        _opacus()
        from opacus.grad_sample import GradSampleModule  # pyright: ignore[reportMissingImports]

        # Opacus' own rule for convolutions is wrong for inputs in another memory format, such as those of a dense hint.
        return GradSampleModule(objective, loss_reduction="sum", force_functorch=True)

    def share(self, samples: int, whole: int) -> float:
        """Return the factor that makes the mean loss of a micro-batch the sum over its samples."""
        return samples

    def backward(self, loss: Tensor) -> None:
        """Add the clipped gradients of the samples of a loss."""
        loss.backward()
        found: list[tuple[Tensor, Tensor]] = []
        for weight, total in zip(self.weights, self.sums, strict=True):
            per_sample = getattr(weight, "grad_sample", None)
            if per_sample is None:
                raise UserError("privacy: a trained weight has no gradient per sample; this objective cannot be used")
            found.append((total, per_sample))
        add_clipped([total for total, _ in found], [gradients for _, gradients in found], self.privacy.max_grad_norm)
        for weight in self.weights:
            weight.grad = weight.grad_sample = None  # pyright: ignore[reportAttributeAccessIssue]

    def step(self) -> None:
        """Add the noise, make an optimiser step, set the sums to zero."""
        add_noise(self.sums, self.privacy)
        for weight, total in zip(self.weights, self.sums, strict=True):
            weight.grad = total / self.privacy.expected_batch
            total.zero_()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def unshard(self) -> None:
        """Take opacus' hooks from the objective; training is over."""
        wrapped: Any = self.wrapped
        wrapped.to_standard_module()


def add_clipped(sums: Sequence[Tensor], per_sample: Sequence[Tensor], limit: float) -> None:
    """Add to each sum the gradients [B, *shape] of the samples, every sample's scaled to a norm of at most `limit`.

    The norm of a sample is over all weights together.
    """
    norms = torch.stack([gradients.flatten(1).norm(dim=1) for gradients in per_sample]).norm(dim=0)
    factors = (limit / norms.clamp(min=torch.finfo(norms.dtype).tiny)).clamp(max=1)
    for total, gradients in zip(sums, per_sample, strict=True):
        total.add_(torch.tensordot(factors, gradients, dims=1))


def add_noise(sums: Sequence[Tensor], privacy: PrivacyRecipe) -> None:
    """Add Gaussian noise of the standard deviation noise_multiplier x max_grad_norm, from the system's entropy."""
    generator = torch.Generator(sums[0].device).manual_seed(secrets.randbits(63))
    for total in sums:
        noise = torch.randn(total.shape, generator=generator, device=total.device, dtype=total.dtype)
        total.add_(noise, alpha=privacy.noise_multiplier * privacy.max_grad_norm)


def noise_multiplier(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """Return the noise with which so many steps of Poisson batches at a sampling rate stay within a budget.

    It is a standard deviation in units of the clipping limit. Raises UserError without opacus, or where there is none.
    """
    _opacus()
    from opacus.accountants.utils import get_noise_multiplier  # pyright: ignore[reportMissingImports]

    try:
        return get_noise_multiplier(
            target_epsilon=epsilon, target_delta=delta, sample_rate=rate, steps=steps, accountant=ACCOUNTANT
        )
    except ValueError as error:
        raise UserError(
            f"privacy: no noise keeps epsilon {epsilon} at delta {delta} ({error}); raise epsilon"
        ) from error


def epsilon_spent(noise: float, delta: float, rate: float, steps: int) -> float:
    """Return the epsilon that opacus' accountant states for so many steps. Raises UserError without opacus."""
    _opacus()
    from opacus.accountants import create_accountant  # pyright: ignore[reportMissingImports]

    accountant: Any = create_accountant(ACCOUNTANT)
    accountant.history = [(noise, rate, steps)]
    return float(accountant.get_epsilon(delta))


def opacus_version() -> str:
    """Return the version of opacus. Raises UserError where it is missing."""
    return _opacus().__version__


def _opacus() -> Any:
    try:
        import opacus  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"privacy needs the package opacus ({error}); pip install 'twinsynth[privacy]'") from error
    return opacus
