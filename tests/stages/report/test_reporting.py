"""The report: self-contained, escaped, the same bytes twice; its curves and pictures by hand."""

import base64
import hashlib
import html.parser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet, png, write_image
from pipeline.stages.report import audit, gallery, identity, losses, pictures, score_figures, training_history
from pipeline.stages.report.content import data_summary, training_lengths
from pipeline.stages.report.figures import Point, loss_curves, multiplier_curve
from pipeline.stages.report.identity import as_yaml
from pipeline.stages.report.page import page, write_report
from pipeline.study import Params, load_params
from tests.conftest import REPOSITORY, TOY_STUDY, blob
from tests.explained import unexplained
from tests.finished_study import leave_results


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def study(toy_study: Params) -> Params:
    """A study of which every stage has left its files."""
    leave_results()
    return toy_study


def test_suspected_copies_are_listed(study: Params) -> None:
    text = Page(page(study)).text
    for found in ("0.125", "0.750", "0.031", "p0_c0", "p<1>", "horizontal"):
        assert found in text


def test_closest_pairs_are_shown_and_mirrored_as_they_fit(study: Params) -> None:
    (found,) = audit.audits("toy", study.generators, study.audit.pictures)
    real = ImageSet.open(paths.real("toy"))
    nearest = np.moveaxis(real.image(next(row for row in real if row["id"] == "train_3")), 0, -1)
    assert found.pairs[0].real == pictures.photo(nearest[:, ::-1])
    assert [(pair.suspect, pair.own_source) for pair in found.pairs] == [(True, False), (False, True)]
    assert "suspect</strong>, pixels: 0.278<" in page(study)


def test_most_and_least_faithful_images_are_shown(study: Params) -> None:
    assert gallery.extremes("toy", study.generators) == {}
    rows = [{"id": f"train_{n}_c0", "dice": value} for n, value in enumerate([0.5, 0.1, 0.9, "", 0.7, 0.2, 0.3])]
    tables.write_table(paths.scores("toy", "siamese") / "images.csv", rows)
    found = gallery.extremes("toy", study.generators)["siamese"]
    assert [image.dice for image in found["most faithful"]] == [0.9, 0.7, 0.5, 0.3]
    assert [image.id for image in found["least faithful"]][:2] == ["train_1_c0", "train_5_c0"]
    assert "siamese, most faithful: train_2_c0 with the outline of its mask, Dice 0.900" in page(study)


def test_validation_and_samples_over_training_are_shown_where_they_were_kept(study: Params) -> None:
    assert training_history.strips("toy", study.generators) == {}
    assert list(training_history.validation_losses("toy", study.generators)) == []
    folder = paths.generator("toy", "siamese")
    tables.write_table(folder / "validation.csv", [{"step": 2, "mask": 0.5}, {"step": 4, "mask": 0.25}])
    for step in range(2, 24, 2):  # 11 moments, of which 8 are shown
        files.write_bytes(folder / "samples" / f"{step:06d}.png", png(np.full((3 * 32, 64, 3), step, np.uint8)))
    labels = [strip.label for strip in training_history.strips("toy", study.generators)["siamese"]]
    assert labels[:3] == ["masks", "real", "step 2"] and labels[-1] == "step 22" and len(labels) == 10
    assert "Validation loss of validation siamese: mask from 0.5 to 0.25." in page(study)
    assert "the same masks at several moments" in page(study)


def test_hashes_name_what_the_study_is_made_of(study: Params) -> None:
    found = {
        what: (which, value)
        for what, which, value in identity.hashes("toy", study.generators, study.training_sets, as_yaml(study))
    }
    assert found["real images"] == ("15 pairs", ImageSet.open(paths.real("toy")).digest)
    assert found["synthetic images of siamese"][0] == "16 pairs"
    text = page(study)
    assert all(value in text for _, value in found.values())


def test_images_without_masks_are_told_where_the_base_saw_some(study: Params) -> None:
    assert "without masks" not in data_summary("toy", "phantom")
    folder, spec = paths.unlabelled("toy"), ImageSet.open(paths.real("toy")).spec
    images = ImageSet.finish(folder, spec, [write_image(folder, blob(spec, "unlabelled", n)) for n in range(5)])
    record = {"fingerprint": "1", "unlabelled": {"images": 5, "digest": images.digest}}
    files.write_json(paths.base("toy") / "manifest.json", record)
    assert "The base was pretrained on 5 images without masks too." in page(study)
    hashes = identity.hashes("toy", study.generators, study.training_sets, "")
    assert ("unlabelled images", "5 images", images.digest) in hashes


def test_cross_fitted_judges_are_named_with_their_weights_and_curves(study: Params) -> None:
    assert "two judges" not in page(study)
    crossed = parse(Params, study.model_dump(mode="json") | {"judge": {"segmenter": "unet", "cross_fit": True}})
    folder = paths.judge("toy")
    tables.write_table(folder / "folds.csv", [{"id": "train_0", "fold": 0}, {"id": "train_1", "fold": 1}])
    for fold in range(2):
        files.write_bytes(folder / f"fold_{fold}" / "weights.safetensors", b"weights")
        tables.write_table(folder / f"fold_{fold}" / "losses.csv", [{"step": 0, "dice": 0.5}])
    lines = identity.hashes("toy", study.generators, study.training_sets, as_yaml(crossed))
    named = [line[:2] for line in lines if line[0].startswith("judge")]
    assert named == [(f"judge fold {fold}", "weights.safetensors") for fold in range(2)]
    assert {"judge fold 0", "judge fold 1"} <= {run.name for run in losses.read_runs("toy", study.generators)}
    text = " ".join(Page(page(crossed)).text.split())
    assert "an image is judged by the one that has not seen the pair of its mask" in text


def test_a_page_that_is_too_large_shows_smaller_pictures(study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = len(page(study).encode())
    monkeypatch.setattr("pipeline.stages.report.page.SHARED", whole)
    smaller = len(page(study).encode())
    assert smaller < whole
    monkeypatch.setattr("pipeline.stages.report.page.SHARED", 1000)
    assert len(page(study).encode()) < smaller  # the smallest pictures
    monkeypatch.setattr("pipeline.stages.report.page.LARGEST", 1000)
    with pytest.raises(UserError, match=r"more than 0; show fewer pictures: report\.samples is 8"):
        page(study)


def test_figures_lie_beside_the_page_for_papers(study: Params) -> None:
    files.write_bytes(paths.report("toy") / "figures" / "old.svg", b"of before")
    write_report(study)
    found = {path.name for path in (paths.report("toy") / "figures").iterdir()}
    assert {"multiplier_curve_unet.svg", "multiplier_curve_unet.png", "map_siamese.svg", "samples_siamese.png"} <= found
    assert {"differences_unet.svg", "loss_finetune_siamese.png", "steps_siamese_faithfulness.svg"} <= found
    assert "old.svg" not in found
    drawn = (paths.report("toy") / "figures" / "multiplier_curve_unet.svg").read_text()
    assert "currentColor" not in drawn and "<dc:date>" not in drawn


def test_screening_is_shown_where_a_set_is_screened(study: Params) -> None:
    assert "<h2>Screening</h2>" not in page(study)
    sets = {"real": {}, "strict": {"generator": "siamese", "multiplier": 2, "screen": 0.25, "drop_copies": True}}
    params = parse(Params, TOY_STUDY | {"training_sets": sets})
    dropped = [{"id": "train_<0>_c0", "dice": 0.1234, "rules": ["screen", "drop_copies"]}]
    record = {"generator": "siamese", "images": 16, "kept": 3, "dropped": {"screen": 12, "drop_copies": 2}}
    record |= {"dice_threshold": 0.6127, "mean_dice": {"before": 0.3751, "after": 0.6754}, "dropped_images": dropped}
    files.write_json(paths.training_set("toy", "strict") / "screening.json", record)
    text = page(params)
    assert unexplained(text) == []
    section = text[text.index("<h2>Screening</h2>") :]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", section, re.DOTALL)]
    asked = "the most faithful 25 %; no suspected copy"
    assert rows[1] == ["siamese", asked, "16", "3", "12", "–", "2", "0.613", "0.375", "0.675"]
    assert rows[3] == ["train_&lt;0&gt;_c0", "0.123", "screen, drop_copies"]


def test_masks_without_a_training_image_are_shown_without_one(study: Params) -> None:
    made = ImageSet.open(paths.synthetic("toy", "siamese"))
    rows = [row | {"source_id": "shapes", "mask_id": row["id"][:7], "transform": "{}"} for row in made]
    ImageSet.finish(made.folder, made.spec, rows)
    shown = gallery.examples("toy", study.generators, study.report.samples)["siamese"]
    assert len(shown) == 8 and all(example.real is None for example in shown)
    assert "<span>none</span>" in page(study)


def test_examples_show_the_mask_that_was_followed(study: Params) -> None:
    made = ImageSet.open(paths.synthetic("toy", "siamese"))
    row = next(row for row in made if row["id"] == "train_0_c0")
    turned = made.mask(row)[:, ::-1]
    files.write_bytes(made.folder / row["mask"], png(turned))
    own = {row["id"]: {"mask_sha256": files.sha256(made.folder / row["mask"])}}
    ImageSet.finish(made.folder, made.spec, [other | own.get(other["id"], {}) for other in made])
    shown = gallery.examples("toy", study.generators, study.report.samples)["siamese"][0]
    assert shown.mask == pictures.uri(pictures.colours(pictures.enlarge(turned)))


def test_page_fetches_nothing_and_runs_only_its_own_script(study: Params) -> None:
    found = Page(page(study))
    tags = [tag for tag, _ in found.tags]
    assert not {"iframe", "object", "base"} & set(tags)
    assert (tags.count("script"), tags.count("style"), tags.count("link")) == (1, 1, 1)
    for tag, attributes in found.tags:
        assert not any(name == "style" or name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name) or "#"
            assert target.startswith(("data:image/png;base64,", "data:,", "#")), (
                tag,
                target,
            )
    assert not re.search(r"url\((?!#)|@import", page(study))


def test_policy_allows_the_script_and_style_of_the_page_and_pictures_within_it(study: Params) -> None:
    text = page(study)
    hashes = []
    for tag in ("script", "style"):
        (inner,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        hashes.append("'sha256-" + base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode() + "'")
    (policy,) = [
        about["content"] for tag, about in Page(text).tags if about.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy).split(";"))
    expected = {"default-src": "'none'", "script-src": hashes[0], "style-src": hashes[1], "img-src": "data:"}
    assert rules == expected | {"base-uri": "'none'", "form-action": "'none'"}


def test_verdict_comes_first_and_is_escaped(study: Params) -> None:
    text = page(study)
    assert "<b>" not in text
    assert "Inconclusive: <b>& so</b> it is." in Page(text).text
    body = text[text.index("<body>") :]
    assert body.index("Inconclusive:") < body.index("<svg")


def test_title_and_names_are_escaped(study: Params) -> None:
    values = study.model_dump(mode="json") | {"report": {"title": "<script>alert(1)</script>"}}
    assert "alert(1)</script>" not in page(parse(Params, values))


def test_numbers_stand_in_the_tables(study: Params) -> None:
    text = " ".join(Page(page(study)).text.split())
    assert "0.812 [0.762, 0.863]" in text.replace("0.813", "0.812").replace("0.862", "0.863")  # Dice of siamese_x1
    assert "0.042" in text  # its adjusted p
    assert "231.2" in text
    assert "81.5" in text  # the floor
    assert "too few" in text
    assert "0.876" in text or "0.877" in text  # the judge
    assert "-0.000" not in text  # real_again differs by -0.00001


def test_the_comparison_tells_harm_choice_trend_spread_and_needs(study: Params) -> None:
    text = " ".join(Page(page(study)).text.split())
    for told in ("0.457", "-0.234", "0.012", "one of 3 clusters"):  # p (equal), worst tenth, SD between seeds
        assert told in text.replace("-0.235", "-0.234")
    assert (
        "0<1<2: the ranks go up (Page’s test: p = 0.0031 over test images of these models, 0.0417 over seeds)" in text
    )
    rows = [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall("<tr>(.*?)</tr>", page(study), re.DOTALL)
    ]
    assert ["unet", "siamese", "1", "0.832", "0.95", "chosen"] in rows
    assert [
        "unet",
        "siamese",
        "1",
        "0 7",
        '0.079 <span class="quiet range">[0.010, 0.148]</span>',
        "0.032",
        "better",
        "0.033",
        "0.124",
        "0.046",
    ] in rows
    assert [row for row in rows if "1234" in row] == [["unet", "siamese_x1", "1234", "none suffices", "0.068"]]


def lengths(params: Params) -> str:
    return training_lengths(params.segment, params.segmenters)


def test_how_long_segmenters_train_is_told(study: Params) -> None:
    told = " ".join(Page(page(study)).text.split())
    assert "Each arm trains for 2 optimiser steps, with 2 seeds;" in told
    values = study.model_dump(mode="json", exclude_defaults=True)
    values["segment"] = {**values["segment"], "max_steps": None, "epochs": 7}
    epochs = "7 epochs of its training set, so more steps on more images"
    assert lengths(parse(Params, values)) == epochs
    values["segmenters"] |= {"short": {"method": "unet", "segment": {"max_steps": 9}}}
    assert lengths(parse(Params, values)) == f"{epochs} (unet); 9 optimiser steps (short)"


def test_every_generator_shows_mask_real_synthetic_and_overlay(study: Params) -> None:
    images = [about for tag, about in Page(page(study)).tags if tag == "img" and about.get("src")]
    # report.samples is 8, and there are 8 training masks; two pairs of the audit; the first of the samples at the top
    assert len(images) == 4 * 8 + 4 + 4
    assert all(image["alt"] for image in images)


def test_same_study_gives_the_same_bytes(study: Params) -> None:
    write_report(study)
    first = files.tree_sha256(paths.REPORTS)
    program = "from tests.stages.report.test_reporting import again; again()"
    Path("params.yaml").write_text(as_yaml(study), encoding="utf-8")
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "", "PYTHONHASHSEED": "77"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert files.tree_sha256(paths.REPORTS) == first


def again() -> None:
    """Writes the report of params.yaml; called in another process."""
    write_report(load_params())


def test_report_leaves_what_dvc_shows(study: Params) -> None:
    write_report(study)
    numbers = files.read_json(paths.report("toy") / "numbers.json")
    assert numbers["arms"]["unet"]["siamese_x1"]["dice"] == {"mean": 0.8125, "low": 0.7625, "high": 0.8625}
    assert numbers["judge"]["dice"] == 0.8765
    assert numbers["faithfulness"] == {"siamese": 0.61, "shuffled": 0.2}
    assert [row["multiplier"] for row in tables.read_table(paths.report("toy") / "multiplier_curve.csv")] == ["0", "1"]
    totals = tables.read_table(paths.report("toy") / "losses" / "finetune_siamese.csv")
    assert [float(row["loss"]) for row in totals] == pytest.approx([1.5, 1.0, 1 / 3 + 0.75, 1.0], abs=1e-5)


def test_segmenters_show_the_mean_over_seeds(study: Params) -> None:
    (run,) = losses.read_arms("toy", study.segmenters)
    assert run.curves["real"].tolist() == [3.0, 3.0]  # (1 + 1 + 3 + 1) / 2
    assert run.curves["siamese_x1"].tolist() == [6.0, 6.0]


def test_an_arm_that_trains_longer_has_a_longer_curve(study: Params) -> None:
    longer = losses.LossCurves("segment unet", {"real": np.array([2.0, 1.0]), "real_longer": np.array([3.0, 2.0, 1.0])})
    assert longer.total.tolist() == [5.0, 3.0, 1.0]


def test_missing_comparison_names_the_file(study: Params) -> None:
    shutil.rmtree(paths.comparison("toy"))
    with pytest.raises(UserError, match=r"comparison\.json does not exist; run the stage"):
        write_report(study)
    assert not (paths.report("toy") / "index.html").exists()


def test_smoothing_is_the_mean_of_the_last_steps() -> None:
    assert losses.smooth(np.array([1.0, 3.0, 5.0, 7.0]), 2).tolist() == [1.0, 2.0, 4.0, 6.0]


def test_outline_is_where_labels_meet() -> None:
    mask = np.zeros((5, 5), np.uint8)
    mask[2, 2] = 1
    cross = np.zeros((5, 5), bool)
    cross[2, 1:4] = cross[1:4, 2] = True
    assert (pictures.outline(mask) == cross).all()


def test_labels_have_their_own_colours() -> None:
    shown = pictures.colours(np.array([[0, 1, 2]], np.uint8))[0]
    assert len({tuple(pixel) for pixel in shown.tolist()}) == 3


@pytest.mark.parametrize(("size", "shown"), [(32, 256), (64, 256), (192, 192), (256, 256), (352, 256)])
def test_pictures_are_brought_to_one_size(size: int, shown: int) -> None:
    assert pictures.enlarge(np.zeros((size, size, 3), np.uint8)).shape == (shown, shown, 3)


def test_only_pictures_that_were_made_smaller_lose_detail() -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8)
    assert pictures.photo(image, 256).startswith("data:image/jpeg;")
    assert pictures.photo(image[:256, :256], 256) == pictures.uri(image[:256, :256])


def test_outline_on_an_image_is_bright_between_dark_lines() -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[4:12, 4:12] = 1
    drawn = pictures.overlay(np.full((16, 16, 3), 99, np.uint8), mask, 16)
    row = ["line" if (p == pictures.LINE).all() else "halo" if (p == pictures.HALO).all() else "" for p in drawn[8]]
    assert row[:8] == ["", "halo", "line", "line", "line", "line", "halo", ""]


def test_examples_pair_each_mask_with_its_own_synthetic_image(study: Params) -> None:
    synthetic = ImageSet.open(paths.synthetic("toy", "siamese"))
    made = {row["source_id"]: row for row in synthetic if row["copy"] == 0}
    for example in gallery.examples("toy", study.generators, study.report.samples)["siamese"]:
        image = np.moveaxis(synthetic.image(made[example.id]), 0, -1)
        assert example.synthetic == pictures.uri(pictures.enlarge(image))


def test_samples_are_spread_over_the_set() -> None:
    rows = [{"id": number} for number in range(9)]
    assert [row["id"] for row in gallery.spread(rows, 3)] == [0, 4, 8]
    assert gallery.spread(rows, 20) == rows


def test_map_and_snapshots_are_drawn(study: Params) -> None:
    (drawn,) = score_figures.feature_maps("toy", study.generators)
    assert all(kind in drawn.inline() for kind in ("train", "test", "synthetic"))
    assert "1 train, 1 test, 1 synthetic images" in drawn.alt_text
    assert [(one.caption, one.alt_text) for one in score_figures.snapshots("toy", study.generators)] == [
        ("siamese: faithfulness", "siamese: faithfulness over optimiser steps: 0.1 at 1, 0.2 at 2.")
    ]
    assert "Quality over training" in page(study)


def test_without_features_and_snapshots_their_sections_are_left_out(study: Params) -> None:
    tables.write_table(paths.scores("toy", "siamese") / "map.csv", [], ("kind", "id", "x", "y"))
    tables.write_table(paths.snapshots("toy", "siamese") / "steps.csv", [], ("step", "score", "value", "low", "high"))
    text = page(study)
    assert "Quality over training" not in text and "Where the images lie" not in text


def test_multiplier_curve_draws_a_line_per_generator() -> None:
    curves = {"siamese": [Point(0, 0.7, 0.6, 0.8), Point(2, 0.9, 0.8, 1.0)], "a<b": [Point(1, 0.5, 0.4, 0.6)]}
    svg = multiplier_curve("unet", curves, Point(0, 0.7, 0.6, 0.8)).inline()
    assert svg.startswith("<svg")
    assert "a&lt;b" in svg
    assert "currentColor" in svg  # axes follow the page's mode
    assert svg == multiplier_curve("unet", curves, Point(0, 0.7, 0.6, 0.8)).inline()
    assert "style=" not in svg and "<style" not in svg  # forbidden by the page's policy
    assert 'aria-label="Dice over the multiplier, unet. Real images only: 0.700.' in svg
    assert "more real images" not in svg


def test_multiplier_curve_draws_what_more_real_images_reach_as_a_line() -> None:
    reference = Point(0, 0.7, 0.6, 0.8)
    svg = multiplier_curve("unet", {"siamese": [reference, Point(2, 0.7, 0.6, 0.8)]}, reference, {"all": 0.85}).inline()
    assert "all: more real images" in svg
    assert "Real images only: 0.700. all, more real images: 0.850. siamese" in svg


def test_a_loss_of_zero_can_be_drawn() -> None:
    assert "<svg" in loss_curves("finetune", {"online": np.array([0.0, 0.0, 1.0])}).inline()


def test_shown_parameters_give_the_same_study(study: Params, tmp_path: Path) -> None:
    (tmp_path / "shown.yaml").write_text(as_yaml(study), encoding="utf-8")
    assert load_params(tmp_path / "shown.yaml") == study


def test_report_shows_no_place_of_this_machine() -> None:
    data = {**TOY_STUDY["data"], "root": "/srv/someone/kvasir"}
    text = as_yaml(parse(Params, {**TOY_STUDY, "data": data}))
    assert "someone" not in text and "root: elsewhere/kvasir" in text
