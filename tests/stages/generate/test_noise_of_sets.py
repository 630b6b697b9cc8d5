"""Sets with sensor noise: as noisy as training images, recorded, the same for all batch sizes, real pixels kept."""

import json
from typing import Any

import numpy as np
import pytest

from pipeline.core import files, paths
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.sensor_noise import SensorNoise, noise_level, unclipped
from pipeline.stages.generate.job import Job
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.drawn_set import job, make, publish
from tests.tiny_base import write_tiny_base


def changed(entry: dict[str, Any] | None = None, **generate: Any) -> Params:
    """The toy study with 8 masks, and changes."""
    own = {"copies": 1, "method": "siamese", "start": 0.1, **(entry or {})}
    if own["method"] == "copy_paste":
        del own["start"]
    study = {**TOY_STUDY, "generators": {"drawn": own}, "training_sets": {"real": {}}}
    return parse(Params, {**study, "generate": {**TOY_STUDY["generate"], **generate}})


@pytest.fixture
def study(toy_study: Params) -> Params:
    """A study with an untrained base and a generator whose control is not zero."""
    write_tiny_base(paths.base("toy"), "sample")
    files.write_json(paths.base("toy") / "manifest.json", {"fingerprint": "0", "source": "scratch"})
    return publish(changed())


def level_of(image: np.ndarray) -> np.ndarray:
    scaled = image.astype(np.float32) / 255
    return 255 * noise_level(scaled, unclipped(scaled))


def pictures(images: ImageSet) -> np.ndarray:
    return np.stack([images.image(row) for row in images]).astype(int)


def test_images_become_as_noisy_as_training_images(study: Params) -> None:
    plain, noisy = make(study, "plain"), make(changed(sensor_noise=True), "noisy")
    wanted = SensorNoise.of(ImageSet.open(paths.real("toy")).split("train")).level * 255
    assert all(level_of(plain.image(row)).max() < wanted.min() for row in plain)
    found = np.median([level_of(noisy.image(row)) for row in noisy], axis=0)
    assert found == pytest.approx(wanted, rel=0.3)  # few pixels, whole grey levels
    added = pictures(noisy) - pictures(plain)
    assert abs(added.mean()) < 0.2 and added.std() > 0


def test_batches_and_repetition_change_nothing(study: Params) -> None:
    first = pictures(make(changed(sensor_noise=True), "one"))
    again = pictures(make(changed(sensor_noise=True, batch_size=3), "three"))
    assert np.abs(first - again).max() <= 1


def test_the_level_is_recorded_and_asked_for_alone_changes_fingerprints(study: Params) -> None:
    row = make(changed(sensor_noise=True)).rows[0]
    level = SensorNoise.of(ImageSet.open(paths.real("toy")).split("train")).level * 255
    assert json.loads(row["sensor_noise"]) == pytest.approx(level.tolist(), abs=1e-3)
    assert "sensor_noise" not in make(study, "other").rows[0]
    prints = [job(params).fingerprint for params in (study, changed(sensor_noise=False), changed(sensor_noise=True))]
    assert prints[0] == prints[1] != prints[2]


def test_lesions_in_real_images_get_noise_and_real_pixels_stay(study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained generator draws rough lesions, so the set is said to be rougher still."""
    monkeypatch.setattr(SensorNoise, "of", lambda _: SensorNoise(np.full(3, 0.4), grey=False))
    kept = {"keep_background": {"margin": 0.05}}
    plain, noisy = make(changed(kept), "plain"), make(changed(kept, sensor_noise=True), "noisy")
    real = ImageSet.open(paths.real("toy")).split("train")
    sources = {row["id"]: real.image(row).astype(int) for row in real}
    changes = []
    for before, after in zip(plain, noisy, strict=True):
        same = (plain.image(before) == sources[before["background_id"]]).all(0)
        assert same.any() and (plain.image(before) == noisy.image(after))[:, same].all()
        added = noisy.image(after).astype(int) - plain.image(before)
        changes.append(added[:, ~same & unclipped(plain.image(before).astype(np.float32) / 255)].ravel())
    assert np.concatenate(changes).std() > 20


def test_copies_of_real_pixels_get_none(study: Params) -> None:
    params = changed({"method": "copy_paste"}, sensor_noise=True)
    real, trained = ImageSet.open(paths.real("toy")), paths.generator("toy", "drawn")
    copied = Job(params, "drawn", trained, 1, real)
    assert copied.sensor_noise is None
    assert "sensor_noise" not in copied.columns
