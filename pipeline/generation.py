"""Generation of an image set: planned before it is dealt, one random stream per image, resumable, manifest last."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline import files, finetuning, paths, seeding, tracking
from pipeline.contracts import Generator, Sampling
from pipeline.data.image_set import MANIFEST, ImageSet, Row, write_pair
from pipeline.data.sample import Sample
from pipeline.params import Params
from pipeline.runtime import Runtime

VERSION = 1  # raised when results change
Job = tuple[Row, int]  # row of the training image whose mask conditions, copy


def generate(params: Params, generator: str) -> None:
    """Publishes `copies` images per training mask; finished batches are skipped after a crash."""
    runtime = Runtime.start(params.threads)
    train = ImageSet.open(paths.real(params.study)).split("train")
    trained = paths.generator(params.study, generator)
    entry = params.generators[generator]
    weights = files.tree_sha256(trained)
    parts = (VERSION, generator, entry, params.generate, params.seed, params.threads, weights, train.digest)
    print_of = files.fingerprint(*parts)
    work = paths.work("generate", print_of)
    fill(params, generator, trained, entry.copies, train, runtime, work)
    if runtime.is_main:
        files.publish(work / "set", paths.synthetic(params.study, generator))
    runtime.barrier()


def fill(
    params: Params, generator: str, trained: Path, copies: int, train: ImageSet, runtime: Runtime, work: Path
) -> None:
    """Makes the image set work/set with the trained weights, on all processes; what is there is not made again."""
    if (work / "set" / MANIFEST).is_file():
        return
    model = finetuning.build(params, generator, train.spec, runtime)
    model.load(trained)
    model.objective.to(runtime.device)
    _run(params, generator, model, copies, train, runtime, work)
    runtime.barrier()
    if runtime.is_main:
        rows = [files.read_json(path) for path in sorted((work / "rows").glob("*.json"))]
        ImageSet.finish(work / "set", train.spec, [row for batch in rows for row in batch])
    runtime.barrier()


def plan(train: ImageSet, copies: int, batch_size: int) -> Iterator[list[Job]]:
    """Batches of jobs, all first copies before all second ones; they do not depend on the number of processes."""
    jobs = [(row, copy) for copy in range(copies) for row in train]
    return (jobs[start : start + batch_size] for start in range(0, len(jobs), batch_size))


def _run(
    params: Params, generator: str, model: Generator, copies: int, train: ImageSet, runtime: Runtime, work: Path
) -> None:
    """Makes every batch that has no row file yet; batch b belongs to process b modulo their number."""
    batches = list(plan(train, copies, params.generate.batch_size))
    mine = [b for b in range(runtime.rank, len(batches), runtime.world) if not _row_file(work, b).is_file()]
    for number in tracking.progress(mine, f"generate {generator}", visible=runtime.is_main):
        rows = _make(params, generator, model, train, batches[number], runtime, work / "set")
        files.write_json(_row_file(work, number), rows)


def _make(
    params: Params,
    generator: str,
    model: Generator,
    train: ImageSet,
    jobs: Sequence[Job],
    runtime: Runtime,
    folder: Path,
) -> list[dict[str, Any]]:
    settings = params.generate
    sampling = Sampling(settings.steps, settings.guidance_scale, settings.precision)
    masks = [train.mask(row) for row, _ in jobs]
    rngs = [seeding.torch_rng(params.seed, "sample", row["id"], copy) for row, copy in jobs]
    with runtime.autocast(settings.precision):
        stacked = torch.from_numpy(np.stack(masks))
        images = model.sample(stacked, [row["prompt"] for row, _ in jobs], rngs, sampling)
    pixels = _bytes(images)
    return [
        write_pair(folder, _sample(row, copy, image, mask), _about(params, generator, row, copy))
        for (row, copy), image, mask in zip(jobs, pixels, masks, strict=True)
    ]


def _bytes(images: Tensor) -> np.ndarray:
    return (images * 255).round().clamp(0, 255).byte().cpu().numpy()


def _sample(row: Row, copy: int, image: np.ndarray, mask: np.ndarray) -> Sample:
    return Sample(f"{row['id']}_c{copy}", image, mask[None], row["prompt"], "train", row["source"])


def _about(params: Params, generator: str, row: Row, copy: int) -> dict[str, Any]:
    seed = seeding.number(params.seed, "sample", row["id"], copy)
    return {"source_id": row["id"], "copy": copy, "seed": str(seed), "generator": generator, "synthetic": True}


def _row_file(work: Path, batch: int) -> Path:
    return work / "rows" / f"{batch:06d}.json"
