"""Damaged files: a stage makes its own again, or says in one line what to remove; never success over damage."""

import random
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import damage, tally
from tests.faults.conftest import Clean, of_stage
from tests.faults.launching import STAGES, Run, copy, forget, place, published, remove, start

FINETUNED = ("finetune-*/generator_*",)


@dataclass(frozen=True)
class Case:
    """A file of a finished study that a stage reads, damaged before the stage runs again."""

    stage: str
    files: str  # pattern below the study; one of them is drawn
    gone: tuple[str, ...] = ()  # patterns of work that the stage is to make again

    @property
    def options(self) -> bool:
        """Whether it lies in the work of the stage."""
        return self.files.startswith("work")


OWN = (  # checkpoints, caches and finished work
    Case("base", "work/base-*/denoiser/checkpoints/*.pt", ("base-*/base",)),
    Case("base", "work/base-*/autoencoder/checkpoints/*.pt", ("base-*/base", "base-*/denoiser")),
    Case("base", "work/base-*/base/unet/*.safetensors"),
    Case("base", "work/base-*/base/manifest.json"),
    Case("base", "work/base-*/base/.sums.json"),
    Case("finetune", "work/finetune-*/checkpoints/*.pt", FINETUNED),
    Case("finetune", "work/finetune-*/snapshots/*.pt", FINETUNED),
    Case("finetune", "work/finetune-*/validation/*.json", FINETUNED),
    Case("finetune", "work/finetune-*/generator_*/controlnet.safetensors"),
    Case("finetune", "work/finetune-*/generator_*/losses.csv"),
    Case("finetune", "work/moments/*/*.safetensors", ("finetune-*",)),
    Case("generate", "work/generate-*/set/images/*.png"),
    Case("generate", "work/generate-*/set/masks/*.png"),
    Case("generate", "work/generate-*/set/metadata.jsonl"),
    Case("generate", "work/generate-*/rows/*/*.json"),
    Case("score", "work/features/*.npz"),
    Case("audit", "work/features/*.npz"),
    Case("segment", "work/segment-*/cell.json"),
    Case("confirm", "work/segment-*/cell.json"),
    Case("compare", "work/compare-*/comparison.json"),
)
OTHERS = (  # what another stage has published
    Case("mix_real", "outputs/smoke/real/metadata.jsonl"),
    Case("mix_real", "outputs/smoke/real/images/*.png"),
    Case("base", "outputs/smoke/real/images/*.png"),
    Case("base", "outputs/smoke/real/spec.json"),
    Case("finetune", "outputs/smoke/base/unet/*.safetensors"),
    Case("finetune", "outputs/smoke/base/vae/*.safetensors"),
    Case("generate", "outputs/smoke/generators/siamese/decoder.safetensors"),
    Case("generate", "outputs/smoke/base/text_encoder/*.safetensors"),
    Case("score", "outputs/smoke/judge/fold_*/weights.safetensors"),
    Case("score", "outputs/smoke/judge/folds.csv"),
    Case("score", "outputs/smoke/synthetic/siamese/images/*.png"),
    Case("score", "outputs/smoke/synthetic/siamese/metadata.jsonl"),
    Case("audit", "outputs/smoke/synthetic/siamese/images/*.png"),
    Case("mix", "outputs/smoke/scores/siamese/images.csv"),
    Case("mix", "outputs/smoke/audit/siamese/images.csv"),
    Case("mix", "outputs/smoke/synthetic/siamese/masks/*.png"),
    Case("segment", "outputs/smoke/training_sets/siamese_x1/images/*.png"),
    Case("segment", "outputs/smoke/training_sets/siamese_x1/metadata.jsonl"),
    Case("confirm", "outputs/smoke/segmentation/unet/scores.csv"),
    Case("compare", "outputs/smoke/segmentation/unet/scores.csv"),
    Case("report", "outputs/smoke/comparison/comparison.json"),
    Case("report", "outputs/smoke/scores/siamese/scores.json"),
    Case("report", "outputs/smoke/audit/siamese/audit.json"),
    Case("report", "outputs/smoke/generators/siamese/losses.csv"),
)


def hit(study: Path, case: Case, kind: str, rng: random.Random) -> Path:
    """Damages one of the files; names of work differ by version, so they are drawn by place."""
    found = sorted(study.glob(case.files), key=lambda path: (path.name, path.stat().st_size))
    path = rng.choice(found)
    damage.KINDS[kind](path, rng)
    tally.count("corruptions")
    return path


def judged(run: Run, study: Path, case: Case, clean: Clean) -> None:
    """Success with the clean run's outputs; or one line, whose remedy leads there. Its own work it should mend."""
    mended(run, study, case.stage)
    whole(study, case, clean)


def mended(run: Run, study: Path, name: str) -> None:
    """Follows what is said until the stage succeeds; linked files may be damaged in several sets."""
    for _ in range(5):
        status = run.wait()
        if status == 0:
            return
        assert status == 2, run.text
        follow(run.text, study)
        run = start(study, name)
    pytest.fail(f"{name} says more and more: {run.text}")


def whole(study: Path, case: Case, clean: Clean) -> None:
    right = of_stage(published(study), case.stage) == clean.of(case.stage)
    tally.count("losses", int(not right))
    assert right, "success over damaged output"


def follow(text: str, study: Path) -> None:
    """Does what the message says: removes what it names and, where another stage made that, runs that stage."""
    assert "Traceback" not in text
    named = re.search(r"remove (\S+) (?:and run the stage|to resume|to start)|(\S+) is damaged .*remove it", text)
    named = named or re.search(r"(\S+) cannot be scored:(?s:.*)(?:Run the stage that makes it again)", text)
    assert named, text
    target = Path(next(part for part in named.groups() if part))
    remove(study / target)
    for name, stage in STAGES.items():
        if any(str(target) == place(output) for output in stage.outputs):
            mended(start(study, name), study, name)


def tried(clean: Clean, folder: Path, case: Case, kind: str, work: bool) -> None:
    study, rng = copy(clean.folder, folder / "study", work=work), random.Random(f"{case}/{kind}")
    hit(study, case, kind, rng)
    if not case.options:
        forget(study, case.stage)
    for pattern in case.gone:
        for path in (study / "work").glob(pattern):
            remove(path)
    judged(start(study, case.stage), study, case, clean)


def named(cases: tuple[Case, ...]) -> list[str]:
    return [f"{case.stage}-{case.files.replace('/', '.')}" for case in cases]


@pytest.mark.faults
@pytest.mark.parametrize("kind", damage.KINDS)
@pytest.mark.parametrize("case", OTHERS[:2], ids=named(OTHERS[:2]))
def test_a_cheap_stage_refuses_damaged_input(begun: Clean, tmp_path: Path, case: Case, kind: str) -> None:
    tried(begun, tmp_path, case, kind, work=False)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("kind", damage.KINDS)
@pytest.mark.parametrize("case", OTHERS[2:], ids=named(OTHERS[2:]))
def test_damaged_input_never_becomes_output(whole_study: Clean, tmp_path: Path, case: Case, kind: str) -> None:
    tried(whole_study, tmp_path, case, kind, work=False)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("kind", damage.KINDS)
@pytest.mark.parametrize("case", OWN, ids=named(OWN))
def test_damaged_work_never_becomes_output(whole_study: Clean, tmp_path: Path, case: Case, kind: str) -> None:
    tried(whole_study, tmp_path, case, kind, work=True)


@pytest.mark.slow
@pytest.mark.faults
def test_many_flipped_bits_of_a_checkpoint(whole_study: Clean, tmp_path: Path) -> None:
    """Any bit: what torch reads without a checksum of its own is found by those of the archive."""
    import torch

    from pipeline.core.errors import UserError
    from pipeline.training import checkpoints

    path = next((whole_study.folder / "work").glob("finetune-*/snapshots/*.pt"))
    wanted, rng = torch.load(path, weights_only=True), random.Random(0)
    for number in range(200):
        copied = tmp_path / "copy.pt"
        copied.write_bytes(path.read_bytes())
        damage.flip_somewhere(copied, rng)
        tally.count("corruptions")
        try:
            found = checkpoints.load(copied)
        except UserError:
            continue
        assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items()), number
