"""Facts of the CSV files and of pages that need no server."""

import base64
import csv
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.cli.main import main
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.data.ratings import read_ratings
from pipeline.evaluation.feature_cache import FeatureCache
from pipeline.methods.image_metrics import mos
from pipeline.stages.score.params import Score
from pipeline.study import Params
from pipeline.web.rating import pages, raters, ratings_csv
from pipeline.web.rating.database import Database
from pipeline.web.rating.static_pages import write_pages
from pipeline.web.rating.study_database import begin_study
from tests.conftest import REPOSITORY, TOY_STUDY
from tests.rated import Visitor, browser, fresh, saved

HEADER = "image,quality,real,remark,rating\n"


@pytest.fixture
def database(toy_study: Params) -> Database:
    """Four real and four synthetic images."""
    return begin_study(toy_study, 4)


def export(database: Database, path: Path) -> int:
    with database.reading() as connection:
        return ratings_csv.export_ratings(connection, path)


def take_in(database: Database, path: Path, *, replace: bool = False) -> int:
    with database.writing() as connection:
        return ratings_csv.import_ratings(connection, path, replace=replace)


def images_of(database: Database, name: str) -> list[tuple[str, str]]:
    """Opaque id and arm, in the rater's order."""
    with database.writing() as connection:
        rater = raters.find_rater(connection, raters.ensure_rater(connection, name))
        rows = "SELECT image, arm FROM tasks JOIN images USING (item) WHERE rater = ? ORDER BY position"
        return connection.execute(rows, (rater.number,)).fetchall()


def test_score_reads_what_export_writes(database: Database) -> None:
    client = browser(database)
    ann, ben = (Visitor.enter(client, name) for name in ("Ann", "Ben"))
    for k in range(8):
        ann.rate(quality=1 + k % 5, looks_real=k % 2 == 0, remark='=cmd|"x"\n,y')
    ben.rate(quality=2, looks_real=False)
    path = paths.ratings("toy") / "ratings.csv"
    assert export(database, path) == 9
    found = read_ratings(paths.ratings("toy"))
    arms = [arm for _, arm in images_of(database, "Ann")]
    assert [(one.rater, one.arm, one.quality, one.is_taken_for_real) for one in found[:8]] == [
        ("Ann", arm, 1 + k % 5, k % 2 == 0) for k, arm in enumerate(arms)
    ]
    assert {one.image for one in found if one.arm == "real"} == {f"test_{k}" for k in range(4)}
    assert (found[8].rater, found[8].quality, found[8].is_taken_for_real) == ("Ben", 2, False)
    lines = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert lines[0]["remark"] == '\'=cmd|"x" ,y'  # no spreadsheet computes it
    assert [line["position"] for line in lines] == [*map(str, range(1, 9)), "1"]


def test_the_exported_ratings_become_scores(database: Database) -> None:
    for name, quality in (("Ann", {"real": 5, "siamese": 2}), ("Ben", {"real": 4, "siamese": 3})):
        visitor, arms = Visitor.enter(browser(database), name), dict(images_of(database, name))
        for _ in arms:
            arm = arms[visitor.progress()["image"]]
            visitor.rate(quality=quality[arm], looks_real=name == "Ben" or arm == "real")
    export(database, paths.ratings("toy") / "ratings.csv")
    sets = ImageSet.open(paths.real("toy")), ImageSet.open(paths.synthetic("toy", "siamese"))
    cache = FeatureCache({}, {}, {}, Score(extractors=(), resamples=100), 0, Runtime(torch.device("cpu")))
    found = {score.name: score for score in mos.score(*sets, cache)}
    assert (found["mos"].value, found["mos"].floor, found["mos_real"].value) == (2.5, 4.5, 4.5)
    assert found["turing_accuracy"].value == 12 / 16  # Ben takes all 8 for real
    assert found["icc_2k"].n == 8


def test_taken_back_ratings_are_not_exported(database: Database, tmp_path: Path) -> None:
    ann = Visitor.enter(browser(database), "Ann")
    ann.post("/api/undo", {"rating": ann.rate()["rating"]})
    assert export(database, tmp_path / "x.csv") == 0


def sheet(path: Path, rows: list[tuple[object, ...]]) -> Path:
    path.write_text(HEADER + "".join(",".join(map(str, row)) + "\n" for row in rows), encoding="utf-8-sig")
    return path


def test_a_saved_page_s_file_is_joined_with_its_images(database: Database, tmp_path: Path) -> None:
    images = images_of(database, "Ann")
    rows = [(image, 1 + k % 5, k % 2, f'"remark, {k}"', fresh()) for k, (image, _) in enumerate(images)]
    half, whole = sheet(tmp_path / "half.csv", rows[:3]), sheet(tmp_path / "whole.csv", rows)
    assert [take_in(database, path) for path in (half, half, whole, whole)] == [3, 0, 5, 0]
    export(database, paths.ratings("toy") / "x.csv")
    found = read_ratings(paths.ratings("toy"))
    assert [(one.arm, one.quality, one.is_taken_for_real) for one in found] == [
        (arm, 1 + k % 5, k % 2 == 1) for k, (_, arm) in enumerate(images)
    ]


def test_an_imported_rating_is_replaced_only_where_that_is_asked_for(database: Database, tmp_path: Path) -> None:
    (first, _), (second, _), *_ = images_of(database, "Ann")
    take_in(database, sheet(tmp_path / "a.csv", [(first, 5, 1, "", "a" * 32)]))
    later = sheet(tmp_path / "b.csv", [(second, 4, 1, "", "b" * 32), (first, 1, 0, "", "c" * 32)])
    with pytest.raises(UserError, match=r"b.csv, line 3: this image is rated already"):
        take_in(database, later)
    assert len(saved(database)) == 1  # all of a file or nothing
    assert take_in(database, later, replace=True) == 2
    assert [(row[0], row[2]) for row in saved(database)] == [("b" * 32, 4), ("c" * 32, 1), ("a" * 32, 5)]


def test_all_faults_of_a_file_are_told_at_once(database: Database, tmp_path: Path) -> None:
    image = images_of(database, "Ann")[0][0]
    rows = [("0" * 32, 5, 1, "", fresh()), (image, 7, 1, "", fresh()), (image, 5, "yes", "", fresh()), (image, 5, 1)]
    with pytest.raises(UserError) as caught:
        take_in(database, sheet(tmp_path / "x.csv", [*rows, (image, 5, 1, "y" * 1001, fresh())]))
    assert [line.split(": ", 1)[1] for line in str(caught.value).splitlines()[1:]] == [
        f"the image '{'0' * 32}' is not of this study",
        "quality is '7' and real '1'; they are 1 to 5 and 0 or 1",
        "quality is '5' and real 'yes'; they are 1 to 5 and 0 or 1",
        "'' is no id of a rating",
        "a remark has at most 1000 characters",
    ]
    (tmp_path / "y.csv").write_text("rater,image,arm,quality,real\n")
    with pytest.raises(UserError, match="no column remark, rating; is it the file that a rating page saved"):
        take_in(database, tmp_path / "y.csv")
    (tmp_path / "z.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a CSV file in UTF-8"):
        take_in(database, tmp_path / "z.csv")


def embedded(html: str) -> dict:
    found = re.search(r'<script type="application/json" id="study">(.*?)</script>', html)
    assert found
    return json.loads(found[1])


def test_a_saved_page_holds_one_rater_s_images_and_no_source(database: Database, tmp_path: Path) -> None:
    paths_written = write_pages(database, ["Ann", "Dr. Ö. Ben"], tmp_path)
    assert [path.name for path in paths_written] == ["rate_ann.html", "rate_dr._ö._ben.html"]
    assert {path.stat().st_mode & 0o777 for path in paths_written} == {0o600}
    html = paths_written[0].read_text(encoding="utf-8")
    study = embedded(html)
    assert [image["id"] for image in study["images"]] == [image for image, _ in images_of(database, "Ann")]
    pngs = [base64.b64decode(image["png"]) for image in study["images"]]
    assert len(set(pngs)) == 8
    assert len(set(map(len, pngs))) == 1
    text = html.replace(html[html.index('id="study">') : html.index("</script>")], "") + json.dumps(study)
    assert not any(word in text for word in ("siamese", "toy", "blobs", "train_", "test_"))
    assert not re.search(r"https?://|src=\"[^\"]|@import|url\(", text)


def test_the_policy_of_a_page_allows_its_own_script_and_style_alone() -> None:
    tasks = [("0" * 32, b"png")]
    for page, connect in ((pages.served_page(), "'self'"), (pages.saved_page("Ann", tasks), "'none'")):
        for element, rule in (("style", "style-src"), ("script", "script-src")):
            content = re.findall(f"<{element}>(.*?)</{element}>", page.html, re.DOTALL)
            assert len(content) == 1
            digest = base64.b64encode(hashlib.sha256(content[0].encode()).digest()).decode()
            assert f"{rule} 'sha256-{digest}'" in page.policy
        assert f"connect-src {connect};" in page.policy
        assert not re.search(r"\son\w+=|\sstyle=|<!--", page.html)
    assert pages.saved_page("Ann", tasks).policy in pages.saved_page("Ann", tasks).html


def test_a_name_cannot_end_the_element_in_which_it_stands() -> None:
    page = pages.saved_page("</script><script>alert(1)</script><!--script-->", [])
    assert page.html.count("</script>") == 2
    assert embedded(page.html)["name"].startswith("</script>")


def test_names_that_give_one_file_are_refused(database: Database, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="would get the same file"):
        write_pages(database, ["Ann B", "Ann.B", "ann b"], tmp_path)


def test_the_command(toy_study: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").write_text(json.dumps(TOY_STUDY))
    assert main(["rate", "export"]) == 2
    assert "ratings/toy/rating.sqlite does not exist" in capsys.readouterr().err
    assert main(["rate", "static", "--rater", "Ann", "--images", "3", "--to", "out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"files": ["out/rate_ann.html"]}
    study = embedded(Path("out/rate_ann.html").read_text(encoding="utf-8"))
    rows = [(image["id"], 3, 0, "", fresh()) for image in study["images"]]
    sheet(Path("back.csv"), rows)
    assert main(["rate", "import", "back.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"new": {"back.csv": 6}}
    assert main(["rate", "export", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == {"file": "ratings/toy/ratings.csv", "ratings": 6}
    assert "score.metrics in params.yaml lacks mos" in told.err
    Path("params.yaml").write_text(json.dumps({**TOY_STUDY, "score": {"metrics": ["mos"]}}))
    assert main(["rate", "export"]) == 0
    assert capsys.readouterr().err == ""
    assert len(read_ratings(paths.ratings("toy"))) == 6
    assert main(["rate", "serve", "--port", "99999"]) == 2
    assert "cannot listen at 127.0.0.1, port 99999" in capsys.readouterr().err
    assert main(["rate", "serve", "--rater", "<Ann>"]) == 2


def test_help_is_light() -> None:
    heavy = "{'torch', 'fastapi', 'pydantic', 'sqlite3', 'numpy'}"
    declare = "rate.add(argparse.ArgumentParser().add_subparsers())"
    imports = "import argparse, sys\nfrom pipeline.cli.verbs import rate"
    program = f"{imports}\n{declare}\nsys.exit(bool({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)


def test_the_application_needs_no_torch() -> None:
    program = "import sys; from pipeline.web.rating import app, study_database; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)
