"""Images per second: our sampling against diffusers' own ControlNet pipeline, a model of about 60 M parameters, 128 px.

Same weights, masks, initial noise, steps, scale and dtype (float32); the pipeline is called once per image, as users
do, and once per batch. All images must agree to 1e-4 before anything is timed. Prints medians and ratios.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import StableDiffusionControlNetPipeline
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline.core import seeding
from pipeline.core.contracts import Sampling
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion.schedule import noise_of
from pipeline.methods.conditioning import mask as mask_hint
from pipeline.methods.generators import controlnet
from pipeline.methods.generators._control import ControlledDiffusion
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.base import tiny
from pipeline.stages.base.params import Autoencoder, Denoiser

SIDE, WIDTH, CHANNELS = 128, 256, (128, 256, 384)  # pixels, text tower, U-Net
PROMPT, TOLERANCE = "A photo of a polyp.", 1e-4
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}  # cpu: all threads of this process together


def main() -> None:
    """Times the three ways, alternating."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8, help="images")
    parser.add_argument("--steps", type=int, default=10, help="DDIM steps")
    parser.add_argument("--scale", type=float, default=9.0, help="of the guidance")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: on a busy machine, with one thread")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    calls = ways(arguments.batch, arguments.steps, arguments.scale)
    check({name: call() for name, call in calls.items()})  # also the warm-up
    clock = CLOCKS[arguments.clock]
    times = [{name: seconds(call, clock) for name, call in calls.items()} for _ in range(arguments.repeats)]
    medians = {name: statistics.median(row[name] for row in times) for name in calls}
    for name, median in medians.items():
        sys.stderr.write(f"{name}: {arguments.batch / median:.3f} images/s\n")
    results = {name: round(medians[name] / medians["ours"], 3) for name in ("vs_per_image", "vs_equal_batch")}
    sys.stderr.write(f"ratios: {results}\n")
    if arguments.json:
        sys.stdout.write(json.dumps(results) + "\n")


def material() -> ControlledDiffusion:
    """A ControlNet with stock hint input over a base, random weights, control that is not zero."""
    torch.manual_seed(0)
    rates = {"max_steps": 1, "batch_size": 1, "learning_rate": 1e-3}
    vae = tiny.autoencoder(Autoencoder(channels=(32, 64, 128, 128), crop=8, **rates), SIDE)
    unet = tiny.denoiser(Denoiser(channels=CHANNELS, text_width=WIDTH, **rates), 4, SIDE // 8)
    text = tiny.text_tower(WIDTH)
    for part in (vae, unet, text):
        part.requires_grad_(False).eval()
    model = StableDiffusion(vae, text, tiny.tokenizer(), unet, tiny.scheduler("epsilon"))
    built = controlnet.build(controlnet.Params(start=0.02), model, DatasetSpec(name="discs", size=SIDE))
    torch.nn.init.normal_(built.network.controlnet_cond_embedding.conv_out.weight, std=0.02)
    built.objective.eval()
    count = sum(weight.numel() for part in (unet, built.network) for weight in part.parameters())
    sys.stderr.write(f"U-Net and ControlNet: {count / 1e6:.1f} M parameters, {torch.get_num_threads()} threads\n")
    return built


def ways(batch: int, steps: int, scale: float) -> dict[str, Callable[[], Tensor]]:
    """Our call for the whole batch, the pipeline's per image, and the pipeline's for the whole batch."""
    built = material()
    pipe, masks, factor = stock(built), discs(batch), built.model.factor
    hints = mask_hint.hint(masks, 2)

    def streams() -> list[torch.Generator]:
        return [seeding.torch_rng("benchmark", number) for number in range(batch)]

    def ours() -> Tensor:
        return built.sample(masks, [PROMPT] * batch, streams(), Sampling(steps, scale))

    def theirs(first: int, last: int) -> Tensor:
        noise = noise_of(streams()[first:last], (4, SIDE // factor, SIDE // factor))
        count = last - first
        settings = {"num_inference_steps": steps, "guidance_scale": scale, "output_type": "pt"}
        return pipe([PROMPT] * count, image=hints[first:last], latents=noise, **settings).images

    return {
        "ours": ours,
        "vs_per_image": lambda: torch.cat([theirs(number, number + 1) for number in range(batch)]),
        "vs_equal_batch": lambda: theirs(0, batch),
    }


def stock(built: ControlledDiffusion) -> StableDiffusionControlNetPipeline:
    """diffusers' own pipeline over the same weights, silent, without safety checker."""
    model = built.model
    parts = (model.vae, model.text_encoder, model.tokenizer, model.unet, built.network, model.scheduler)
    pipe = StableDiffusionControlNetPipeline(*parts, None, None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def discs(count: int) -> Tensor:
    """Label maps [B, SIDE, SIDE] with one disc each."""
    row, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    radii = torch.linspace(SIDE / 10, SIDE / 4, count).view(-1, 1, 1)
    return (((row - SIDE / 2) ** 2 + (column - SIDE / 3) ** 2) < radii**2).long()


def check(images: dict[str, Tensor]) -> None:
    """Stops where two ways draw other images."""
    for name, drawn in images.items():
        gap = float((drawn - images["ours"]).abs().max())
        sys.stderr.write(f"{name}: at most {gap:.1e} from ours\n")
        if gap > TOLERANCE:
            raise SystemExit(f"{name} and ours differ by {gap}; they must agree before they are timed")


def seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """Time of one call."""
    begin = clock()
    call()
    return clock() - begin


if __name__ == "__main__":
    main()
