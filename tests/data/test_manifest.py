"""Facts of manifest and plan: sorted whatever the order and number of rows, small in memory, faults told by line."""

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.contracts import ConditioningMask
from pipeline.core.errors import UserError
from pipeline.data import manifest
from pipeline.data.image_set import MANIFEST, ImageSet
from pipeline.data.sample import DatasetSpec
from pipeline.stages.generate.plan import Plan
from tests.conftest import REPOSITORY


class Numbered(Sequence[ConditioningMask]):
    """As many masks as one likes; none is kept."""

    def __init__(self, count: int) -> None:
        self.count, self.pixels = count, np.ones((2, 2), np.uint8)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, k: int) -> ConditioningMask:  # type: ignore[override]
        return ConditioningMask(f"m_{k:07d}", f"s_{k % 7}", {"turn": k % 4}, self.pixels, "A photo of a blob.", "blobs")


def rows(count: int) -> list[manifest.Row]:
    """Rows in a shuffled order; ids that a tab or a letter beyond ASCII must not upset."""
    made = [{"id": f"{k:04d}\té", "copy": k % 3} for k in range(count)]
    random.Random(0).shuffle(made)
    return made


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 14, 50])
def test_rows_are_sorted_in_runs_as_at_once(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "RUN", 7)
    shuffled = rows(count)
    with manifest.writing(tmp_path, iter(shuffled)) as written:
        assert not (tmp_path / MANIFEST).exists()  # what stands beside it comes first
        assert len(written.read_text().splitlines()) == count
    assert list(manifest.read(tmp_path)) == sorted(shuffled, key=lambda row: row["id"])
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]


def test_one_id_twice_is_refused_and_the_old_manifest_stays(tmp_path: Path) -> None:
    spec = DatasetSpec(name="blobs", size=2)
    ImageSet.finish(tmp_path, spec, [{"id": "a"}])
    with pytest.raises(UserError, match="two images have the id b"):
        ImageSet.finish(tmp_path, spec, [{"id": "b"}, {"id": "a"}, {"id": "b"}])
    assert ImageSet.open(tmp_path).ids == ["a"]


@pytest.mark.parametrize("line", ["{half", "[1]", '{"copy": 1}', ""])
def test_a_damaged_line_is_told_by_its_number(line: str, tmp_path: Path) -> None:
    ImageSet.finish(tmp_path, DatasetSpec(name="blobs", size=2), [{"id": "a"}])
    with (tmp_path / MANIFEST).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match="line 2 is no JSON object with an id"):
        ImageSet.open(tmp_path)


def test_a_set_without_its_spec_is_refused(tmp_path: Path) -> None:
    ImageSet.finish(tmp_path, DatasetSpec(name="blobs", size=2), [{"id": "a"}])
    (tmp_path / "spec.json").unlink()
    with pytest.raises(UserError, match=r"spec\.json is missing"):
        ImageSet.open(tmp_path)


def test_all_first_copies_come_before_all_second_ones() -> None:
    plan = Plan(Numbered(3), copies=2, batch_size=4)
    assert [[image.id for image in batch] for batch in plan] == [
        ["m_0000000_c0", "m_0000001_c0", "m_0000002_c0", "m_0000000_c1"],
        ["m_0000001_c1", "m_0000002_c1"],
    ]
    assert len(plan) == 2 and plan.images == 6
    with pytest.raises(IndexError):
        plan[2]


def test_small_sets_lie_flat_and_large_ones_in_folders_of_a_thousand() -> None:
    assert {image.shelf for batch in Plan(Numbered(5000), 2, 1000) for image in batch} == {""}
    large = Plan(Numbered(10_500), copies=1, batch_size=300)
    shelves = [image.shelf for batch in large for image in batch]
    assert shelves[999:1001] == ["000000", "000001"]
    assert max(shelves.count(name) for name in set(shelves)) == 1000 and len(set(shelves)) == 11


MEMORY = """
import json, resource, sys
from pathlib import Path
from pipeline.data import manifest
from pipeline.stages.generate import provenance
from pipeline.stages.generate.plan import Plan
from tests.data.test_manifest import Numbered

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def rows(plan):
    for batch in plan:
        for image in batch:
            yield {"id": image.id, **provenance.image_columns(SHARED, image.mask, image.copy, 2**60)}

SHARED = {"generator": "siamese", "generator_sha256": "0" * 64, "synthetic": True}
masks, copies, written = (int(word) for word in sys.argv[1:4])
idle = peak()
plan, images = Plan(Numbered(masks), copies, 32), 0
for batch in plan:
    images += len(batch)
first = next(iter(plan))[0].id
with manifest.writing(Path(sys.argv[4]), rows(Plan(Numbered(written // copies), copies, 32))):
    pass
sys.stdout.write(json.dumps({"images": images, "more": peak() - idle}))
"""


def memory(folder: Path, masks: int, copies: int, written: int) -> dict[str, int]:
    """Images of a plan, and by how many MB the peak of a process rose when it iterated them and wrote a manifest."""
    program = [sys.executable, "-c", MEMORY, str(masks), str(copies), str(written), str(folder)]
    done = subprocess.run(program, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_million_planned_images_need_little_memory(tmp_path: Path) -> None:
    """All of them iterated; a manifest of three sorted runs written."""
    found = memory(tmp_path, masks=250_000, copies=4, written=60_000)
    assert found["images"] == 1_000_000
    assert found["more"] <= 200
    with (tmp_path / MANIFEST).open() as file:
        assert sum(1 for _ in file) == 60_000


@pytest.mark.slow
def test_the_manifest_of_a_million_images_needs_little_memory(tmp_path: Path) -> None:
    found = memory(tmp_path, masks=250_000, copies=4, written=1_000_000)
    assert found["more"] <= 200
    with (tmp_path / MANIFEST).open() as file:
        assert sum(1 for _ in file) == 1_000_000
