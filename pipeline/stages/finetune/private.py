"""Private fine-tuning of one entry: the noise for its budget, and the record of what was spent."""

from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.privacy import Privacy, check_settings
from pipeline.core.recipes import PrivacyRecipe
from pipeline.stages.finetune.params import Finetune


def privacy_recipe(settings: Finetune, pairs: int) -> PrivacyRecipe | None:
    """Return DP-SGD for so many training pairs; None where the settings ask for no privacy.

    Raises UserError where the settings, which a hardware preset may have changed, or the number of pairs rule it out,
    or opacus is missing.
    """
    if settings.privacy is None:
        return None
    from pipeline.training.privacy import noise_multiplier  # it loads torch

    _check(settings, settings.privacy, pairs)
    budget, rate = settings.privacy, settings.global_batch / pairs
    noise = noise_multiplier(budget.epsilon, budget.delta, rate, settings.max_steps)
    return PrivacyRecipe(noise, budget.max_grad_norm, settings.global_batch)


def _check(settings: Finetune, budget: Privacy, pairs: int) -> None:
    try:
        check_settings(settings)
    except ValueError as error:
        raise UserError(f"{error}, or train without the PRESET that sets it") from None
    if settings.global_batch > pairs:
        raise UserError(
            f"finetune.global_batch is {settings.global_batch}; with privacy it is the mean size of a batch drawn from"
            f" {pairs} training pairs, so it cannot exceed them"
        )
    if budget.delta >= 1 / pairs:
        raise UserError(
            f"privacy.delta is {budget.delta}, which allows giving one of the {pairs} training pairs away; use"
            f" {0.1 / pairs:.2g} or less"
        )


def record(settings: Finetune, recipe: PrivacyRecipe | None, pairs: int, weights: int) -> dict[str, Any]:
    """Return the entry `privacy` of a generator's manifest after a finished training; nothing without privacy.

    `weights` counts the numbers that were trained. The norm of the noise in one step is that of sqrt(weights) of them,
    in units of the clipping limit, to which a step's signal is limited.
    """
    if recipe is None or settings.privacy is None:
        return {}
    from pipeline.training import privacy  # it loads torch

    rate, delta = recipe.expected_batch / pairs, settings.privacy.delta
    return {
        "privacy": {
            "epsilon": privacy.epsilon_spent(recipe.noise_multiplier, delta, rate, settings.max_steps),
            "delta": delta,
            "unit": "training pair",
            "accountant": f"opacus {privacy.opacus_version()}, {privacy.ACCOUNTANT}",
            "noise_multiplier": recipe.noise_multiplier,
            "max_grad_norm": recipe.max_grad_norm,
            "sampling": f"Poisson, {recipe.expected_batch} of {pairs} pairs on average",
            "steps": settings.max_steps,
            "trained_weights": weights,
            "noise_norm": recipe.noise_multiplier / recipe.expected_batch * weights**0.5,
            "reproducible": False,
        }
    }
