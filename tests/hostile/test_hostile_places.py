"""Places that input names: whatever leads out of data.root is refused, and a refusal tells no more than needed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.data.decoding import Fault
from pipeline.data.image_set import ImageSet
from pipeline.stages.prepare import checked_set
from pipeline.stages.prepare.params import Data
from tests import data_folders
from tests.conftest import REPOSITORY
from tests.drawn_pairs import data, folder
from tests.faults.tally import count

pytestmark = pytest.mark.faults
AWAY = "leads out of data.root"


def away(found: list[Fault]) -> set[str]:
    """Places that are refused because they lead away."""
    return {fault.location for fault in found if AWAY in fault.message}


def faults(settings: Data) -> list[Fault]:
    return list(checked_set.read_pairs(settings).faults)


def test_links_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    root, other = folder(tmp_path / "root", train="a b c d"), folder(tmp_path / "other", train="x")
    for kind in ("images", "masks"):
        (root / kind / "a.png").unlink()
        (root / kind / "a.png").symlink_to(other / kind / "x.png")
    (root / "images" / "b.png").unlink()
    (root / "images" / "b.png").symlink_to(os.path.relpath(other / "images" / "x.png", root / "images"))
    found = faults(data(root=str(root)))
    assert away(found) == {"images/a.png", "masks/a.png", "images/b.png"}
    assert not any(str(tmp_path) in str(fault) for fault in found)


def test_links_that_stay_are_followed(tmp_path: Path) -> None:
    root = folder(tmp_path / "root", train="a b")
    (root / "images" / "a.png").rename(root / "stored.png")
    (root / "images" / "a.png").symlink_to("../stored.png")
    (tmp_path / "linked").symlink_to(root)  # data.root itself may be a link
    assert faults(data(root=str(tmp_path / "linked"))) == []


def test_a_folder_of_images_that_is_a_link(tmp_path: Path) -> None:
    root, other = folder(tmp_path / "root", train="a"), folder(tmp_path / "other", train="a")
    (root / "images").rename(root / "hidden")
    (root / "images").symlink_to(other / "images")
    assert away(faults(data(root=str(root)))) == {"images/a.png"}


def test_lists_are_not_read_from_elsewhere(tmp_path: Path) -> None:
    root = folder(tmp_path / "root", train="a", val="b")
    secret = tmp_path / "secret.txt"
    secret.write_text("of a patient")
    (root / "splits" / "train.txt").unlink()
    (root / "splits" / "train.txt").symlink_to(secret)
    (root / "manifest.csv").symlink_to(secret)
    found = faults(data(root=str(root), source_column="hospital"))
    assert away(found) == {"splits/train.txt", "manifest.csv"}
    assert "of a patient" not in str(found)


PLACES = ("../other/images/x.png", "/etc/hostname", "images/../../other/images/x.png", "{other}/images/x.png")


@pytest.mark.parametrize("place", PLACES)
def test_lines_that_name_files_elsewhere(tmp_path: Path, place: str) -> None:
    root, other = folder(tmp_path / "root", train="a"), folder(tmp_path / "other", train="x")
    named = place.format(other=other)
    (root / "list.json").write_text(f'{{"source": "masks/a.png", "target": "{named}"}}\n')
    found = faults(data("jsonl", file=str(root / "list.json")))
    assert len(found) == 1 and (AWAY in found[0].message or "does not exist" in found[0].message)
    count("malformed")


def test_places_in_the_parameters(tmp_path: Path) -> None:
    root, other = folder(tmp_path / "root", train="a"), folder(tmp_path / "other", train="a")
    for images, where in (
        ("../other/images", "../other/images/a.png"),
        (str(other / "images"), f"{other}/images/a.png"),
    ):
        assert away(faults(data(root=str(root), images=images))) == {where}


VOLUMES: dict[str, Callable[[Path], None]] = {"msd_slices": data_folders.msd, "multirater": data_folders.cimd}


@pytest.mark.parametrize("reader", [*VOLUMES])
def test_links_in_other_layouts(tmp_path: Path, reader: str) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    for place in (root, other):
        VOLUMES[reader](place)
    name = {"msd_slices": "imagesTr/part_000.nii.gz", "multirater": "training/0/label0_.png"}[reader]
    (root / name).unlink()
    (root / name).symlink_to(other / name)
    found = faults(data(reader, root=str(root), num_classes=3 if reader == "msd_slices" else 2))
    assert len(found) == 1 and AWAY in found[0].message


def test_rows_that_lead_out_of_their_set(toy_study: object) -> None:
    real = ImageSet.open(Path("outputs/toy/real"))
    manifest = real.folder / "metadata.jsonl"
    sound = manifest.read_text()
    for column in ("file_name", "mask", "id"):
        for name in ("../x", "/etc/hostname", "images/../../x", "..\\x", "C:\\x", "", ".", "a\\u0000b"):
            first = sound.splitlines()[0].replace(f'"{column}": "{real.rows[0][column]}"', f'"{column}": "{name}"')
            manifest.write_text(first.replace("\\x", "\\\\x") + "\n")
            with pytest.raises(UserError, match=r"metadata.jsonl, line 1 (names the file|has the id|is no JSON)"):
                ImageSet.open(real.folder)
            count("malformed")


NAME = '"a; touch run.txt;"'


@pytest.mark.slow
def test_names_reach_no_shell(tmp_path: Path) -> None:
    """DVC puts names into command lines; the first stage checks them all before another one is run."""
    sys.path.insert(0, str(REPOSITORY))
    from tests.e2e.test_smoke import DVC, clone

    target = clone(tmp_path / "study", "smoke")
    params = (target / "params.yaml").read_text()
    (target / "params.yaml").write_text(
        params.replace("  controlnet: {copies: 1}", f"  controlnet: {{copies: 1}}\n  {NAME}: {{copies: 1}}")
    )
    environment = {**os.environ, "PYTHONPATH": str(target), "HF_HUB_OFFLINE": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run([*DVC, "repro"], cwd=target, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "a name consists of lower-case letters" in done.stdout + done.stderr
    assert not list(target.rglob("run.txt"))
