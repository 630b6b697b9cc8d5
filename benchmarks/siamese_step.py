"""Time of one Siamese-Diffusion step: ours against the literal one with deep copies (tests/reference), one model.

A fifth of the timesteps is at most T_tau; early is k <= N/3, late after it. Prints medians and their ratio.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline.base_params import Autoencoder, Denoiser
from pipeline.generators import siamese
from pipeline.generators._control import control_network
from pipeline.networks import tiny_stable_diffusion as tiny
from pipeline.networks.stable_diffusion import StableDiffusion
from tests.reference import siamese_literal

BATCH, SIDE, WIDTH = 5, 16, 64


def main() -> None:
    """Times both versions, alternating."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, objective, tensors = material()
    results: dict[str, float] = {}
    for phase, k in (("early", 100), ("late", 200)):
        ours, literal = versions(model, objective, tensors, k)
        times = [(seconds(ours), seconds(literal)) for _ in range(arguments.repeats + 1)][1:]
        fast, slow = (statistics.median(column) for column in zip(*times, strict=True))
        results[phase] = round(slow / fast, 3)
        sys.stderr.write(f"{phase}: ours {fast:.3f} s, literal {slow:.3f} s, ratio {slow / fast:.2f}\n")
    if arguments.json:
        sys.stdout.write(json.dumps(results) + "\n")


def material() -> tuple[StableDiffusion, siamese.SiameseObjective, dict[str, torch.Tensor]]:
    """A base of about 10 M parameters and one batch."""
    torch.manual_seed(0)
    rates = {"max_steps": 1, "batch_size": 1, "learning_rate": 1e-3}
    vae = tiny.autoencoder(Autoencoder(channels=(16, 48, 96), crop=8, **rates), 4 * SIDE)
    unet = tiny.denoiser(Denoiser(text_width=WIDTH, **rates), 4, SIDE).requires_grad_(False)
    model = StableDiffusion(vae, tiny.text_tower(WIDTH), tiny.tokenizer(), unet, tiny.scheduler("epsilon"))
    params = siamese.Params()
    objective = siamese.SiameseObjective(params, model, control_network(model, params.hint, params.start), 2)
    mask = (torch.rand(BATCH, 1, 4 * SIDE, 4 * SIDE) > 0.5).float().expand(-1, 3, -1, -1).contiguous()
    tensors = {"latents": torch.randn(BATCH, 4, SIDE, SIDE), "noise": torch.randn(BATCH, 4, SIDE, SIDE)}
    tensors |= {"t": torch.tensor([100, 300, 500, 700, 900]), "text": torch.randn(BATCH, tiny.TOKENS, WIDTH)}
    return model, objective, tensors | {"mask": mask, "image": torch.rand(BATCH, 3, 4 * SIDE, 4 * SIDE)}


def versions(
    model: StableDiffusion, objective: siamese.SiameseObjective, x: dict[str, torch.Tensor], k: int
) -> tuple[Callable[[], None], Callable[[], None]]:
    """One training step without the optimiser, ours and the literal one, at step k of 300."""

    def ours() -> None:
        hints = torch.cat([x["mask"], x["image"]])
        losses = objective.losses(x["latents"], x["noise"], x["t"], x["text"], hints, k / 300)
        sum(losses.values(), torch.zeros(())).backward()

    def literal() -> None:
        alphas = objective.schedule.alphas_cumprod
        arguments = (x["latents"], x["noise"], x["t"], x["text"], x["mask"], x["image"], k, 300)
        siamese_literal.step(model.unet, objective.network, alphas, *arguments).backward()

    return ours, literal


def seconds(step: Callable[[], None]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
