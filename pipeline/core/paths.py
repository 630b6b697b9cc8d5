"""Paths of inputs, outputs and work in progress.

They are relative to the folder in which DVC runs, and the study's name stands in every output.
"""

from collections.abc import Iterable
from pathlib import Path

REPORTS = Path("reports")
BY_GENERATOR = ("generators", "synthetic", "scores", "snapshots", "audit")  # folders with one entry per generator
RATINGS = Path("ratings")
WORK = Path("work")


def log(stage: str, entries: Iterable[str], rank: int) -> Path:
    """The log of one stage's last run, of one process."""
    name = "_".join([stage, *entries, *([f"process{rank}"] if rank else [])])
    return WORK / "logs" / f"{name}.log"


def lock(name: str) -> Path:
    """The lock of what one process makes at a time."""
    return WORK / "locks" / f"{name}.lock"


def decoded(digest: str) -> Path:
    """The arrays of a large image set, for all processes of a machine."""
    return WORK / "decoded" / digest


def outputs(study: str) -> Path:
    """Everything that the stages of one study publish."""
    return Path("outputs") / study


def records(study: str) -> Path:
    """The code behind every stage and every entry of params.yaml."""
    return outputs(study) / "records"


def entries(study: str) -> tuple[Path, ...]:
    """The names of the generators, in each of the folders BY_GENERATOR: so these exist without a generator too."""
    return tuple(outputs(study) / folder / "entries.json" for folder in BY_GENERATOR)


def real(study: str) -> Path:
    """The checked real image set (splits train, val, test)."""
    return outputs(study) / "real"


def unlabelled(study: str) -> Path:
    """The real images without masks, on which the base is pretrained too; an empty set where there are none."""
    return outputs(study) / "unlabelled"


def pseudo_labels(study: str) -> Path:
    """The training pairs and the images with masks that segmenters predicted; an empty set where there are none."""
    return outputs(study) / "pseudo_labels"


def attributes(study: str) -> Path:
    """What is known about the real images, for comparisons by subgroup: a table with a row for each, or none."""
    return outputs(study) / "attributes.csv"


def base(study: str) -> Path:
    """The Stable-Diffusion-shaped base, an ordinary diffusers folder."""
    return outputs(study) / "base"


def generator(study: str, name: str) -> Path:
    """One fine-tuned generator."""
    return outputs(study) / "generators" / name


def synthetic(study: str, name: str) -> Path:
    """The image set of one generator entry."""
    return outputs(study) / "synthetic" / name


def finetune_seconds(study: str, generator_name: str) -> Path:
    """How long the fine-tuning of one generator took; beside its folder, whose hash time must not change."""
    return outputs(study) / "generators" / f"{generator_name}.seconds.json"


def generate_seconds(study: str, generator_name: str) -> Path:
    """How long the drawing of one image set took; beside its folder."""
    return outputs(study) / "synthetic" / f"{generator_name}.seconds.json"


def judge(study: str) -> Path:
    """The segmenter trained on real images only that measures mask faithfulness."""
    return outputs(study) / "judge"


def scores(study: str, generator_name: str) -> Path:
    """Scores of one synthetic image set."""
    return outputs(study) / "scores" / generator_name


def snapshots(study: str, generator_name: str) -> Path:
    """Scores of one generator's snapshots over its training."""
    return outputs(study) / "snapshots" / generator_name


def audit(study: str, generator_name: str) -> Path:
    """The search for copies of training images in one synthetic image set."""
    return outputs(study) / "audit" / generator_name


def training_set(study: str, name: str) -> Path:
    """One materialised training set."""
    return outputs(study) / "training_sets" / name


def segmentation(study: str, segmenter: str) -> Path:
    """Results of the grid training sets x seeds of one segmenter."""
    return outputs(study) / "segmentation" / segmenter


def confirmation(study: str) -> Path:
    """The arm that validation chose and the reference, trained again with fresh seeds; or that there is none."""
    return outputs(study) / "confirmation"


def comparison(study: str) -> Path:
    """The comparison of all arms."""
    return outputs(study) / "comparison"


def report(study: str) -> Path:
    """The report of a study: the page, its figures, its numbers, and what DVC shows."""
    return REPORTS / study


def ratings(study: str) -> Path:
    """The clinicians' ratings (*.csv): an input, there or not."""
    return RATINGS / study


def work(stage: str, fingerprint: str) -> Path:
    """Work in progress of one stage with these parameters and inputs; untracked, cleared by `make prune`."""
    return WORK / f"{stage}-{fingerprint}"


def study_of(folder: Path) -> str | None:
    """The study that published this folder; None: it lies elsewhere."""
    parts = folder.parts
    return parts[-3] if len(parts) >= 4 and parts[-4] == "outputs" else None
