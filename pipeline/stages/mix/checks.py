"""Checks of all training sets of a study together: what one of them needs of generators, images, scores and seeds."""

from collections.abc import Collection, Mapping, Sequence
from itertools import count

from pipeline.core.pair_limit import PairLimit, check_generator_limit
from pipeline.stages.mix.params import TrainingSet


def check_training_sets(
    sets: Mapping[str, TrainingSet],
    copies: Mapping[str, int],
    metrics: Collection[str],
    limits: Mapping[str, PairLimit | None],
    *,
    judge_maps: bool = False,
) -> None:
    """Raise ValueError with the dotted path of what is impossible.

    `copies` and `limits` by generator, `metrics` of score, and whether it publishes what the judge thinks of every
    pixel.
    """
    for name, arm in sets.items():
        where = f"training_sets.{name}"
        if arm.generator is None:
            _check_real(where, arm)
            continue
        if arm.generator not in copies:
            known = ", ".join(copies) or "none, the study has no generators"
            raise ValueError(f"{where}.generator is {arm.generator!r}; the available ones are: {known}")
        if arm.multiplier > copies[arm.generator]:
            raise ValueError(
                f"{where}.multiplier is {arm.multiplier}, but generators.{arm.generator}.copies is"
                f" {copies[arm.generator]}; raise copies or lower the multiplier"
            )
        check_generator_limit(name, arm.pair_limit, arm.generator, limits[arm.generator])
        if arm.resample and not 1 < arm.multiplier < copies[arm.generator]:
            raise ValueError(
                f"{where}.resample takes more copies of hard masks and fewer of easy ones, so multiplier must be above"
                f" 1 and below the {copies[arm.generator]} copies of generators.{arm.generator}; found {arm.multiplier}"
            )
        if arm.judge_rules and not judge_maps:
            raise ValueError(
                f"{where}.{arm.judge_rules[0]} needs the judge's opinion of every pixel; set score.judge_maps: true"
            )
        if arm.by_dice and "faithfulness" not in metrics:
            key = "screen" if arm.share is not None else "screen_min_dice"
            raise ValueError(f"{where}.{key} needs the Dice of each image; add faithfulness to score.metrics")


def check_training(
    sets: Mapping[str, TrainingSet], budgets: Collection[int], *, unlabelled: bool, predicted: bool
) -> None:
    """Raise ValueError where a set cannot be trained as it asks for.

    `budgets` are the optimiser steps that are known, `unlabelled` says whether the study has images without masks, and
    `predicted` whether it predicts masks for them.
    """
    for name, arm in sets.items():
        where = f"training_sets.{name}.unlabelled"
        if arm.unlabelled and not unlabelled:
            raise ValueError(f"{where} learns from images without masks; set data.unlabelled")
        if arm.unlabelled == "pseudo_labels" and not predicted:
            raise ValueError(f"{where} needs masks that were predicted; set data.unlabelled.pseudo_labels")
        for steps in sorted(budgets):
            try:
                arm.pretraining_steps(arm.total_steps(steps))
            except ValueError as error:
                raise ValueError(f"training_sets.{name}: {error}") from None


def check_seeds(sets: Mapping[str, TrainingSet], seeds: Sequence[int]) -> None:
    """Raise ValueError where two sets that differ in their offset at most train a model of one seed twice."""
    alike: dict[str, list[str]] = {}
    for name, one in sets.items():
        alike.setdefault(one.model_dump_json(exclude={"seed_offset"}), []).append(name)
    for names in alike.values():
        used: dict[int, str] = {}  # which set trains a seed
        for name in names:
            offset = sets[name].seed_offset
            if twice := [seed + offset for seed in seeds if seed + offset in used]:
                free = next(number for number in count() if not {seed + number for seed in seeds} & used.keys())
                raise ValueError(
                    f"training_sets.{name}.seed_offset is {offset}: it would be trained like {used[twice[0]]}, with"
                    " the same"
                    f" seed{'s' if len(twice) > 1 else ''} {', '.join(map(str, twice))}; use for example {free}"
                )
            used |= {seed + offset: name for seed in seeds}


def _check_real(where: str, arm: TrainingSet) -> None:
    for key in ("screen", "screen_min_dice", "drop_copies", "labels", "resample"):
        if getattr(arm, key) not in (None, False):
            does = "changes" if key in ("labels", "resample") else "screens"
            raise ValueError(f"{where}.{key} {does} synthetic images, but the set has no generator")
