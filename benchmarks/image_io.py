"""Images per second that the stage generate can store, apart from drawing them: as a folder of files and as tar shards.

The stage's own code plans, deals and writes a set on several local processes; in place of a generator stands an array
with noise. Then every process looks for work in the finished set, and a second, smaller set is killed half way and
resumed. Reports rates, the memory of a process over its run, files per directory, and the size of the manifest.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline.core import files, paths
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_files import fast_png, png
from pipeline.data.image_set import MANIFEST, ImageSet
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.stages.generate import generate
from pipeline.study import Params

STUDY, ENTRY, BATCH, BANK = "image_io", "drawn", 16, 8
CONTEXT = multiprocessing.get_context("fork")  # the processes share what has been imported


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--masks", type=int, default=100)
    parser.add_argument("--pixels", type=int, default=384)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--shards", type=int, default=256, help="images per shard")
    parser.add_argument("--layouts", nargs="+", choices=["files", "shards"], default=["files", "shards"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {"pixels": arguments.pixels, "processes": arguments.processes}
    results["encoding"] = encoding(arguments.pixels)
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            write_real(arguments.masks, arguments.pixels)
            for layout in arguments.layouts:
                results[layout] = measured(arguments, arguments.shards if layout == "shards" else None)
                sys.stderr.write(f"{layout}: {json.dumps(results[layout])}\n")
        finally:
            os.chdir(home)
    if arguments.json:
        sys.stdout.write(json.dumps(results) + "\n")


def picture(pixels: int, rng: np.random.Generator) -> np.ndarray:
    """A smooth random picture [H, W, 3] with the noise of a camera, which PNG cannot compress."""
    coarse = Image.fromarray(rng.integers(0, 256, (pixels // 8, pixels // 8, 3), np.uint8))
    wide = np.asarray(coarse.resize((pixels, pixels), Image.Resampling.BICUBIC)).astype(np.int16)
    return np.clip(wide // 2 + 60 + rng.integers(-2, 3, wide.shape), 0, 255).astype(np.uint8)


def encoding(pixels: int, repeats: int = 9) -> dict[str, float]:
    """Milliseconds of processor time and kilobytes of one image, by either encoder; medians."""
    drawn, found = picture(pixels, np.random.default_rng(0)), {}
    for name, encode in (("png", png), ("fast_png", fast_png)):
        times = []
        for _ in range(repeats):
            begin = time.process_time()
            content = encode(drawn)
            times.append(time.process_time() - begin)
        found[f"{name}_ms"] = round(1000 * statistics.median(times), 2)
        found[f"{name}_kilobytes"] = round(len(content) / 1e3, 1)
    return found


def write_real(masks: int, pixels: int) -> None:
    """The real set: so many training images, one for validation and one for testing, with round lesions."""
    spec = DatasetSpec(name=STUDY, size=pixels)
    ImageSet.create(paths.real(STUDY), spec, _real(masks, pixels))


def _real(masks: int, pixels: int) -> Iterator[tuple[Sample, dict[str, Any]]]:
    rng, (y, x) = np.random.default_rng(1), np.ogrid[:pixels, :pixels]
    for number in range(masks + 2):
        split = "train" if number < masks else ("val", "test")[number - masks]
        centre, radius = rng.uniform(0.3, 0.7, 2) * pixels, rng.uniform(0.1, 0.25) * pixels
        mask = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2).astype(np.uint8)
        image = np.moveaxis(picture(pixels, rng), -1, 0)
        yield Sample(f"r{number:06d}", image, mask[None], "A photo of a polyp.", split, "benchmark"), {}


def job(images: int, shards: int | None) -> generate.Job:
    """What the stage makes of a study with this number of images."""
    real = ImageSet.open(paths.real(STUDY))
    copies = max(1, images // len(real.split("train")))
    params = parse(
        Params,
        {
            "study": STUDY,
            "seed": 0,
            "threads": 1,
            "data": {"reader": "phantom", "size": real.spec.size, "prompt": "A photo of a polyp."},
            "base": {"source": "nowhere"},
            "finetune": {"max_steps": 1, "global_batch": 1, "learning_rate": 1e-3},
            "generate": {"steps": 1, "guidance_scale": 1.0, "batch_size": BATCH, "shards": shards},
            "generators": {ENTRY: {"method": "siamese", "copies": copies}},
            "judge": {"segmenter": "unet"},
            "training_sets": {"real": {}},
            "segmenters": {"unet": {"weights": "none"}},
            "segment": {"max_steps": 1, "batch_size": 1, "learning_rate": 1e-3, "seeds": [0]},
        },
    )
    return generate.Job(params, ENTRY, paths.generator(STUDY, ENTRY), copies, real)


class Stub:
    """In place of a generator: one of a few noisy pictures, shifted by each image's own stream."""

    def __init__(self, pixels: int, drawn: Any, memory: list[int]) -> None:
        self.objective, self.drawn, self.memory = nn.Identity(), drawn, memory
        rng = np.random.default_rng(2)
        bank = np.stack([np.moveaxis(picture(pixels, rng), -1, 0) for _ in range(BANK)])
        self.bank = torch.from_numpy(bank).float() / 255

    def load(self, folder: Path) -> None:
        """There is nothing to load."""

    def sample(self, masks: Tensor, prompts: Sequence[str], rngs: Sequence[torch.Generator], *_: Any) -> Tensor:
        self.memory.append(resident())
        with self.drawn.get_lock():
            self.drawn.value += len(masks)
        chosen = [torch.randint(2**31, (3,), generator=rng).tolist() for rng in rngs]
        return torch.stack([self.bank[one % BANK].roll(shift, (1, 2)) for one, *shift in chosen])


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def launch(work: Path, images: int, shards: int | None, processes: int, drawn: Any) -> tuple[list[Any], Any]:
    """Start the processes of a launch that fills `work`; return them and the queue of what they tell."""
    told, launched = CONTEXT.SimpleQueue(), (processes, _free_port())
    arguments = [(rank, launched, work, images, shards, (drawn, told)) for rank in range(processes)]
    started = [CONTEXT.Process(target=process, args=one) for one in arguments]
    for one in started:
        one.start()
    return started, told


def process(rank: int, launched: tuple[int, int], work: Path, images: int, shards: int | None, shared: Any) -> None:
    """One process: joins the launch, fills its share with the code of the stage, and tells times and memory."""
    (world, port), (drawn, told) = launched, shared
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    runtime, memory = Runtime.start(1), [resident()]
    planned = job(images, shards)
    stub = Stub(planned.real.spec.size, drawn, memory)
    generate.build = lambda *_: stub  # type: ignore[assignment]
    runtime.barrier()
    begin, spent = time.perf_counter(), time.process_time()
    generate.fill(planned, runtime, work)
    seconds, spent = time.perf_counter() - begin, time.process_time() - spent
    told.put((seconds, spent, memory))


def finished(work: Path, images: int, shards: int | None, processes: int) -> dict[str, Any]:
    """Run a launch to its end."""
    drawn = CONTEXT.Value("q", 0)
    started, told = launch(work, images, shards, processes, drawn)
    answers = [told.get() for _ in started]
    for one in started:
        one.join()
    memories = [memory for _, _, memory in answers]
    return {
        "seconds": max(seconds for seconds, _, _ in answers),
        "processor_seconds": sum(spent for _, spent, _ in answers),
        "drawn": drawn.value,
        "memory": [[round(memory[int(share * (len(memory) - 1))] / 1e6) for memory in memories]
                   for share in (0.25, 0.5, 1.0)],
    }  # fmt: skip


def measured(arguments: argparse.Namespace, shards: int | None) -> dict[str, Any]:
    """Write a set, look for work in it, and resume another that was killed half way."""
    work, processes = Path("work"), arguments.processes
    planned = job(arguments.images, shards).plan.images
    written = finished(work, arguments.images, shards, processes)
    assert written["drawn"] == planned
    again = finished(work, arguments.images, shards, processes)
    assert again["drawn"] == 0
    results = {
        "images": planned,
        "images_per_second": round(planned / written["seconds"], 1),
        "processor_ms_per_image": round(1000 * written["processor_seconds"] / planned, 2),
        "images_per_second_checked": round(planned / again["seconds"], 1),
        "megabytes_of_each_process_at_1/4_1/2_end": written["memory"],
        **sizes(work, planned),
    }
    shutil.rmtree(work)
    return results | resumed(max(arguments.images // 4, arguments.masks), shards, processes)


def sizes(work: Path, images: int) -> dict[str, Any]:
    """Files and bytes of a finished work folder."""
    entries = [len(names) + len(folders) for _, folders, names in os.walk(work)]
    held = [path for path in (work / "set").rglob("*") if path.is_file()]
    return {
        "files_of_set": len(held),
        "most_entries_of_a_directory": max(entries),
        "kilobytes_per_pair": round(sum(p.stat().st_size for p in held if p.name != MANIFEST) / images / 1e3, 1),
        "bytes_per_manifest_row": round((work / "set" / MANIFEST).stat().st_size / images, 1),
    }


def resumed(images: int, shards: int | None, processes: int) -> dict[str, Any]:
    """Kill all processes of a launch once half of the images are drawn, and launch it again."""
    drawn, planned = CONTEXT.Value("q", 0), job(images, shards).plan.images
    started, _ = launch(Path("killed"), images, shards, processes, drawn)
    wait_until(lambda: drawn.value >= planned // 2)
    for one in started:
        one.kill()
        one.join()
    again = finished(Path("killed"), images, shards, processes)
    assert len(ImageSet.open(Path("killed/set"))) == planned
    left = [path for path in Path("killed").rglob(files.TEMPORARY)]
    shutil.rmtree("killed")
    twice = drawn.value + again["drawn"] - planned
    return {"killed": {"images": planned, "drawn_twice": twice, "temporary_files_left": len(left)}}


def wait_until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.01)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
