"""What the audits and scores of a study say of a generator, and what its images did to segmenters."""

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.core import files, paths
from pipeline.deploy.release.card import (
    ArmEffect,
    AttackResult,
    Attacks,
    Audits,
    Confirmation,
    Copies,
    Effect,
    FoundRate,
    Harm,
    ImageScore,
)
from pipeline.deploy.release.finished import FinishedEntry
from pipeline.metrics.images.score import current_record
from pipeline.stages.compare.comparison import read_comparison, read_output
from pipeline.stages.compare.verdict import Verdict
from pipeline.stages.report.bench_table import ROLES
from pipeline.stages.report.frontier import best_on_validation
from pipeline.stages.report.membership import SEEN, meaning

Record = Mapping[str, Any]


def audits(finished: FinishedEntry) -> Audits:
    """Return the attacks, the search for copies and the scores. Raises UserError where a stage has not run."""
    folder = paths.audit(finished.study, finished.name)
    attacks = folder / "membership.json"
    judge = paths.judge(finished.study) / "metrics.json"
    return Audits(
        attacks=_attacks(files.read_json(attacks)) if attacks.is_file() else None,
        copies=_copies(read_output(folder / "audit.json")),
        scores=_scores(finished),
        judge_dice=files.read_json(judge).get("dice") if judge.is_file() else None,
    )


def _picked(record: Record, keys: Iterable[str]) -> dict[str, Any]:
    """Return some values of a record; None where it lacks one, as a record of an earlier version may."""
    return {key: record.get(key) for key in keys}


def _attacks(record: Record) -> Attacks | None:
    """Return the attacks; None where the study asked for none."""
    if not record["attacks"] and not record["absent"]:
        return None
    about = _picked(record, ("members", "controls", "member_groups", "control_groups"))
    return Attacks(**about, results=tuple(map(_attack, record["attacks"])), absent=dict(record["absent"]))


def _attack(record: Record) -> AttackResult:
    rates = tuple(FoundRate(**_picked(one, FoundRate.model_fields)) for one in record["found"])
    return AttackResult(
        score=record["score"],
        attacker_has=SEEN[record["score"]],
        auc=record["auc"],
        low=record["low"],
        high=record["high"],
        interval_reason=record["interval_reason"],
        meaning=meaning(record),
        found=rates,
    )


def _copies(record: Record) -> Copies:
    values = _picked(record, Copies.model_fields.keys() - {"spaces", "absent"})
    return Copies(
        **values, spaces=tuple(one["name"] for one in record["spaces"]), absent=dict(record.get("absent") or {})
    )


def _scores(finished: FinishedEntry) -> tuple[ImageScore, ...]:
    """Return the scores that have a value."""
    records = map(current_record, read_output(paths.scores(finished.study, finished.name) / "scores.json"))
    return tuple(ImageScore(**_picked(one, ImageScore.model_fields)) for one in records if one["value"] is not None)


def effect(finished: FinishedEntry) -> Effect:
    """Return what the images of the entry did to segmenters: all arms that hold them, and the subgroups harmed."""
    comparison, compare = read_comparison(finished.study), finished.params.compare
    arms = [arm for arm in comparison["arms"] if arm["generator"] == finished.name and arm["role"] in ROLES]
    names = {arm["training_set"] for arm in arms}
    segmenters = dict.fromkeys(arm["segmenter"] for arm in arms)
    best = [best_on_validation([arm for arm in arms if arm["segmenter"] == one]) for one in segmenters]
    rows = [row for row in comparison.get("subgroups", ()) if names & {*row["training_set"].split(" and ")}]
    return Effect(
        reference=compare.reference,
        confidence=compare.confidence,
        margin=compare.margin,
        arms=tuple(_arm(arm, compare.reference, any(arm is one for one in best)) for arm in arms),
        confirmation=_confirmation(comparison.get("headline"), names, compare.reference),
        subgroups=len(rows),
        subgroups_open=sum(row.get("reason") is not None for row in rows),
        harmed=tuple(_harm(row, compare.reference) for row in rows if row["verdict"] == Verdict.WORSE),
    )


def _arm(arm: Record, reference: str, chosen: bool) -> ArmEffect:
    keys = ("segmenter", "training_set", "role", "multiplier", "n_images", "n_seeds", "dice", "difference", "verdict")
    return ArmEffect(
        **_picked(arm, keys),
        reference=arm.get("reference") or reference,
        low=arm.get("difference_low"),
        high=arm.get("difference_high"),
        reason=arm.get("reason"),
        chosen=chosen,
    )


def _confirmation(headline: Record | None, names: set[str], reference: str) -> Confirmation | None:
    """Return the models of fresh seeds behind the study's sentence; None where it is about another generator."""
    if headline is None or not headline.get("confirmed") or not names & {*headline["training_sets"]}:
        return None
    keys = ("segmenter", "difference", "verdict", "n_seeds")
    return Confirmation(
        **_picked(headline, keys),
        training_sets=tuple(headline["training_sets"]),
        reference=headline.get("reference") or reference,
        low=headline["difference_low"],
        high=headline["difference_high"],
    )


def _harm(row: Record, reference: str) -> Harm:
    keys = ("column", "level", "definition", "segmenter", "training_set", "models", "n_images", "difference")
    return Harm(
        **_picked(row, keys),
        reference=row.get("reference") or reference,
        low=row["difference_low"],
        high=row["difference_high"],
    )
