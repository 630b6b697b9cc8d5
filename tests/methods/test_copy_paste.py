"""Facts of copy-paste: the lesion lies where the mask says, the background is another image without its lesion."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.core import files, paths, seeding
from pipeline.core.contracts import Sampling, TrainingFreeGenerator
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.methods.generators import _poisson, copy_paste
from pipeline.stages.finetune.finetune import finetune
from pipeline.stages.generate import generate, provenance
from pipeline.stages.snapshots import output
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.tiny_base import write_tiny_base

SIDE = 16
SETTINGS = Sampling(1, 1.0)
Make = Callable[..., copy_paste.CopyPaste]


def square(top: int, left: int, size: int, label: int = 1) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[top : top + size, left : left + size] = label
    return mask


def painted(mask: np.ndarray, grey: int, lesion: int) -> np.ndarray:
    """Grey [3, H, W] with a lesion of another grey."""
    return np.where(mask > 0, lesion, grey)[None].repeat(3, 0).astype(np.uint8)


def grey(pixels: np.ndarray) -> int:
    """The one grey of an area; OpenCV's inpainting of a flat area is off by up to two levels of 255."""
    middle = int(np.median(pixels))
    assert abs(pixels.astype(int) - middle).max() <= 2
    return middle


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Three training images: grey 50, 60, 70 with lesions of 200, 210, 220."""

    def made(masks: tuple[np.ndarray, ...] | None = None, **params: Any) -> copy_paste.CopyPaste:
        masks = masks or (square(2, 2, 5), square(8, 8, 5), square(1, 9, 4))
        spec = DatasetSpec(name="toy", size=SIDE)
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        samples = (
            (Sample(f"i{k}", painted(mask, 50 + 10 * k, 200 + 10 * k), mask[None], "", "train"), {})
            for k, mask in enumerate(masks)
        )
        train = ImageSet.create(folder, spec, samples)
        generator = copy_paste.CopyPaste(copy_paste.Params(**{"feather": 0.0, **params}), spec)
        generator.set_training_pairs(train)
        return generator

    return made


def draw(generator: copy_paste.CopyPaste, masks: list[np.ndarray], sources: list[Any] | None = None) -> np.ndarray:
    rngs = [seeding.torch_rng("sample", mask.tobytes()) for mask in masks]
    given = torch.from_numpy(np.stack(masks))
    drawn = generator.sample(given, [""] * len(masks), rngs, SETTINGS, sources or [])
    return (drawn * 255).round().byte().numpy()


def test_a_real_mask_brings_its_own_lesion_onto_another_image(make: Make) -> None:
    mask = square(2, 2, 5)
    image = draw(make(), [mask], [painted(mask, 50, 200)])[0]
    assert (image[:, mask > 0] == 200).all()
    assert grey(image[:, mask == 0]) in (60, 70)  # not 50, its own; and no lesion of 210 or 220


def test_any_other_mask_is_filled_with_a_training_lesion(make: Make) -> None:
    for mask in (square(0, 0, 3), square(3, 5, 9), np.eye(SIDE, dtype=np.uint8)):
        image = draw(make(), [mask])[0].astype(int)
        lesion, behind = np.unique(image[:, mask > 0]).tolist(), grey(image[:, mask == 0])
        assert lesion in ([200], [210], [220]) and behind in (50, 60, 70)
        assert lesion[0] - behind != 150  # never the lesion's own image


def test_a_soft_edge_is_half_way_at_the_outline(make: Make) -> None:
    """A half plane: the normal distribution's sum at half a pixel's distance, symmetric around the edge."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:, 8:] = 1
    masks = (mask, square(0, 0, 2), square(0, 0, 2))
    image = draw(make(masks, feather=1 / SIDE), [mask], [painted(mask, 50, 200)])[0, 0, SIDE // 2].astype(float)
    share = (image - image[0]) / (200 - image[0])
    assert share[7] + share[8] == pytest.approx(1, abs=0.02)
    assert share[8] == pytest.approx(0.5 + 0.5 * 0.399, abs=0.02)  # sigma 1 sampled at whole pixels: g(0) = 0.399
    assert share[:4].max() < 0.01 and share[12:].min() > 0.99


def test_the_lesion_is_stretched_over_the_bounding_box() -> None:
    """A ramp from 0 to 30 over columns 2..5 becomes one over columns 4..10: steps of 5 instead of 10."""
    image = np.zeros((3, SIDE, SIDE), np.uint8)
    image[:, :, 2:6] = [0, 10, 20, 30]
    made = copy_paste.fit_texture(image, square(2, 2, 4), square(4, 4, 7))
    assert made[0, 4, 4:11].tolist() == [0, 5, 10, 15, 20, 25, 30]
    assert made[0, 4, :4].tolist() == [0] * 4 and made[0, 4, 11:].tolist() == [30] * 5  # the edge's colours around it


def test_of_two_lesions_the_one_of_the_masks_shape_is_taken(make: Make) -> None:
    """A square of 6 leaves nothing of a square of 8; a cross of arms 2 wide leaves the four corners: 4 x 3 x 3."""
    cross = square(2, 2, 8)
    for top, left in ((2, 2), (2, 7), (7, 2), (7, 7)):
        cross[top : top + 3, left : left + 3] = 0
    wanted = square(5, 5, 8)
    assert copy_paste.unfilled_pixels(square(0, 0, 6), wanted) == 0
    assert copy_paste.unfilled_pixels(cross, wanted) == 36
    generator = make((cross, square(9, 9, 6), cross), candidates=3)
    assert (draw(generator, [wanted])[0][:, wanted > 0] == 210).all()  # the second image's


def test_each_class_gets_its_own_colours() -> None:
    own = square(0, 0, 4) + square(8, 8, 4, 2)
    image = np.where(own == 1, 100, np.where(own == 2, 200, 0))[None].repeat(3, 0).astype(np.uint8)
    wanted = square(5, 5, 6, 2) + square(0, 12, 3)
    made = copy_paste.fit_texture(image, own, wanted)
    assert (made[:, wanted == 1] == 100).all() and (made[:, wanted == 2] == 200).all()


def test_the_background_with_least_to_cover_is_taken(make: Make) -> None:
    mask = square(8, 8, 6)  # covers the second lesion with its margin of none
    generator = make(margin=0.0, candidates=3)
    image = draw(generator, [mask], [painted(mask, 90, 250)])[0]
    assert grey(image[:, mask == 0]) == 60


def test_each_region_of_a_drawn_mask_has_a_lesion_of_its_own(make: Make) -> None:
    mask = square(1, 1, 4) + square(1, 10, 4) + square(10, 4, 4)
    together, apart = draw(make(), [mask])[0], draw(make(lesions="apart"), [mask])[0]
    assert len(np.unique(together[:, mask > 0])) == 1
    regions = [np.unique(apart[:, one > 0]).tolist() for one in copy_paste.connected_regions(mask)]
    assert sorted(regions) == [[200], [210], [220]]
    own = painted(square(2, 2, 5), 50, 200)
    same = [draw(make(lesions=how), [square(2, 2, 5)], [own]) for how in ("together", "apart")]
    assert np.array_equal(same[0], same[1])  # a real mask brings its own lesion either way


def test_poisson_keeps_details_and_takes_on_the_colours_around() -> None:
    """A flat front becomes what is behind; a bump keeps its height; the answer is exact, as a ramp is harmonic."""
    ramp = np.broadcast_to(np.arange(SIDE, dtype=np.float32) * 5, (3, SIDE, SIDE)).copy()
    inside = square(4, 5, 6) > 0
    flat = _poisson.blend(np.full_like(ramp, 200), ramp, inside)
    assert np.allclose(flat, ramp, atol=1e-4)
    bump = np.full_like(ramp, 200)
    bump[:, 6, 7] += 30
    assert np.allclose(_poisson.blend(bump, ramp, inside) - ramp, bump - 200, atol=1e-4)
    assert np.array_equal(_poisson.blend(bump, ramp, np.ones_like(inside)), bump)


def test_poisson_reaches_the_frame(make: Make) -> None:
    for mask in (square(0, 0, 5), square(4, 4, 6)):
        image = draw(make(blend="poisson"), [mask])[0]
        assert grey(image) in (50, 60, 70)  # a flat lesion has no details


def test_covering_takes_the_colours_around() -> None:
    mask = square(5, 5, 6)
    assert grey(copy_paste.inpaint_lesion(painted(mask, 80, 255), mask > 0)) == 80
    everything = np.ones((SIDE, SIDE), bool)
    assert (copy_paste.inpaint_lesion(painted(mask, 80, 255), everything) == painted(mask, 80, 255)).all()


def test_an_empty_mask_gives_a_background_without_lesion(make: Make) -> None:
    image = draw(make(), [square(0, 0, 0)])[0]
    assert grey(image) in (50, 60, 70)


def test_images_belong_to_their_streams_not_to_their_batch(make: Make) -> None:
    masks = [square(0, 0, 3), square(3, 5, 9), square(2, 2, 5)]
    generator = make()
    assert np.array_equal(draw(generator, masks)[1], draw(generator, masks[1:2])[0])
    many = [draw(generator, [square(row, 0, 3)]) for row in range(12)]
    assert len({grey(image[0, :, :, 8:]) for image in many}) > 1  # streams choose different pairs


def test_faults_are_named(make: Make, tmp_path: Path) -> None:
    generator = make()
    with pytest.raises(UserError, match=r"no training image has all classes \[3\]"):
        draw(generator, [square(0, 0, 3, 3)])
    with pytest.raises(UserError, match="at least two training images, found 1"):
        make((square(0, 0, 3),))
    generator.save(tmp_path / "saved")
    again = make((square(0, 0, 3), square(1, 1, 3)))
    again.load(tmp_path / "saved")
    with pytest.raises(UserError, match="not those that copy_paste was made with"):
        again.set_training_pairs(again._training_images())
    with pytest.raises(UserError, match=r"copy_paste\.json does not fit this generator"):
        again.load(tmp_path)


def test_it_runs_through_finetune_and_generate(toy_study: Params) -> None:
    """Nothing is trained: the folder holds two records and no snapshot; the masks are the real ones."""
    entry = {"generators": {"copy_paste": {"copies": 2}}, "training_sets": {"real": {}}}
    settings = {**TOY_STUDY["finetune"], "snapshots": [1]}
    params = parse(Params, {**TOY_STUDY, **entry, "finetune": settings})
    write_tiny_base(paths.base("toy"), "sample")
    files.write_json(paths.base("toy") / "manifest.json", {"fingerprint": "0", "source": "scratch"})
    finetune(params, "copy_paste")
    published = sorted(path.name for path in paths.generator("toy", "copy_paste").iterdir())
    assert published == [".sums.json", "copy_paste.json", "manifest.json"]
    generate.generate(params, "copy_paste")
    made, train = ImageSet.open(paths.synthetic("toy", "copy_paste")), ImageSet.open(paths.real("toy")).split("train")
    originals = {row["id"]: row for row in train}
    assert len(made) == 16
    for row in made:
        source = originals[row["source_id"]]
        assert row["mask_sha256"] == source["mask_sha256"]
        inside = train.mask(source) > 0
        gap = made.image(row)[:, inside].astype(int) - train.image(source)[:, inside]
        assert abs(gap).mean() < 30  # its own lesion (noise of 160 to 220 on a background of 0 to 60), edges blended
        assert made.image(row)[:, ~inside].mean() < 60
    assert output.kept_steps("toy", "copy_paste", params.finetune.snapshots) == []
    assert_marked_as_real(made)


def assert_marked_as_real(made: ImageSet) -> None:
    """Check that nothing calls the images drawn, or says that they show no patient."""
    with Image.open(made.folder / made.rows[0]["file_name"]) as picture:
        text = picture.text  # type: ignore[attr-defined]
    assert text["Description"] == provenance.NOTICE_COMPOSED
    assert "digitalsourcetype/compositeCapture" in text["XML:com.adobe.xmp"]
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    assert "from parts of the real training images of the study" in card and "consist of parts of the study's" in card
    assert provenance.NOTICE_COMPOSED in card and "fine-tuned" not in card and "base model" not in card
    assert provenance.NOTICE_COMPOSED in files.read_json(made.folder / "croissant.json")["description"]


def test_it_is_an_untrained_generator() -> None:
    built = copy_paste.build(copy_paste.Params(), None, DatasetSpec(name="toy", size=SIDE))  # type: ignore[arg-type]
    assert isinstance(built, TrainingFreeGenerator)
