"""What a study could find: its chance of finding true gains of one to three points, and the sizes that would do."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import hypot
from typing import Any

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.metrics.statistics import power
from pipeline.metrics.statistics.power import VarianceComponents
from pipeline.stages.compare.components import NoiseComponents
from pipeline.stages.mix.treatments import treatments
from pipeline.study import Params

GAINS = (0.01, 0.02, 0.03)  # of Dice
SEVERAL = 3  # trained generators, the smallest number whose spread says something
JUDGES = "judges"  # in the place of a segmenter: the noise comes from them
TYPICAL = NoiseComponents("typical", 0.01, 0.08, 0.18, 0.005, 0.06)


@dataclass(frozen=True)
class GainPower:
    """One true gain: the chance of finding it, and the sizes with which the wanted share of studies finds it."""

    gain: float
    found: float  # chance with the study's own sizes
    images_needed: int | None  # test images, with the study's seeds; None: no number is enough
    seeds_needed: int | None  # with the study's images
    found_several: float  # chance of a claim about new trainings of the generator, from SEVERAL of them


@dataclass(frozen=True)
class PowerPlan:
    """The power of a study's main comparison."""

    images: int
    seeds: int
    generators: int
    level: float
    wanted: float  # compare.power
    noise: NoiseComponents
    gains: tuple[GainPower, ...]

    def record(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Yield the plan in words."""
        noise, share = self.noise, f"{100 * self.wanted:.0f} %"
        known = {TYPICAL.segmenter: "assumed", JUDGES: "at most, from the two judges of this study"}
        source = known.get(noise.segmenter, f"measured in {noise.segmenter}")
        yield (
            f"power: the chance of finding a true gain with {self.images} test images, {self.seeds} seeds and"
            f" {self.generators} trained generator{'s' if self.generators > 1 else ''} (level {self.level:.3g})"
        )
        yield (
            f"  noise of the difference, {source}, in points: seeds {100 * noise.seed_sd:.2g}, images"
            f" {100 * noise.image_sd:.2g}, seed x image {100 * noise.cell_sd:.2g}, generators"
            f" {'unknown' if noise.generator_sd is None else format(100 * noise.generator_sd, '.2g')}"
        )
        yield f"  {'gain':<8}{'found':>8}{f'images for {share}':>20}{f'seeds for {share}':>20}{'with 3 generators':>20}"
        yield from map(_line, self.gains)


def _line(row: GainPower) -> str:
    images, seeds = (
        "none suffices" if number is None else f"{number:,}" for number in (row.images_needed, row.seeds_needed)
    )
    found, several = f"{100 * row.found:.0f} %", f"{100 * row.found_several:.0f} %"
    return f"  {f'+{100 * row.gain:.0f}':<8}{found:>8}{images:>20}{seeds:>20}{several:>20}"


def power_plan(params: Params, images: int, like: str | None = None) -> PowerPlan:
    """Plan the comparison of the chosen arm with the reference for so many test images (or groups of them).

    `like` names a finished study, whose noise is taken; None: that of the study's judges where they are trained, and
    typical noise before. Raises UserError where a study has no synthetic arm, or `like` has no comparison.
    """
    arms = treatments(params.training_sets, params.generators, params.compare.reference)
    if not arms:
        raise UserError("params.yaml: no training set has a generator, so there is no gain to plan for")
    noise = read_noise(like) if like is not None else judges_noise(params.study) or TYPICAL
    seeds = len(params.confirm.seeds if params.confirm else params.segment.seeds)
    if seeds < 2 or images < 2:
        raise UserError(f"planning needs at least two seeds and two test images, found {seeds} and {images}")
    level = 1 - params.compare.confidence
    if not params.confirm:
        level /= len(arms) * len(params.segmenters)
    generators = max(one.n_generators for one in arms)
    variances = _variances(noise)
    rows = tuple(_row(gain, variances, seeds, images, level, generators, params.compare.power) for gain in GAINS)
    return PowerPlan(images, seeds, generators, level, params.compare.power, noise, rows)


def read_noise(study: str) -> NoiseComponents:
    """Return the noise of a finished study, of its noisiest segmenter. Raises UserError where it has none."""
    path = paths.comparison(study) / "comparison.json"
    rows = files.read_json(path).get("noise", []) if path.is_file() else []
    if not rows:
        raise UserError(
            f"{path} {'has no noise of arms' if path.is_file() else 'does not exist'}; name a finished study with"
            " synthetic arms and two seeds or more"
        )
    noise = max((NoiseComponents(**row) for row in rows), key=lambda one: (one.seed_sd, one.image_sd))
    return replace(noise, segmenter=f"{study}, {noise.segmenter}")


def judges_noise(study: str) -> NoiseComponents | None:
    """Return typical noise, scaled to the difference between the two judges of a study; None where it has none.

    Judges learn from half of the pairs each, so they differ more than trainings on all of them: in five runs the
    noise was 0.5 to 0.8 of what this gives (docs/statistics.md).
    """
    path = paths.judge(study) / "metrics.json"
    spread = files.read_json(path).get("difference_sd") if path.is_file() else None
    if not spread:
        return None
    scale = spread / hypot(TYPICAL.image_sd, TYPICAL.cell_sd)
    deviations = {key: scale * value for key, value in asdict(TYPICAL).items() if key != "segmenter"}
    return NoiseComponents(JUDGES, **deviations)


def _variances(noise: NoiseComponents) -> VarianceComponents:
    """Return the noise as variances; a study with one generator per treatment knows nothing of that level: typical."""
    known = noise if noise.generator_sd is not None else TYPICAL
    return VarianceComponents(
        noise.seed_sd**2,
        noise.image_sd**2,
        noise.cell_sd**2,
        generators=(known.generator_sd or 0.0) ** 2,
        generator_cells=(known.generator_cell_sd or 0.0) ** 2,
    )


def _row(
    gain: float, variances: VarianceComponents, seeds: int, images: int, level: float, generators: int, wanted: float
) -> GainPower:
    return GainPower(
        gain,
        power.power(gain, variances, seeds, images, level, generators),
        power.images_needed(gain, variances, seeds, level, wanted, generators),
        power.seeds_needed(gain, variances, images, level, wanted, generators),
        power.power(gain, variances, seeds, images, level, SEVERAL),
    )
