"""The section `generate` of params.yaml: how images are drawn from a trained generator."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_serializer, model_validator
from pydantic_core.core_schema import SerializerFunctionWrapHandler

from pipeline.core.section import Section

MULTISTEP_LIMIT = 200  # steps; with more, their leading timesteps do not reach the noisy end
Every = Annotated[int, Field(ge=2)]
Steps = tuple[Annotated[int, Field(gt=0)], ...]


class Generate(Section):
    """Sampling; the paper: ddim, 50 steps, scale 9."""

    sampler: Literal["ddim", "dpmpp_2m", "unipc"] = "ddim"
    """Sampler: DDIM, DPM-Solver++(2M) or UniPC. The last two take at most 200 steps."""
    eta: float = Field(default=0.0, ge=0, le=1)
    """Noise that every step of `ddim` adds anew, as a share of that of DDPM (Song et al. 2021, eq. 16). 0 adds none, as
    in the paper. 1 hides mistakes of small networks and needs more steps.
    """
    steps: int = Field(gt=0, le=500)
    """Sampling steps; 50 in the paper. With more than 500 of 1000 the leading timesteps would not reach the noisy end.
    """
    guidance_scale: float = Field(ge=1)
    """Scale of classifier-free guidance; 9 in the paper. 1 switches it off and halves the work."""
    batch_size: int = Field(gt=0)
    """Images drawn at a time."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the networks."""
    compile: bool = False
    """Compile the denoising networks with torch.compile. It needs a C++ compiler, or Triton on a GPU."""
    reuse_encoder: Every | Steps = ()
    """Reuse the encoder's features of the previous step: at every n-th step, or at the listed steps, counted from 0. It
    changes the images.
    """
    sensor_noise: bool = False
    """Add white noise until synthetic images are as noisy as the training images; autoencoders remove sensor noise. It
    applies to trained generators, and only where pixels are synthetic.
    """
    shards: int | None = Field(default=None, gt=0)
    """Images per tar shard, rounded up to whole batches, for sets of more than about 10^5 images; `null` writes a file
    per image and per mask. The pixels are the same.
    """

    @model_serializer(mode="wrap")
    def _omit_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `shards` and `sensor_noise` where they are not used, so that earlier fingerprints stay valid."""
        unused = {"shards": None, "sensor_noise": False}
        return {key: value for key, value in handler(self).items() if key not in unused or value != unused[key]}

    @property
    def reused(self) -> tuple[int, ...]:
        """Steps that take the encoder's features and the control of the step before, counted from 0."""
        if isinstance(self.reuse_encoder, int):
            return tuple(range(self.reuse_encoder - 1, self.steps, self.reuse_encoder))
        return tuple(sorted(set(self.reuse_encoder)))

    @model_validator(mode="after")
    def reused_steps_lie_inside(self) -> Self:
        if isinstance(self.reuse_encoder, int):
            wrong = [self.reuse_encoder] if self.reuse_encoder > self.steps else []
        else:
            wrong = [step for step in self.reuse_encoder if step >= self.steps]
        if wrong:
            raise ValueError(f"reuse_encoder {wrong} lies outside the run; its steps are 0 to {self.steps - 1}")
        return self

    @model_validator(mode="after")
    def only_ddim_adds_noise(self) -> Self:
        if self.sampler != "ddim" and self.eta:
            raise ValueError(f"eta {self.eta} is an option of the sampler ddim, found {self.sampler}; leave eta out")
        return self

    @model_validator(mode="after")
    def multistep_samplers_reach_the_noise(self) -> Self:
        if self.sampler != "ddim" and self.steps > MULTISTEP_LIMIT:
            raise ValueError(f"sampler {self.sampler} takes at most {MULTISTEP_LIMIT} steps, found {self.steps}")
        return self
