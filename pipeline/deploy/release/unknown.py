"""What a release card cannot say, from what is absent in what was measured."""

from collections.abc import Iterator

from pipeline.deploy.release.card import Attacks, Findings, Unknown

RATED = ("mos", "turing_accuracy")  # scores that come from clinicians
RELEASED = "released"  # the attack on the images alone
OWN_MASKS = "bank"  # the only masks that are not made of training masks


def unknowns(found: Findings, *, is_locked: bool) -> tuple[Unknown, ...]:
    """Return everything that the findings leave open, in the order of the card.

    `is_locked`: whether dvc.lock says that all results belong to the current parameters.
    """
    about = (_recognition, _privacy, _base, _training, _images, _effect)
    parts = [*(part(found) for part in about), _state(is_locked)]
    return tuple(Unknown(topic=topic, text=text) for part in parts for topic, text in part)


Lines = Iterator[tuple[str, str]]


def _state(is_locked: bool) -> Lines:
    """Yield that the results may belong to other parameters, where nothing says with which ones they were made."""
    if not is_locked:
        yield (
            "state of the study",
            "There is no dvc.lock, so it is not known whether the scores, the audit and the comparison were made with"
            " the parameters on this card.",
        )


def _recognition(found: Findings) -> Lines:
    """Yield what the attacks leave open."""
    attacks = found.audits.attacks
    if attacks is None or not attacks.results:
        yield (
            "attacks",
            "No membership attack was run, so nothing is known about whether training images can be recognised"
            " (audit.membership).",
        )
    else:
        yield (
            "stronger attacks",
            "Stronger attacks than those listed may find more, for example attacks that train reference models.",
        )
        yield from _rates(attacks)
        if found.kind == "images" and RELEASED not in {one.score for one in attacks.results}:
            yield "attack on the images", "No attack on the images alone was run (score released)."
    if attacks is not None:
        yield from (
            (f"attack {score}", f"The attack {score} could not be run: {reason}.")
            for score, reason in attacks.absent.items()
        )
    if found.trained_on.groups is None and not found.made.elsewhere:
        yield (
            "patients",
            "Patients are not known, so the attacks and intervals count images. Whether a patient with several images"
            " can be recognised was not measured.",
        )


def _rates(attacks: Attacks) -> Lines:
    """Yield the intervals and the rates of false positives that could not be measured, once for all attacks."""
    for one in attacks.results:
        if one.low is None:
            yield f"interval of {one.score}", f"The AUC of {one.score} has no interval: {one.interval_reason}."
    reasons = dict.fromkeys(rate.reason for one in attacks.results for rate in one.found if rate.reason)
    if reasons:
        yield (
            "few controls",
            f"The share of training images found at few false positives could not be measured: {'; '.join(reasons)}.",
        )


def _privacy(found: Findings) -> Lines:
    """Yield what the privacy budget leaves open, or that there is none."""
    made, private = found.made, found.made.privacy
    if made.elsewhere:
        return
    if private is None:
        yield (
            "privacy guarantee",
            "There is no privacy guarantee: nothing limits what the weights and the images can reveal of a training"
            " image.",
        )
        return
    yield (
        "coverage of epsilon",
        f"Epsilon protects one {private.unit}. It does not cover the base model with its autoencoder, several images of"
        " one patient taken together, the choice of settings, other generators trained on the same pairs, or the"
        " numbers on this card, which were computed from training pairs without noise.",
    )
    if made.mask_source != OWN_MASKS:
        yield (
            "masks",
            f"Epsilon does not cover the masks of the images, which were made from training masks (masks:"
            f" {made.mask_source}).",
        )


def _base(found: Findings) -> Lines:
    """Yield what is not known of the base."""
    base, attacks = found.trained_on.base, found.audits.attacks
    if base is None:
        return
    if base.saw_training_images is None:
        yield (
            "training data of the base",
            f"Which images the base model ({base.source}) was trained on is not known. If it has seen training or"
            " held-out images of this study, the attacks show too much or too little.",
        )
        if base.terms is None:
            yield "terms of the base", f"The terms of use of the base model ({base.source}) are not known."
    if base.unlabelled_images:
        yield (
            "images without masks",
            f"The base was also trained on {base.unlabelled_images} images without masks. The attacks do not test"
            " whether these can be recognised.",
        )
    scores = {one.score for one in attacks.results} if attacks else set()
    if found.kind == "generator" and "autoencoder" not in scores:
        yield (
            "audit of the base",
            "The base model was not attacked, so what its autoencoder reveals was not measured (score autoencoder).",
        )


def _training(found: Findings) -> Lines:
    """Yield what is not known of the training images and of the training."""
    if found.made.elsewhere:
        yield (
            "origin",
            "Another program made the images. What it was trained on, and how, is not known, and neither is what its"
            " weights reveal, or whether it was trained with differential privacy.",
        )
    if found.trained_on.pseudo_labelled:
        yield (
            "pseudo-labels",
            f"The generator was also trained on {found.trained_on.pseudo_labelled} images whose masks segmenters"
            " predicted. The attacks do not test whether these can be recognised.",
        )
    if found.trained_on.terms is None:
        yield (
            "terms of the data",
            "The terms of use of the training images were not given (--terms). They may forbid this release.",
        )
    if found.made.trained and not found.made.same_recipe:
        yield (
            "one generator",
            "The generator was trained with a single seed. Another training run may give other images and other"
            " results.",
        )


def _images(found: Findings) -> Lines:
    """Yield what is not known of the images."""
    names = {one.name.partition(".")[0] for one in found.audits.scores}
    if "faithfulness" in names:
        yield (
            "judge",
            "Whether images follow their masks was judged by a segmenter of the same study. There was no outside"
            " judge.",
        )
    else:
        yield "faithfulness", "Whether images follow their masks was not measured."
    if not names & {*RATED}:
        yield "clinicians", "No clinician has rated the images."
    yield from (
        (f"copies by {space.replace('_', ' ')}", f"Copies were not searched for by {space}: {reason}.")
        for space, reason in found.audits.copies.absent.items()
    )


def _effect(found: Findings) -> Lines:
    """Yield what is not known of the effect on segmenters."""
    effect = found.effect
    if not effect.arms:
        yield (
            "effect",
            "No training set with these images was compared with its reference, so their effect on segmentation is not"
            " known.",
        )
        return
    if effect.confirmation is None:
        yield (
            "confirmation",
            "The effect was not confirmed with fresh seeds. Where several training sets were compared, the best one"
            " looks better than it is.",
        )
    if not effect.subgroups:
        yield "subgroups", "Whether a subgroup of patients is harmed was not measured (compare.subgroups)."
    elif effect.subgroups_open:
        yield (
            "undecided subgroups",
            f"{effect.subgroups_open} of {effect.subgroups} comparisons by subgroup can have no verdict, for example"
            " because there are too few images, so harm could not be found in them.",
        )
    yield (
        "other data",
        f"The effect was measured on {effect.arms[0].n_images} test images of one data set. On images of other"
        " hospitals or devices, it may differ.",
    )
