"""Release cards: what they say of an entry of a finished study, what they leave open, and the check of their hashes."""

import shutil
from pathlib import Path

import pytest
from markupsafe import escape

from pipeline.cli import rerun_reasons
from pipeline.cli.main import main
from pipeline.core import files, paths
from pipeline.core.section import parse
from pipeline.data.image_set import MANIFEST
from pipeline.deploy.release.finished import FinishedEntry
from pipeline.deploy.release.hashes import CARD, PAGE
from pipeline.deploy.release.release import at_a_glance
from pipeline.deploy.release.training import trained_on
from pipeline.deploy.release.unknown import unknowns
from pipeline.stages.generate.provenance import NOTICE_COMPOSED
from pipeline.study import Params
from tests.attacked_generators import SPENT, STUDY
from tests.released import SIAMESE, edit, finished_study, refused, released, topics

LIMITED = {"copies": 2, "limit": 5}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A study with several attacked generators, of which every stage but the report has left its files."""
    monkeypatch.chdir(tmp_path)
    return finished_study()


def test_a_card_says_what_the_generator_was_trained_on_and_how(study: Params) -> None:
    card = released("controlnet_eps8", "--terms", "CC BY 4.0")
    trained, made = card.trained_on, card.made
    assert (trained.images, trained.masks, trained.groups, trained.terms) == (8, 8, None, "CC BY 4.0")
    assert trained.manifest_sha256 == files.sha256(paths.real("toy") / MANIFEST)
    assert trained.base is not None and (trained.base.source, trained.base.commit) == ("public_base", "c0ffee")
    assert (made.method, made.steps, made.images, made.image_masks) == ("controlnet", 2, 16, 8)
    assert made.privacy is not None and made.privacy.epsilon == pytest.approx(7.98)
    assert (made.privacy.delta, made.privacy.accountant) == (SPENT["delta"], SPENT["accountant"])
    assert "epsilon 7.98" in made.privacy.covers
    assert made.settings["finetune.learning_rate"] == 1e-3 and made.settings["generate.steps"] == 2
    assert made.generator_sha256 == files.tree_sha256(paths.generator("toy", "controlnet_eps8"))


def test_a_card_says_what_was_measured_with_intervals(study: Params) -> None:
    card = released("siamese")
    attacks = card.audits.attacks
    assert attacks is not None and (attacks.members, attacks.controls) == (8, 7)
    assert next((one.score, one.auc, one.low, one.high) for one in attacks.results) == ("loss", 0.81, 0.7, 0.9)
    first, second, _ = attacks.results[0].found
    assert (first.share, first.low, first.bootstrap_high) == (0.3, 0.1, 0.7)
    assert second.share is None and "at least 100 controls" in (second.reason or "")
    assert (card.audits.copies.suspects, card.audits.copies.images) == (1, 8)
    assert [one.name for one in card.audits.scores] == ["frechet.efficientnet_lite0"]  # the one with a value
    arms = {one.training_set: one for one in card.effect.arms}
    assert set(arms) == {"siamese_x1", "siamese_x2", "siamese_x2_share"}
    assert [name for name, one in arms.items() if one.chosen] == ["siamese_x2"]
    assert arms["siamese_x2"].difference == pytest.approx(0.05) and arms["siamese_x2"].verdict == "inconclusive"


def test_harmed_subgroups_and_the_confirmation_are_those_of_the_entry(study: Params) -> None:
    row = {"column": "site", "level": "a", "definition": "", "segmenter": "unet", "training_set": "siamese_x2"}
    row |= {"n_images": 9, "difference": -0.1, "difference_low": -0.2, "difference_high": -0.01, "verdict": "worse"}
    others = {"training_set": "copy_paste_x1"}, {"training_set": "siamese_x1", "verdict": "inconclusive"}
    claim = {"segmenter": "unet", "training_sets": ["siamese_x2"], "confirmed": True, "verdict": "better"}
    claim |= {"difference": 0.04, "difference_low": 0.01, "difference_high": 0.07, "n_seeds": 5}
    path = paths.comparison("toy") / "comparison.json"
    edit(path, subgroups=[row, *(row | other for other in others)], headline=claim)
    card = released("siamese")
    assert (card.effect.subgroups, card.effect.subgroups_open) == (2, 0)
    assert card.effect.harmed[0].reference == "real"
    assert [(one.training_set, one.level, one.low) for one in card.effect.harmed] == [("siamese_x2", "a", -0.2)]
    assert card.effect.confirmation is not None and card.effect.confirmation.n_seeds == 5
    assert not {"confirmation", "subgroups", "undecided subgroups"} & topics(card)
    assert released("controlnet_eps8").effect.confirmation is None


def test_a_subgroup_without_a_possible_verdict_is_not_shown_as_safe(study: Params) -> None:
    row = {"column": "site", "level": "a", "definition": "", "segmenter": "unet", "training_set": "siamese_x2"}
    row |= {"n_images": 2, "difference": -0.1, "difference_low": None, "difference_high": None}
    row |= {"verdict": "inconclusive", "reason": "Only 2 test images; a verdict needs 6 independent ones."}
    edit(paths.comparison("toy") / "comparison.json", subgroups=[row, row | {"level": "b", "reason": None}])
    card = released("siamese")
    assert (card.effect.subgroups, card.effect.subgroups_open, card.effect.harmed) == (2, 1, ())
    assert "undecided subgroups" in topics(card)
    page = (SIAMESE / PAGE).read_text(encoding="utf-8")
    assert "No harm was found in 2 comparisons by subgroup, 1 of which can have no verdict." in page


def test_without_dvc_lock_the_state_of_the_study_is_not_known(
    study: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "state of the study" in topics(released("siamese"))
    Path("dvc.lock").write_text("schema: '2.0'")
    found = [rerun_reasons.Reason("report", "new", "report"), rerun_reasons.Reason("compare", "code", "a.py")]
    monkeypatch.setattr(rerun_reasons, "reasons", lambda: found)
    card = released("controlnet_eps8")
    assert "state of the study" not in topics(card) and "dvc.lock" in {one.path for one in card.files}
    found.append(rerun_reasons.Reason("base", "parameter", "base.lr", "1 -> 2"))
    assert "the results of base do not belong to the current study (base.lr: 1 -> 2)" in refused(capsys, "unused")


def test_a_base_from_scratch_has_seen_the_images_beyond_the_limit(study: Params) -> None:
    edit(paths.base("toy") / "manifest.json", source="scratch")
    files.write_json(Path("params.yaml"), STUDY | {"generators": STUDY["generators"] | {"siamese": {**LIMITED}}})
    params = parse(Params, files.read_json(Path("params.yaml")))
    entry = FinishedEntry(params, "siamese")
    assert (len(entry.train), entry.beyond_limit) == (5, 3)
    base = trained_on(entry, None).base
    assert base is not None and base.unlabelled_images == 3


def test_unknown_is_what_is_absent(study: Params, capsys: pytest.CaptureFixture[str]) -> None:
    private, plain = topics(released("controlnet_eps8")), topics(released("siamese", "--terms", "CC0"))
    assert {"coverage of epsilon", "masks", "audit of the base", "terms of the data"} <= private
    assert "privacy guarantee" not in private
    assert {"privacy guarantee", "few controls", "patients", "training data of the base"} <= plain
    assert not {"coverage of epsilon", "audit of the base", "terms of the data"} & plain
    assert {"one generator", "faithfulness", "clinicians", "subgroups", "confirmation"} <= plain
    unused = topics(released("unused"))
    assert {"attacks", "effect"} <= unused and not {"stronger attacks", "few controls", "other data"} & unused
    images = topics(released("controlnet_eps8", "--images"))
    assert not {"audit of the base", "attack on the images"} & images
    edit(paths.audit("toy", "controlnet_eps8") / "membership.json", attacks=[])
    shutil.rmtree("released/controlnet_eps8_images")
    assert "attacks" in topics(released("controlnet_eps8", "--images"))
    assert "copy_paste has no weights to release, because copy_paste learns nothing" in refused(capsys, "copy_paste")
    copied = released("copy_paste", "--images")
    assert not [one.path for one in copied.files if one.what.endswith("base")]  # which it does not use
    assert copied.made.notice == NOTICE_COMPOSED
    assert {"attack loss", "interval of released"} <= topics(copied)
    assert not {"one generator", "training data of the base"} & topics(copied)


def test_of_images_alone_the_attack_on_images_counts(study: Params) -> None:
    strongest = "loss: AUC 0.56 [0.48, 0.64], the highest of 2"
    assert ("Strongest attack", strongest) in at_a_glance(released("controlnet_eps8"))
    card = released("controlnet_eps8", "--images")
    assert ("Strongest attack", "released: AUC 0.53 [0.45, 0.61]") in at_a_glance(card)
    path = paths.audit("toy", "siamese") / "membership.json"
    edit(path, attacks=files.read_json(path)["attacks"][:1])
    card = released("siamese", "--images")
    assert ("Strongest attack", "none was run") in at_a_glance(card) and "attack on the images" in topics(card)


def test_what_becomes_known_is_no_longer_unknown(study: Params) -> None:
    card = released("siamese")
    other_seed = card.made.model_copy(update={"same_recipe": ("siamese_seed_1",)})
    patients = card.trained_on.model_copy(update={"groups": 3})
    rated = tuple(card.audits.scores[0].model_copy(update={"name": name}) for name in ("mos", "faithfulness"))
    known = card.model_copy(
        update={
            "made": other_seed,
            "trained_on": patients,
            "audits": card.audits.model_copy(update={"scores": rated}),
        }
    )
    after = {one.topic for one in unknowns(known, is_locked=False)}
    assert topics(card) - after == {"one generator", "patients", "clinicians", "faithfulness"}
    assert after - topics(card) == {"judge"}


def test_a_base_from_scratch_has_seen_the_training_images(study: Params) -> None:
    card = released("siamese")
    base = card.trained_on.base
    assert base is not None and base.saw_training_images is None
    scratch = base.model_copy(update={"source": "scratch", "saw_training_images": True, "unlabelled_images": 5})
    after = unknowns(
        card.model_copy(update={"trained_on": card.trained_on.model_copy(update={"base": scratch})}), is_locked=True
    )
    found = {one.topic for one in after}
    assert "images without masks" in found and not {"training data of the base", "terms of the base"} & found


def test_the_page_shows_the_card_and_needs_nothing_else(study: Params) -> None:
    card = released("controlnet_eps8", "--terms", "<b>mine</b>")
    text = (Path("released/controlnet_eps8") / PAGE).read_text(encoding="utf-8")
    assert files.sha256(Path("released/controlnet_eps8") / CARD) in text
    for found in ("7.98", "loss", "[0.48, 0.64]", "&lt;b&gt;mine&lt;/b&gt;", "inconclusive", "1 of 8"):
        assert found in text
    assert all(one.sha256 in text for one in card.files)
    assert all(str(escape(one.text)) in text for one in card.unknown)
    assert "no patient" not in text  # the images may resemble training images
    assert 'src="' not in text and "http" not in text.replace("http-equiv", "")
    again = Path("released/again")
    assert main(["release", "controlnet_eps8", "--terms", "<b>mine</b>", "--output", str(again)]) == 0
    assert (again / PAGE).read_text(encoding="utf-8") == text
