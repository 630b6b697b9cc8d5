"""Release cards: what they say of an entry of a finished study, what they leave open, and the check of their hashes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.main import main
from pipeline.core import files, paths
from pipeline.data.image_set import MANIFEST, ImageSet
from pipeline.deploy.release.card import ReleaseCard
from pipeline.deploy.release.hashes import CARD, PAGE, read_card
from pipeline.deploy.release.release import at_a_glance
from pipeline.deploy.release.unknown import unknowns
from pipeline.stages.generate.provenance import NOTICE_COMPOSED
from pipeline.stages.report.stage_outputs import unfinished_stages
from pipeline.study import Params
from tests.attacked_generators import SPENT, STUDY, attacked_study, write_attacks

SIAMESE = Path("released/siamese")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A study with several attacked generators, of which every stage but the report has left its files."""
    monkeypatch.chdir(tmp_path)
    params = attacked_study()
    files.write_json(Path("params.yaml"), STUDY)
    assert unfinished_stages(params) == ["report"]
    return params


def released(name: str, *more: str) -> ReleaseCard:
    assert main(["release", name, *more]) == 0
    return read_card(Path("released") / (f"{name}_images" if "--images" in more else name))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["release", *arguments]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1
    return line


def topics(card: ReleaseCard) -> set[str]:
    return {one.topic for one in card.unknown}


def edit(path: Path, **changes: Any) -> None:
    files.write_json(path, files.read_json(path) | changes)


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
    assert card.effect.subgroups == 2
    assert [(one.training_set, one.level, one.low) for one in card.effect.harmed] == [("siamese_x2", "a", -0.2)]
    assert card.effect.confirmation is not None and card.effect.confirmation.n_seeds == 5
    assert not {"confirmation", "subgroups"} & topics(card)
    assert released("controlnet_eps8").effect.confirmation is None


def test_unknown_is_what_is_absent(study: Params) -> None:
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
    copied = released("copy_paste", "--images")
    assert copied.made.notice == NOTICE_COMPOSED  # and not that they show no patient
    assert {"attack loss", "interval of released"} <= topics(copied)
    assert not {"one generator", "training data of the base"} & topics(copied)


def test_of_images_alone_the_attack_on_images_counts(study: Params) -> None:
    assert ("Strongest attack", "loss: AUC 0.56 [0.48, 0.64]") in at_a_glance(released("controlnet_eps8"))
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
    after = {one.topic for one in unknowns(known)}
    assert topics(card) - after == {"one generator", "patients", "clinicians", "faithfulness"}
    assert after - topics(card) == {"judge"}


def test_a_base_from_scratch_has_seen_the_training_images(study: Params) -> None:
    card = released("siamese")
    base = card.trained_on.base
    assert base is not None and base.saw_training_images is None
    scratch = base.model_copy(update={"source": "scratch", "saw_training_images": True, "unlabelled_images": 5})
    after = unknowns(card.model_copy(update={"trained_on": card.trained_on.model_copy(update={"base": scratch})}))
    found = {one.topic for one in after}
    assert "images without masks" in found and not {"training data of the base", "terms of the base"} & found


def test_the_page_shows_the_card_and_needs_nothing_else(study: Params) -> None:
    card = released("controlnet_eps8", "--terms", "<b>mine</b>")
    text = (Path("released/controlnet_eps8") / PAGE).read_text(encoding="utf-8")
    assert files.sha256(Path("released/controlnet_eps8") / CARD) in text
    for found in ("7.98", "loss", "[0.48, 0.64]", "&lt;b&gt;mine&lt;/b&gt;", "inconclusive", "1 of 8"):
        assert found in text
    assert all(one.sha256 in text for one in card.files)
    assert text.count("<dt>") >= len(card.unknown)
    assert 'src="' not in text and "http" not in text.replace("http-equiv", "")
    again = Path("released/again")
    assert main(["release", "controlnet_eps8", "--terms", "<b>mine</b>", "--output", str(again)]) == 0
    assert (again / PAGE).read_text(encoding="utf-8") == text


def test_the_weights_are_listed_only_where_they_are_released(study: Params) -> None:
    weights = paths.generator("toy", "siamese") / "weights.safetensors"
    files.write_bytes(weights, b"weights")
    rows = [row | {"generator_sha256": files.tree_sha256(weights.parent)} for row in images_of("siamese")]
    rewrite("siamese", rows)
    with_weights, images = released("siamese"), released("siamese", "--images")
    listed = {one.path: one for one in with_weights.files}
    assert listed[weights.as_posix()].sha256 == files.sha256_of(b"weights")
    assert weights.as_posix() not in {one.path for one in images.files}
    for card in (with_weights, images):
        named = {one.path for one in card.files}
        assert {"params.yaml", f"{paths.real('toy').as_posix()}/{MANIFEST}"} <= named
        assert (paths.audit("toy", "siamese") / "membership.json").as_posix() in named
        assert (paths.synthetic("toy", "siamese") / MANIFEST).as_posix() in named


def images_of(name: str) -> ImageSet:
    return ImageSet.open(paths.synthetic("toy", name))


def rewrite(name: str, rows: list[Any]) -> None:
    """Give an image set other rows."""
    images = images_of(name)
    ImageSet.finish(images.folder, images.spec, rows)


def test_check_names_every_file_that_is_missing_or_differs(study: Params, capsys: pytest.CaptureFixture[str]) -> None:
    released("siamese")
    capsys.readouterr()
    assert main(["release", "--check", str(SIAMESE)]) == 0
    assert "are those that the card describes" in capsys.readouterr().out
    manifest, audit = paths.generator("toy", "siamese") / "manifest.json", paths.audit("toy", "siamese") / "audit.json"
    manifest.unlink()
    edit(audit, suspects=0)
    with (SIAMESE / PAGE).open("a") as page:
        page.write(" ")
    assert main(["release", "--check", str(SIAMESE), "--json"]) == 1
    found = {one["path"]: one["problem"] for one in json.loads(capsys.readouterr().out)["problems"]}
    assert found == {
        (SIAMESE / PAGE).as_posix(): "differs",
        manifest.as_posix(): "missing",
        audit.as_posix(): "differs",
    }
    assert main(["release", "--check", str(SIAMESE)]) == 1
    assert f"{manifest.as_posix()}: missing\n" in capsys.readouterr().out


def test_check_compares_every_released_image_elsewhere_too(study: Params, capsys: pytest.CaptureFixture[str]) -> None:
    released("siamese", "--images")
    elsewhere = Path("elsewhere")
    for name in ("params.yaml", "outputs", "released"):
        target = elsewhere / name
        elsewhere.mkdir(exist_ok=True)
        (shutil.copytree if Path(name).is_dir() else shutil.copy)(name, target)
    card, files_at = str(elsewhere / "released/siamese_images"), ["--files", str(elsewhere)]
    assert main(["release", "--check", card, *files_at]) == 0
    assert "32 files of images and masks" in capsys.readouterr().out
    first, second, *_ = images_of("siamese").rows
    folder = elsewhere / paths.synthetic("toy", "siamese")
    (folder / first["file_name"]).unlink()
    (folder / second["mask"]).write_bytes(b"another")
    assert main(["release", "--check", card, *files_at]) == 1
    out = capsys.readouterr().out
    assert f"{paths.synthetic('toy', 'siamese') / first['file_name']}: missing" in out
    assert f"{paths.synthetic('toy', 'siamese') / second['mask']}: differs" in out


def test_a_card_is_written_for_a_finished_study_alone(study: Params, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no generator 'siames' in params.yaml" in refused(capsys, "siames")
    shutil.rmtree(paths.snapshots("toy", "unused"))
    assert "These stages have not run: snapshots@unused" in refused(capsys, "siamese")
    paths.snapshots("toy", "unused").mkdir()
    released("siamese")
    assert "released/siamese already exists" in refused(capsys, "siamese")


def test_results_that_do_not_belong_together_have_no_card(study: Params, capsys: pytest.CaptureFixture[str]) -> None:
    write_attacks("siamese")
    rewrite("siamese", [row | {"generator_sha256": "another"} for row in images_of("siamese")])
    assert "were not made by the generator in" in refused(capsys, "siamese")
    files.write_json(Path("params.yaml"), STUDY | {"seed": 1})
    assert "was trained with other parameters" in refused(capsys, "siamese")


def test_outputs_of_an_older_version_are_refused(study: Params, capsys: pytest.CaptureFixture[str]) -> None:
    path = paths.audit("toy", "siamese") / "audit.json"
    files.write_json(path, {key: value for key, value in files.read_json(path).items() if key != "share"})
    assert "made by an older version (share is missing); run dvc repro" in refused(capsys, "siamese")


def test_the_verb_takes_a_generator_or_a_card(study: Params, capsys: pytest.CaptureFixture[str]) -> None:
    assert "name either a generator" in refused(capsys)
    assert "name either a generator" in refused(capsys, "siamese", "--check", "x")
    assert "leave them out with --check" in refused(capsys, "--check", "x", "--images")
    assert "use it with --check" in refused(capsys, "siamese", "--files", "x")


def test_what_is_no_card_is_refused(study: Params, capsys: pytest.CaptureFixture[str]) -> None:
    assert "holds no release_card.json" in refused(capsys, "--check", "released")
    released("siamese")
    path = SIAMESE / CARD
    content = files.read_json(path)
    files.write_json(path, content | {"version": 2})
    assert "is of version 2, but this twinsynth reads version 1" in refused(capsys, "--check", str(SIAMESE))
    files.write_json(path, content | {"format": "other"})
    assert "is not a release card" in refused(capsys, "--check", str(SIAMESE))
    outside = content["files"][0] | {"path": "../secret"}
    files.write_json(path, content | {"files": [outside]})
    assert "'../secret' does not lie below" in refused(capsys, "--check", str(SIAMESE))
