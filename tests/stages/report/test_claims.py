"""What papers claim beside what a study has measured: cells are checked, recalled ones never shown, numbers agree."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.core.section import parse, read_yaml
from pipeline.metrics.segmentation import pooled
from pipeline.stages.compare.comparison import compare
from pipeline.stages.compare.design import Design
from pipeline.stages.report import paper_claims
from pipeline.stages.report.claimed_and_measured import Measured, ScoredStudy, claim_tables, measure
from pipeline.stages.report.page import page
from pipeline.stages.report.paper_claims import Cell, read_cells, read_claims, read_studies
from pipeline.stages.segment.protocol import COLUMNS, OPTIONAL_METRICS
from pipeline.study import Params, load_params
from tests.conftest import REPOSITORY, TOY_STUDY
from tests.explained import unexplained
from tests.finished_study import leave_results

SHIPPED = REPOSITORY / paper_claims.FOLDER
NO_CELLS = (paper_claims.STUDIES, "settings.csv")
FILES = sorted(path for path in SHIPPED.glob("*.csv") if path.name not in NO_CELLS)
SETS = tuple(TOY_STUDY["training_sets"])
LEVEL = {"study": "toy", "segmenter": "unet", "training_set": "real", "score": "dice", "method": "U-Net <A>"}
LEVEL |= {"metric": "DSC", "value": "0.815", "known": "read", "place": "Table 1"}
LEVEL = dict.fromkeys(Cell.__dataclass_fields__, "") | LEVEL


def leave_cells(*cells: dict[str, str], study: str = "toy") -> None:
    line = {"study": study, "file": "paper.csv", "paper": "Someone 2023", "differences": "Theirs is larger."}
    tables.write_table(paper_claims.FOLDER / paper_claims.STUDIES, [line])
    tables.write_table(paper_claims.FOLDER / "paper.csv", [LEVEL | cell for cell in cells])


def leave_scores(segmenter: str, gain: float) -> None:
    """scores.csv of all training sets, two seeds, images of which one has no hd95, and protocol.csv."""
    rng, rows = np.random.default_rng(len(segmenter)), []
    for place, name in enumerate(SETS):
        for seed in (0, 1):
            for split, count in (("val", 3), ("test", 4)):
                for image in range(count):
                    dice = round(0.5 + gain + 0.01 * place + float(rng.normal(0, 0.02)), 6)
                    row = {"segmenter": segmenter, "training_set": name, "seed": seed, "split": split}
                    row |= {"test_set": "blobs", "image": f"{split}_{image}", "area": 0.1, "dice": dice}
                    rows.append(row | {"iou": dice - 0.1, "hd95": "" if image == 0 else 10 * image + seed})
    folder = paths.segmentation("toy", segmenter)
    tables.write_table(folder / "scores.csv", rows)
    loss = {"segmenter": segmenter, "training_set": "real", "seed": 0, "ce": 1.0}
    tables.write_table(folder / "losses.csv", [loss | {"step": step} for step in range(2)])
    lines: list[dict[str, Any]] = []
    for name in SETS:
        dice = np.mean([row["dice"] for row in rows if (row["training_set"], row["split"]) == (name, "test")])
        line = {"segmenter": segmenter, "training_set": name, "dice": dice, "hd95": 20.5, "iou": dice - 0.1}
        for kind, dsc in (("test_set", 0.1), ("weighted", 0.8 + gain)):
            lines.append(line | {"kind": kind, "dsc_pooled": dsc})
    tables.write_table(folder / "protocol.csv", lines)


@pytest.fixture
def study(toy_study: Params) -> Params:
    """A finished study of two segmenters."""
    leave_results()
    entry = TOY_STUDY["segmenters"]["unet"]
    values = TOY_STUDY | {"segmenters": {"unet": entry, "other": {"method": "unet", **entry}}}
    leave_scores("unet", 0.0)
    leave_scores("other", 0.2)
    return parse(Params, values | {"compare": {"resamples": 400, "segmenters": {"reference": "unet"}}})


def scored(params: Params) -> ScoredStudy:
    design = Design(params.compare, params.training_sets, len(params.segmenters), params.seed)
    return ScoredStudy(params.study, params.segmenters, params.segment.seeds, design)


def measured(params: Params, **changes: str) -> Measured:
    found = measure(scored(params), Cell(**(LEVEL | changes)))
    assert found is not None
    return found


def test_means_and_differences_are_those_of_the_comparison(study: Params) -> None:
    record = compare(study).record()
    arm = next(row for row in record["arms"] if (row["segmenter"], row["training_set"]) == ("unet", "siamese_x1"))
    gain = measured(study, training_set="siamese_x1", against="real", unit="points")
    expected = [100 * arm[f"difference{end}"] for end in ("", "_low", "_high")]
    assert [gain.mean, gain.low, gain.high] == pytest.approx(expected, abs=1e-12)
    iou = measured(study, training_set="siamese_x1", against="real", score="iou")
    assert [iou.low, iou.high] == pytest.approx([arm["difference_iou_low"], arm["difference_iou_high"]], abs=1e-12)
    rows = {row["segmenter"]: row for row in record["segmenters"]}
    level = measured(study, segmenter="other")
    assert [level.mean, level.low, level.high] == [rows["other"][key] for key in ("mean", "low", "high")]
    between = measured(study, segmenter="other", against="unet")
    expected = [rows["other"][f"difference{end}"] for end in ("", "_low", "_high")]
    assert [between.mean, between.low, between.high] == pytest.approx(expected, abs=1e-12)


def test_images_without_a_score_are_left_out(study: Params) -> None:
    """Images 1 to 3 of seeds 0 and 1: 10, 20, 30 and 11, 21, 31."""
    found = measured(study, score="hd95", unit="mm")
    assert found.mean == pytest.approx(20.5)
    assert found.high is not None and found.high > 31


def test_pooled_scores_and_percentages_have_no_interval(study: Params) -> None:
    assert measured(study, score="dsc_pooled") == Measured(0.8)
    relative = measured(study, segmenter="other", against="unet", score="dsc_pooled", unit="%")
    assert relative.mean == pytest.approx(25.0) and relative.low is None
    assert measured(study, training_set="siamese_x1", against="real", score="dsc_pooled").mean == pytest.approx(0)


@pytest.mark.parametrize(
    "changes",
    [
        {"segmenter": "gone"},
        {"training_set": "gone"},
        {"against": "gone"},
        {"against": "real_again"},  # differences are those to the reference
        {"score": "ged"},
    ],
)
def test_nothing_stands_beside_what_the_study_lacks(study: Params, changes: dict[str, str]) -> None:
    assert measure(scored(study), Cell(**(LEVEL | changes))) is None


def test_recalled_numbers_and_those_without_a_counterpart_are_no_claims(study: Params) -> None:
    recalled, alone = {"known": "recalled"}, {"segmenter": "", "training_set": "", "score": ""}
    leave_cells({"known": "corroborated"}, recalled, alone, {"study": "another"})
    (paper,) = read_claims("toy")
    assert [cell.known for cell in paper.cells] == ["corroborated"]
    leave_cells(recalled)
    assert read_claims("toy") == [] and claim_tables(scored(study)) == []
    leave_cells({}, study="another")
    assert read_claims("toy") == []


def test_the_page_shows_claim_and_measurement_side_by_side(study: Params) -> None:
    assert "Claimed and measured" not in page(study)
    gain = {"training_set": "siamese_x1", "against": "real", "unit": "points", "value": "3.6", "metric": "mDice"}
    leave_cells({"spread": "0.095"}, gain, {"segmenter": "other", "against": "unet"}, {"known": "recalled"})
    text = page(study)
    section = text[text.index('<section id="claimed">') : text.index("</section>", text.index('id="claimed"'))]
    assert unexplained(text) == []
    assert '<a href="#claimed">' in text and "Someone 2023" in section and "Theirs is larger." in section
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall("<tr>(.*?)</tr>", section, re.DOTALL)]
    assert len(rows) == 4
    level, difference = measured(study), measured(study, training_set="siamese_x1", against="real", unit="points")
    shown = f'{level.mean:.3f} <span class="quiet range">[{level.low:.3f}, {level.high:.3f}]</span>'
    claimed = '0.815 <span class="quiet">± 0.095</span>'
    assert rows[1] == ["U-Net &lt;A&gt;", "unet", "real", "DSC", claimed, shown, "read", "Table 1"]
    assert rows[2][1:5] == ["unet", "siamese_x1 minus real", "mDice (points)", "3.6"]
    assert rows[2][5].startswith(f"{difference.mean:.1f} ")
    assert rows[3][1:3] == ["other minus unet", "real"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"known": "guessed"},
            r"paper\.csv, line 2: known is 'guessed'; use one of 'read', 'corroborated', 're",
        ),
        ({"value": ".x"}, r"line 2: value is '\.x'; write a number as the paper prints it"),
        ({"value": ""}, "line 2: value is ''; write a number"),
        ({"spread": "about 1"}, "line 2: spread is 'about 1'; write a number"),
        ({"unit": "cm"}, "line 2: unit is 'cm'; use one of '', 'mm', 'points', '%'"),
        ({"unit": "%"}, "line 2: unit is '%', but against is empty; name what the difference is relative to"),
    ],
)
def test_a_wrong_cell_is_named(study: Params, changes: dict[str, str], message: str) -> None:
    leave_cells(changes)
    with pytest.raises(UserError, match=message):
        claim_tables(scored(study))


def test_missing_files_and_columns_are_named(study: Params) -> None:
    leave_cells({})
    path = paper_claims.FOLDER / "paper.csv"
    path.write_text(path.read_text().replace("Table 1", "Table 1,more"))
    with pytest.raises(UserError, match=r"paper\.csv, line 2: found 13 cells under other columns than study, segm"):
        read_claims("toy")
    path.unlink()
    with pytest.raises(UserError, match=r"studies\.csv names paper\.csv, which does not exist; correct the name"):
        read_claims("toy")


def test_dvc_watches_the_claims() -> None:
    deps = read_yaml(REPOSITORY / "dvc.yaml")["stages"]["report"]["deps"]
    assert paper_claims.FOLDER.as_posix() in deps


def shipped_study(name: str) -> Params:
    return load_params(REPOSITORY / "configs" / "studies" / f"{name}.yaml")


def test_every_file_of_claims_belongs_to_studies_that_are_there() -> None:
    lines = read_studies(SHIPPED)
    assert {line.file for line in lines} == {path.name for path in FILES}
    for line in lines:
        assert shipped_study(line.study).study == line.study
        assert line.paper and line.differences.endswith(".") and line.differences.count(". ") == 0
        assert any(paper.paper == line.paper for paper in read_claims(line.study, SHIPPED)), "nothing would be shown"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_cells_name_entries_and_scores_that_their_study_has(path: Path) -> None:
    known = {*COLUMNS, *OPTIONAL_METRICS, *(f"{name}_pooled" for name in pooled.NAMES)}
    studies = {line.study for line in read_studies(SHIPPED) if line.file == path.name}
    seen = set()
    for cell in read_cells(path):
        assert cell.method and cell.metric and cell.place
        key = (cell.study, cell.method, cell.metric, cell.segmenter, cell.training_set)
        assert key not in seen, "a cell stands twice"
        seen.add(key)
        assert cell.known != "recalled" or cell.place.endswith("not legible")
        assert bool(cell.segmenter) == bool(cell.training_set) == bool(cell.score)
        if not cell.segmenter:
            continue
        study = shipped_study(cell.study)
        assert not cell.is_claim or cell.study in studies
        assert cell.segmenter in study.segmenters and cell.training_set in study.training_sets
        assert cell.against in ("", study.compare.reference, *study.segmenters)
        assert cell.score in known
        assert study.segment.pooled or not cell.score.endswith("_pooled")
        assert study.data.reader == "volumes" or not cell.score.endswith("_left_out")


def test_the_pages_of_a_study_without_claims_stay_as_they_are(study: Params) -> None:
    before = page(study)
    leave_cells({}, study="another")
    assert page(study) == before
    files.write_bytes(paper_claims.FOLDER / paper_claims.STUDIES, b"study,file,paper,differences\n")
    assert page(study) == before
