"""Writing of a release card into a new folder: release_card.json and a page that shows it."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

import pipeline
from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.deploy.release.card import AttackResult, Findings, Kind, ReleaseCard
from pipeline.deploy.release.finished import FinishedEntry
from pipeline.deploy.release.hashes import CARD, LOCK, PAGE, check_images, listed_files
from pipeline.deploy.release.measured import audits, effect
from pipeline.deploy.release.training import made, trained_on
from pipeline.deploy.release.unknown import RELEASED, unknowns
from pipeline.stages.report import legend
from pipeline.stages.report.frame import render

DATA_FILES = ("release_card.html.j2",)


def write_release(finished: FinishedEntry, kind: Kind, terms: str | None, target: Path) -> str:
    """Write the card of an entry of a finished study into the new folder `target` and return the SHA-256 of the card.

    `terms` are those of the training images, None where they are not known. Raises UserError where the entry has no
    weights to release, the study is not finished, its results do not belong together, or `target` exists or lies among
    the outputs of stages.
    """
    _check_target(target, paths.outputs(finished.study).parent)
    if kind == "generator" and not finished.entry.learns(finished.name):
        raise UserError(
            f"{finished.name} has no weights to release, because {finished.method} learns nothing; use --images"
        )
    finished.check()
    if kind == "images":
        _check_pictures(finished)
    card = gather(finished, kind, terms)
    work = paths.work("release", files.fingerprint(card, str(target.absolute())))
    shutil.rmtree(work, ignore_errors=True)  # left by a killed run
    with files.writing_to(target):
        try:
            files.write_json(work / CARD, card.model_dump(mode="json"))
            sha256 = files.sha256(work / CARD)
            files.write_bytes(work / PAGE, page(card, sha256).encode())
            files.publish(work, target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return sha256


def _check_target(target: Path, outputs: Path) -> None:
    if os.path.lexists(target):
        raise UserError(f"{target} already exists; remove it, or name another folder with --output")
    if target.resolve().is_relative_to(outputs.resolve()):
        raise UserError(f"{target} lies in {outputs}, where only stages write; name another folder with --output")


def _check_pictures(finished: FinishedEntry) -> None:
    _, problems = check_images(Path(), finished.images.folder)
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise UserError(
            f"{problems[0].path}{more} is missing, or is not the file that the manifest of the images lists; remove"
            f" {finished.images.folder} and run dvc repro"
        )


def gather(finished: FinishedEntry, kind: Kind, terms: str | None) -> ReleaseCard:
    """Return the card of an entry from the files of its study. Raises UserError where a stage wrote too little."""
    try:
        found = Findings(
            kind=kind,
            trained_on=trained_on(finished, terms),
            made=made(finished),
            audits=audits(finished),
            effect=effect(finished),
        )
    except (ValidationError, KeyError) as error:  # what an earlier version's stages did not write
        raise UserError(
            f"the outputs of {finished.name} were made by an older version ({_missing(error)} is missing); run dvc"
            " repro"
        ) from None
    listed = listed_files(finished.study, finished.name, kind, found.trained_on.base is not None)
    return ReleaseCard(
        **dict(found),
        twinsynth=pipeline.__version__,
        study=finished.study,
        entry=finished.name,
        unknown=unknowns(found, is_locked=LOCK.as_posix() in {one.path for one in listed}),
        files=listed,
    )


def _missing(error: ValidationError | KeyError) -> str:
    """Return the name of the value that is missing."""
    place = error.args if isinstance(error, KeyError) else error.errors()[0]["loc"]
    return ".".join(map(str, place))


def page(card: ReleaseCard, sha256: str) -> str:
    """Return the page of a card whose JSON file has this SHA-256; it needs nothing beside it."""
    package = __package__ or "pipeline.deploy.release"
    glance = list(at_a_glance(card))
    return render(DATA_FILES[0], package, card=card, sha256=sha256, glance=glance, meanings=legend.COLUMNS)


def possible_attacks(card: ReleaseCard) -> list[AttackResult]:
    """Return the attacks that whoever gets the release can try, the one with the highest AUC first."""
    attacks = card.audits.attacks.results if card.audits.attacks else ()
    possible = (one for one in attacks if card.kind == "generator" or one.score == RELEASED)
    return sorted(possible, key=lambda one: -one.auc)


def at_a_glance(card: ReleaseCard) -> Iterator[tuple[str, str]]:
    """Yield what the page says first, each as a term and a sentence."""
    trained, private, copies = card.trained_on, card.made.privacy, card.audits.copies
    pairs = "not known" if trained.images is None else f"{trained.images} images with masks of {trained.data_set}"
    yield "Training images", pairs
    budget = f"epsilon {private.epsilon:.3g} at delta {private.delta:.3g} per {private.unit}" if private else "none"
    limits = "; see below what it does not cover" if private else ""
    yield "Privacy guarantee", "not known" if card.made.elsewhere else budget + limits
    yield "Strongest attack", _strongest(possible_attacks(card))
    yield "Suspected copies", f"{copies.suspects} of {copies.images} images"
    for arm in card.effect.arms:
        if arm.chosen and arm.difference is not None:
            gain = _interval(arm.difference, arm.low, arm.high, 3)
            yield f"Dice, {arm.segmenter}", f"{arm.training_set} minus {arm.reference}: {gain}, {arm.verdict}"
    yield "Not known", f"{len(card.unknown)} points, which are listed below"


def _strongest(attacks: Sequence[AttackResult]) -> str:
    if not attacks:
        return "none was run"
    one, more = attacks[0], f", the highest of {len(attacks)}" if len(attacks) > 1 else ""
    return f"{one.score}: AUC {_interval(one.auc, one.low, one.high, 2)}{more}"


def _interval(value: float, low: float | None, high: float | None, digits: int) -> str:
    ends = "" if low is None or high is None else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{value:.{digits}f}{ends}"
