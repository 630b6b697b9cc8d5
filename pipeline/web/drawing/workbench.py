"""Drawing one image at a time with the trained generators of a study, in a thread beside the page's requests."""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.api import load_generator
from pipeline.core import files, paths, seeding
from pipeline.core.contracts import ConditioningMask, Generator, Sampling, TrainingFreeGenerator
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet, Row
from pipeline.data.mask_hashes import held_out_digests, mask_digest
from pipeline.data.pseudo_labels import labelled
from pipeline.evaluation.judges import Judges, judged_by
from pipeline.metrics.segmentation.overlap import mean_dice
from pipeline.stages.audit.training_images import TrainingImages, unlabelled_of
from pipeline.stages.base.manifest import unlabelled_images
from pipeline.stages.finetune import privacy_record
from pipeline.stages.finetune.params import OUTSIDE
from pipeline.stages.finetune.training_images import fine_tuning_pairs
from pipeline.stages.generate import provenance
from pipeline.stages.judge.judge import load_judges
from pipeline.study import Params
from pipeline.web.drawing import runs
from pipeline.web.drawing.closest import Close, Closest
from pipeline.web.drawing.request import DrawingRequest
from pipeline.web.refusals import Refused

PREVIEWS = 12  # decoded at most while an image is drawn


@dataclass(frozen=True)
class Judgement:
    """What the judge finds in an image, and its Dice with the mask; or why nothing judges."""

    labels: NDArray[np.uint8] | None = None  # [H, W]
    dice: float | None = None  # mean over the classes; None without a lesion in both
    reason: str | None = None


@dataclass(frozen=True)
class Drawn:
    """A finished image with what is known of it."""

    image: NDArray[np.uint8]  # [C, H, W]
    judgement: Judgement
    closest: list[Close]


@dataclass
class Drawing:
    """One image that is being drawn, or was."""

    request: DrawingRequest
    mask: NDArray[np.uint8]  # [H, W]
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    done: int = 0  # steps
    preview: NDArray[np.uint8] | None = None  # [C, H, W]
    drawn: Drawn | None = None
    error: str | None = None
    stopped: bool = False

    @property
    def running(self) -> bool:
        """Whether the image is not there yet and still to come."""
        return self.drawn is None and self.error is None


class Stopped(Exception):
    """The drawing is to end at once."""


@dataclass
class Workbench:
    """The trained generators of a study, its judge, and the drawing that was asked for last.

    Raises UserError where the study has no trained generator that draws whole images, or holds volumes.
    """

    params: Params
    current: Drawing | None = None

    def __post_init__(self) -> None:
        params = self.params
        self.runtime = Runtime.alone(params.threads)
        self.real = ImageSet.open(paths.real(params.study))
        if self.real.spec.ndim != 2 or self.real.spec.channels != 3:
            raise UserError("twinsynth try draws pictures with three colours; this study has volumes or other channels")
        self.names = [name for name in params.generators if self._is_ready(name)]
        if not self.names:
            raise UserError(
                f"no generator of the study {params.study} can draw yet; run dvc repro, or name another study with"
                " twinsynth study use"
            )
        self._generators: dict[str, Generator | TrainingFreeGenerator] = {}
        self._starting = threading.Lock()

    def _is_ready(self, name: str) -> bool:
        """Whether an entry draws whole images from masks alone and its trained generator is there."""
        entry = self.params.generators[name]
        whole = entry.method_of(name) not in OUTSIDE and not entry.needs_real_images and entry.control == "mask"
        return whole and paths.generator(self.params.study, name).is_dir()

    @cached_property
    def train(self) -> ImageSet:
        """The training pairs."""
        return self.real.split("train")

    @cached_property
    def held_out(self) -> frozenset[str]:
        """Digests of the masks that must never condition an image."""
        return held_out_digests(self.real)

    @cached_property
    def closest(self) -> Closest:
        """The search for the nearest training images."""
        return Closest(TrainingImages(self.train, unlabelled_of(self.params.study, *self.params.generators.values())))

    @cached_property
    def judges(self) -> Judges | str:
        """The judges, on the device of the generators; or why there are none."""
        if self.params.judge is None:
            return "the study has no section judge"
        if not paths.judge(self.params.study).is_dir():
            return "it is not trained yet; run dvc repro judge and start twinsynth try again"
        try:
            judges = load_judges(self.params.judge, self.params.segmenters, self.params.study, self.real)
        except (UserError, OSError) as error:
            return str(error)
        for segmenter in judges.segmenters:
            segmenter.objective.to(self.runtime.device)
        return judges

    def start(self, request: DrawingRequest) -> Drawing:
        """Begin to draw. Raises Refused for a bad mask or generator, and while another image is being drawn."""
        mask = runs.decode(request.runs, self.real.spec.size, self.real.spec.num_classes)
        if request.generator not in self.names:
            raise Refused(404, f"there is no generator of that name; there are: {', '.join(self.names)}")
        if mask_digest(mask) in self.held_out:
            raise Refused(409, "this is the mask of a validation or test image, which no synthetic image may follow")
        with self._starting:
            if self.current is not None and self.current.running:
                raise Refused(409, "another image is being drawn; wait for it or stop it")
            drawing = self.current = Drawing(request, mask)
        threading.Thread(target=self._draw, args=(drawing,), daemon=True).start()
        return drawing

    def find(self, name: str) -> Drawing:
        """Return the drawing of this id. Raises Refused where another has followed it."""
        if self.current is None or not secrets.compare_digest(self.current.id.encode(), name.encode()):
            raise Refused(404, "there is no such drawing any more")
        return self.current

    def _draw(self, drawing: Drawing) -> None:
        try:
            image = self._sample(drawing)
            drawing.drawn = Drawn(image, self._judge(drawing, image), self.closest.find(image))
        except Stopped:
            drawing.error = "stopped"
        except UserError as error:
            drawing.error = str(error)
        except Exception as error:  # noqa: BLE001, the page says it, and the thread ends
            drawing.error = f"{type(error).__name__}: {error}"

    def _generator(self, name: str) -> Generator | TrainingFreeGenerator:
        if name not in self._generators:
            self._generators[name] = load_generator(self.params, name)
        return self._generators[name]

    def _sample(self, drawing: Drawing) -> NDArray[np.uint8]:
        """Return colours [3, H, W]."""
        request, generator = drawing.request, self._generator(drawing.request.generator)
        row = self._source(drawing)
        source = self.train.picture(row) if row and np.array_equal(self.train.mask(row), drawing.mask) else None
        generate = self.params.generate
        sampling = Sampling(
            request.steps,
            request.guidance_scale,
            generate.precision,
            generate.sampler,
            eta=generate.eta,
            control_scale=request.control_scale,
            watch=self._watch(drawing),
        )
        rngs, prompts = [seeding.torch_rng(request.seed, "try")], [row["prompt"] if row else self._prompt]
        with self.runtime.autocast(generate.precision):
            sampled = generator.sample(torch.from_numpy(drawing.mask[None]), prompts, rngs, sampling, [source])
        return to_bytes(sampled)

    @property
    def _prompt(self) -> str:
        """The prompt of a mask that nobody has drawn before: that of the first training pair."""
        return str(self.train.rows[0]["prompt"])

    def _source(self, drawing: Drawing) -> Row | None:
        """Return the training pair whose mask the drawing began with."""
        return next((row for row in self.train if row["id"] == drawing.request.source), None)

    def _watch(self, drawing: Drawing) -> Callable[[int, Callable[[], Tensor]], None]:
        every = -(-drawing.request.steps // PREVIEWS)

        def watch(step: int, decode: Callable[[], Tensor]) -> None:
            if drawing.stopped:
                raise Stopped
            if step % every == 0:
                drawing.preview = to_bytes(decode())
            drawing.done = step

        return watch

    @torch.no_grad()
    def _judge(self, drawing: Drawing, image: NDArray[np.uint8]) -> Judgement:
        """Let the judges predict that have not seen the pair with whose mask the drawing began."""
        if isinstance(self.judges, str):
            return Judgement(reason=self.judges)
        segmenters, folds = self.judges.segmenters, self.judges.folds
        about = {"source_id": drawing.request.source or "", "transform": None}
        (numbers,) = judged_by([about], folds, len(segmenters))
        pixels = (torch.from_numpy(image[None]).float() / 255).to(self.runtime.device)
        found = [segmenters[number].predict(pixels)[0].float().mean(0) for number in numbers]
        labels = torch.stack(found).mean(0).argmax(0).byte().cpu().numpy()
        dice = mean_dice(labels, drawing.mask, self.real.spec.num_classes) if drawing.mask.any() else None
        return Judgement(labels, dice)

    def provenance(self, drawing: Drawing) -> tuple[ConditioningMask, dict[str, Any]]:
        """Return the mask of a drawing and the columns of its pair, those of a generated set."""
        request, row = drawing.request, self._source(drawing)
        unchanged = row is not None and np.array_equal(self.train.mask(row), drawing.mask)
        transform = {} if unchanged else {"drawn": "by hand"}
        begun = row["id"] if row else "drawn"
        mask = ConditioningMask(begun, begun, transform, drawing.mask, row["prompt"] if row else self._prompt, "drawn")
        settings = {"steps": request.steps, "guidance_scale": request.guidance_scale, "reuse_encoder": ()}
        generate = self.params.generate.model_copy(update=settings)
        weights = files.tree_sha256(paths.generator(self.params.study, request.generator))
        entry = self.params.generators[request.generator]
        seen = fine_tuning_pairs(self.params.study, self.params.seed, request.generator, entry, self.real)
        known = len(labelled(seen))
        beyond = len(self.train) - known
        unlabelled = unlabelled_images(self.params.study, beyond) if entry.learns_on_base(request.generator) else 0
        about = request.generator, entry, generate, weights, unlabelled
        shared = provenance.set_columns(*about, training_pairs=known) | provenance.pseudo_label_columns(entry, seen)
        shared |= privacy_record.columns(privacy_record.read(paths.generator(self.params.study, request.generator)))
        shared |= {"control_scale": request.control_scale, "masks": "drawn"}
        return mask, provenance.image_columns(shared, mask, 0, request.seed)


def to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """Return the first of images [B, C, H, W] in [0, 1] as bytes."""
    return (images[0].float() * 255).round().clamp(0, 255).byte().cpu().numpy()
