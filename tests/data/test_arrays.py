"""Large image sets are decoded once into files that all processes map, and nobody sees a difference."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.data import arrays, image_set
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Batches, Pairs, flip
from pipeline.data.sample import DatasetSpec, Sample
from tests.conftest import REPOSITORY
from tests.patience import HUNG


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every set is large."""
    monkeypatch.setattr(arrays, "IN_MEMORY", 0)


def volumes(folder: Path, count: int = 5) -> ImageSet:
    rng = np.random.default_rng(0)
    spec = DatasetSpec(name="v", size=0, channels=2, num_classes=3, ndim=3, shape=(4, 3, 2), spacing=(1.0, 1.0, 2.0))

    def sample(n: int) -> Sample:
        image, mask = rng.random((2, 4, 3, 2), np.float32), rng.integers(0, 3, (1, 4, 3, 2)).astype(np.uint8)
        return Sample(f"v{n}", image, mask, "", "train", affine=np.diag([1.0, 1.0, 2.0, 1.0]))

    return ImageSet.create(folder, spec, ((sample(n), {}) for n in range(count)))


def rated(folder: Path) -> ImageSet:
    rng = np.random.default_rng(0)
    spec = DatasetSpec(name="r", size=4, channels=1, raters=3)
    pixels = [(rng.integers(0, 256, (1, 4, 4)), rng.integers(0, 2, (3, 4, 4))) for _ in range(4)]
    samples = [Sample(f"c{n}", i.astype(np.uint8), m.astype(np.uint8), "", "train") for n, (i, m) in enumerate(pixels)]
    return ImageSet.create(folder, spec, ((sample, {}) for sample in samples))


@pytest.mark.parametrize("make", [volumes, rated])
def test_mapped_arrays_are_those_in_memory(make, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    images = make(here / "set")
    held = arrays.load_arrays(images)
    assert not (here / "work").exists()
    monkeypatch.setattr(arrays, "IN_MEMORY", arrays._array_bytes(images) - 1)
    mapped = arrays.load_arrays(images)
    for one, other in zip(held, mapped, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert isinstance(other, np.memmap) and other.dtype == one.dtype and np.array_equal(one, other)
    assert arrays._array_bytes(images) == sum(values.nbytes for values in held if values is not None)


@pytest.mark.usefixtures("mapping")
def test_batches_are_the_same_and_write_nothing_back(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = volumes(here / "set")
    pairs = Pairs.read(images)
    sums = files.tree_sha256(paths.decoded(images.digest))
    drawn = Batches(pairs, 3, "s").batch(1)
    pairs.image[0] = 7
    assert files.tree_sha256(paths.decoded(images.digest)) == sums
    monkeypatch.setattr(arrays, "IN_MEMORY", 10**9)
    assert drawn.image.equal((own := Batches(Pairs.read(images), 3, "s").batch(1)).image) and drawn.mask.equal(own.mask)


@pytest.mark.usefixtures("mapping")
def test_what_was_stopped_or_damaged_is_decoded_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = volumes(here / "set")
    folder = paths.decoded(images.digest)
    with monkeypatch.context() as patch:
        patch.setattr(files, "seal", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            arrays.load_arrays(images)
    assert not files.is_intact(folder)
    whole = arrays.load_arrays(images)
    wanted = np.array(whole.image)
    content = bytearray((folder / "image.npy").read_bytes())
    content[-1] ^= 1
    (folder / "image.npy").write_bytes(content)
    assert np.array_equal(arrays.load_arrays(images).image, wanted)
    assert arrays.load_arrays(images.select(images.rows[1:])).image.shape[0] == 4  # other rows, other files


@pytest.mark.usefixtures("mapping")
def test_a_damaged_image_is_an_error_and_no_file(here: Path) -> None:
    images = volumes(here / "set")
    (here / "set/images/v3.nii.gz").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"v3\.nii\.gz is damaged"):
        arrays.load_arrays(images)
    assert not files.is_intact(paths.decoded(images.digest))


def test_processes_wait_for_the_one_that_decodes(here: Path) -> None:
    volumes(here / "set", count=20)
    code = (
        "from pathlib import Path; from pipeline.data import arrays; from pipeline.data.image_set import ImageSet;"
        "arrays.IN_MEMORY = 0; found = arrays.load_arrays(ImageSet.open(Path('set'))); print(found.image.sum())"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    answers = [process.communicate(timeout=HUNG) for process in started]
    assert len({out for out, _ in answers}) == 1 and all(process.returncode == 0 for process in started)
    assert sum("decode" in err for _, err in answers) == 1  # the others find it done


def test_images_alone_are_read_from_several_sets_without_any_mask(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled = rated(here / "labelled")
    rows = [image_set.write_image(here / "more", sample) for sample in labelled.samples()]
    more = ImageSet.finish(here / "more", labelled.spec, [{**row, "id": f"u_{row['id']}"} for row in rows])
    for path in (labelled.folder / "masks").rglob("*.png"):
        path.unlink()
    pairs = Pairs.read_images(labelled, more)
    expected = np.concatenate([np.stack([images.image(row) for row in images]) for images in (labelled, more)])
    assert (pairs.image.numpy() == expected).all() and pairs.ids == (*labelled.ids, *more.ids)
    assert pairs.mask.shape == (8, 4, 4) and not pairs.mask.any() and pairs.masks is None
    assert Batches(pairs, 3, "seed", flip).batch(0).image.shape == (3, 1, 4, 4)
    assert not (here / "work").exists()
    monkeypatch.setattr(arrays, "IN_MEMORY", 8 * 16 - 1)  # one byte too many
    mapped = Pairs.read_images(labelled, more)
    assert (mapped.image.numpy() == expected).all()
    assert isinstance(arrays.load_images([labelled, more]), np.memmap)
    with pytest.raises(UserError, match="no image in this selection"):
        Pairs.read_images(labelled.select([]))
