"""The doctor finds every planted fault by the name of its check, and nothing on clean data."""

import fcntl
import importlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.cli.doctor import dataset, devices, dvc_state, storage, stored_weights, unlabelled, versions
from pipeline.cli.doctor.devices import Hardware
from pipeline.cli.doctor.examination import examine, precisions
from pipeline.cli.doctor.findings import Finding, errors
from pipeline.cli.forecast import DiskUsage, generator_costs
from pipeline.cli.main import main
from pipeline.core import files
from pipeline.core.section import parse
from pipeline.stages.finetune.costs import Cost
from pipeline.stages.finetune.memory import GeneratorProfiler, Memory
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.drawn_pairs import HEIGHT, WIDTH, brighter, folder, lists, pair, picture, rectangle, save

RATES = {"max_steps": 1, "batch_size": 1, "learning_rate": 1e-3}
SCRATCH = {
    "source": "scratch",
    "autoencoder": {"channels": [16, 16], "crop": 8, **RATES},
    "denoiser": {"channels": [32, 32], "text_width": 16, **RATES},
}
TRAIN, VAL, TEST = "a b c d e f g h", "i j k", "l m n"
GB = 10**9
CPU = Hardware(None, "2.10.0+cpu", None, (), 24 * GB, 2)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: git, DVC, an empty lock file; nothing in the environment chooses hardware."""
    here = tmp_path / "project"
    for name in (".git", ".dvc/tmp", "outputs"):
        (here / name).mkdir(parents=True)
    (here / ".dvc/config").write_text("")
    (here / "dvc.yaml").write_text("stages: {}")
    monkeypatch.chdir(here)
    for name in ("LAUNCH", "PRESET", "CUDA_VISIBLE_DEVICES", "TMPDIR", "HF_HOME", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    return here


@pytest.fixture
def root(project: Path) -> Path:
    """A clean data set of 8, 3 and 3 pairs."""
    return folder(project / "data/set", train=TRAIN, val=VAL, test=TEST)


def study(root: Path, **changes: Any) -> Params:
    """A study of pairs at 16 pixels; `changes` are keys of data, but for sections."""
    sections = {key: changes.pop(key) for key in list(changes) if key in Params.model_fields}
    own = {"reader": "paired_folders", "root": str(root), "size": 16, "prompt": "A photo of a square.", **changes}
    return parse(Params, {**TOY_STUDY, "study": "drawn", "base": SCRATCH, **sections, "data": own})


def write(params: Params) -> Path:
    """params.yaml of a study; JSON is YAML."""
    Path("params.yaml").write_text(params.model_dump_json(exclude_none=True))
    return Path("params.yaml")


def data_findings(params: Params) -> Iterator[Finding]:
    return dataset.findings(params.data, params.seed)


def extractor_findings(params: Params) -> Iterator[Finding]:
    return stored_weights.extractors(params.score.extractors, params.score.weights)


def serious(found: list[Finding] | Iterator[Finding]) -> list[Finding]:
    return [one for one in found if one.severity != "note"]


def test_nothing_is_found_on_clean_data(root: Path) -> None:
    found = examine(write(study(root)))
    assert serious(found) == []
    assert {one.check for one in found} <= {"dvc", "gpu", "packages", "small_test"}


def blank(root: Path, stems: str) -> None:
    for stem in stems.split():
        save(root / "masks" / f"{stem}.png", rectangle(0))


def square(root: Path, stem: str, side: int, label: int = 255) -> None:
    """A mask with a square of `side` pixels of its own in the middle."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10 : 10 + side, 10 : 10 + side] = label
    save(root / "masks" / f"{stem}.png", mask)


def two_classes(root: Path, second: str) -> None:
    """Labels 1 everywhere and 2 in the masks of `second`."""
    for stem in f"{TRAIN} {VAL} {TEST}".split():
        mask = rectangle(1)
        if stem in second.split():
            mask[HEIGHT // 2 :] = 2
        save(root / "masks" / f"{stem}.png", mask)


def groups(root: Path, of_a_and_l: str) -> None:
    """manifest.csv in which every image is its own group, but for a (train) and l (test)."""
    rows = [f"{stem},{of_a_and_l if stem in 'al' else stem}" for stem in f"{TRAIN} {VAL} {TEST}".split()]
    (root / "manifest.csv").write_text("\n".join(["id,group", *rows]))


def grey(root: Path, stem: str) -> None:
    save(root / "images" / f"{stem}.png", picture(stem).convert("L"))


def sized(root: Path, stem: str, width: int, height: int) -> None:
    save(root / "images" / f"{stem}.png", picture(stem, width, height))
    save(root / "masks" / f"{stem}.png", rectangle(255, width, height))


Plant = Callable[[Path], Any]
FAULTS: dict[str, tuple[Plant, str, str, dict[str, Any]]] = {
    "missing mask": (lambda r: (r / "masks/a.png").unlink(), "data", "images/a.png: has no mask", {}),
    "damaged image": (lambda r: (r / "images/a.png").write_bytes(b"x"), "data", "images/a.png: cannot be decoded", {}),
    "other size": (lambda r: save(r / "masks/a.png", rectangle(255, 20, 20)), "data", "the image is 40 x 32", {}),
    "colour mask": (lambda r: save(r / "masks/a.png", picture("x")), "data", "masks/a.png: is a colour mask", {}),
    "labels": (
        lambda r: save(r / "masks/a.png", rectangle(3)),
        "data",
        "images/a.png: its mask holds the values 3",
        {},
    ),
    "copy": (lambda r: save(r / "images/l.png", picture("a")), "data", "the same image in train and test", {}),
    "empty split": (lambda r: blank(r, TEST), "data", "split test: every mask is empty", {}),
    "two lists": (lambda r: lists(r, val=f"{VAL} a"), "data", "names 'a', which splits/train.txt also names", {}),
    "no folder": (lambda r: (r / "masks").rename(r / "labels"), "data", "masks is not a folder", {}),
    "look-alike": (
        lambda r: save(r / "images/l.png", brighter(picture("a"), 8)),
        "near_duplicates",
        "1 pair of images that look the same in two splits: images/a.png (train) and images/l.png (test)",
        {},
    ),
    "group": (lambda r: groups(r, "patient 7"), "divided_groups", "patient 7", {}),
    "class absent": (
        lambda r: two_classes(r, TEST),
        "absent_classes",
        "label 2 is in no training mask (3 other masks hold it)",
        {"num_classes": 3},
    ),
    "class rare": (
        lambda r: two_classes(r, "a i l"),
        "class_balance",
        "label 2 is in 1 of 8 training masks",
        {"num_classes": 3},
    ),
    "class untested": (
        lambda r: two_classes(r, "a b c i"),
        "untested_classes",
        "label 2 is in no mask of test",
        {"num_classes": 3},
    ),
    "tiny lesion": (lambda r: square(r, "a", 6), "tiny_lesions", "1 mask with fewer than 16 foreground pixels", {}),
    "lost lesion": (lambda r: square(r, "a", 1), "lost_lesions", "vanishes at 16 pixels: images/a.png", {}),
    "empty masks": (lambda r: blank(r, "a b c"), "empty_masks", "3 of 8 masks of train are empty", {}),
    "inverted": (
        lambda r: [save(r / f"masks/{s}.png", 255 - rectangle()) for s in f"{TRAIN} {VAL}".split()],
        "inverted_masks",
        "in 11 of 14 masks",
        {},
    ),
    "grey image": (lambda r: grey(r, "a"), "grey_images", "1 of 14 images without colour, the others with", {}),
    "banner": (lambda r: sized(r, "a", 120, 32), "mixed_sizes", "images/a.png (120 x 32)", {}),
    "unlabelled test image": (
        lambda r: save(r / "more/u.png", picture("l")),
        "data",
        "more/u.png: is the test image images/l.png",
        {"unlabelled": {"folder": "data/set/more"}},
    ),
    "thumbnail": (lambda r: None, "small_images", "14 images smaller than half of 128 pixels", {"size": 128}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_of_the_data_is_found(fault: str, root: Path) -> None:
    plant, check, told, data = FAULTS[fault]
    plant(root)
    found = serious(data_findings(study(root, **data)))
    assert [(one.check, told in one.found) for one in found] == [(check, True)]
    assert found[0].advice


def test_data_faults_are_errors_and_leaks_warnings(root: Path) -> None:
    save(root / "images/l.png", brighter(picture("a"), 8))
    groups(root, "patient 7")
    (root / "masks/b.png").unlink()
    found = serious(data_findings(study(root)))
    assert sorted((one.severity, one.check) for one in found) == [
        ("error", "data"),
        ("warning", "divided_groups"),
        ("warning", "near_duplicates"),
    ]


def unseen(params: Params) -> Iterator[Finding]:
    return unlabelled.findings(params.data, params.base, params.training_sets.values(), params.generators.values())


def test_images_without_masks_that_nothing_learns_from_are_a_warning(root: Path) -> None:
    save(root / "more/u.png", picture("u"))
    told = {"unlabelled": {"folder": "data/set/more"}}
    assert list(unseen(study(root))) == list(unseen(study(root, **told))) == []
    (found,) = unseen(study(root, **told, base={"source": "somewhere"}))
    assert (found.severity, found.check) == ("warning", "unlabelled")
    assert "nothing learns from: base.source is somewhere, and no training set has" in found.found


def test_a_mean_teacher_learns_from_images_without_masks_beside_a_foreign_base(root: Path) -> None:
    save(root / "more/u.png", picture("u"))
    told = {"unlabelled": {"folder": "data/set/more"}, "base": {"source": "somewhere"}}
    sets = TOY_STUDY["training_sets"] | {"taught": {"unlabelled": "mean_teacher"}}
    assert list(unseen(study(root, **told, training_sets=sets))) == []


def test_pseudo_labels_that_nothing_learns_from_are_a_warning(root: Path) -> None:
    save(root / "more/u.png", picture("u"))
    told = {"unlabelled": {"folder": "data/set/more", "pseudo_labels": {"segmenter": "unet"}}}
    (found,) = unseen(study(root, **told))
    assert "predicts masks that nothing learns from" in found.found
    sets = TOY_STUDY["training_sets"] | {"predicted": {"unlabelled": "pseudo_labels"}}
    generators = {"siamese": {"copies": 2, "pseudo_labels": True}}
    assert list(unseen(study(root, **told, training_sets=sets))) == []
    assert list(unseen(study(root, **told, generators=generators, base={"source": "somewhere"}))) == []


def test_unlabelled_images_outside_the_data_folder_are_noted(root: Path) -> None:
    told = dvc_state.unwatched_data(study(root, unlabelled={"folder": "/elsewhere/more"}).data)
    assert ["/elsewhere/more" in one.found for one in told] == [True]


def test_a_grey_set_is_no_fault(root: Path) -> None:
    for stem in f"{TRAIN} {VAL} {TEST}".split():
        grey(root, stem)
    assert serious(data_findings(study(root))) == []


def test_what_a_line_advises_stands_behind_its_last_semicolon() -> None:
    (first, second) = errors("data", "a: b; c; do d\n  e", "look")
    assert (first.found, first.advice) == ("a: b; c", "do d")
    assert (second.found, second.advice) == ("e", "look")


def test_wrong_parameters_are_found_and_the_data_is_still_checked(root: Path) -> None:
    (root / "masks/a.png").unlink()
    found = examine(write(study(root, segmenters={"unet": {"decoder": 1}})))
    assert [(one.severity, one.check) for one in serious(found)] == [("error", "parameters"), ("error", "data")]


def test_a_package_that_is_missing_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: Params) -> None:
        raise ModuleNotFoundError("No module named 'timm'")

    monkeypatch.setattr("pipeline.cli.doctor.study_file.check_plugins", absent)
    (one,) = serious(examine(write(study(root))))
    assert (one.severity, one.check) == ("error", "packages")
    assert "'timm'" in one.found and one.advice.startswith("make setup")


def test_an_unreadable_study_is_one_error() -> None:
    Path("params.yaml").write_text("study: [")
    (one,) = serious(examine(Path("params.yaml")))
    assert (one.severity, one.check) == ("error", "parameters")


def test_weights_with_another_hash_are_an_error(root: Path, tmp_path: Path) -> None:
    (tmp_path / "lpips.pth").write_bytes(b"other")
    chosen = {"extractors": ["lpips_alex"], "weights": {"lpips_alex": {"file": str(tmp_path / "lpips.pth")}}}
    (one,) = extractor_findings(study(root, score=chosen))
    assert (one.severity, one.check) == ("error", "extractor_weights")
    assert "expected" in one.found and "replace it" in one.found + one.advice


@pytest.fixture
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.usefixtures("empty_caches")
def test_missing_weights_are_told_with_their_place(root: Path) -> None:
    (one,) = extractor_findings(study(root, score={"extractors": ["lpips_alex"]}))
    assert one.severity == "warning" and "weights/" in one.advice
    hub = {"source": "stable-diffusion-v1-5/stable-diffusion-v1-5"}
    (one,) = stored_weights.base(study(root, base=hub).base)
    assert (one.severity, one.check) == ("warning", "base_weights")
    assert "about 4.3 GB" in one.found and "hf download" in one.advice


@pytest.mark.parametrize(
    ("source", "told"), [("no/where/base", "is neither a folder here"), ("lost.safetensors", "there is no file")]
)
def test_a_base_that_is_not_there_is_an_error(root: Path, source: str, told: str) -> None:
    (one,) = stored_weights.base(study(root, base={"source": source}).base)
    assert (one.severity, one.check) == ("error", "base_weights")
    assert told in one.found


def test_a_folder_that_is_no_base_is_an_error(root: Path) -> None:
    Path("empty").mkdir()
    (one,) = stored_weights.base(study(root, base={"source": "empty"}).base)
    assert one.severity == "error" and "lacks unet/config.json" in one.found


def test_a_segmenter_file_that_is_not_there_is_an_error(root: Path) -> None:
    (one,) = stored_weights.segmenters(study(root, segmenters={"unet": {"weights": "encoder.safetensors"}}).segmenters)
    assert (one.severity, one.check) == ("error", "segmenter_weights")


def test_conditioning_weights_are_looked_for(root: Path) -> None:
    entry = {"method": "controlnet", "copies": 2, "conditioning": "soft_edge_hed"}
    own = {**entry, "conditioning_params": {"file": "hed.pth"}}
    (one,) = stored_weights.conditionings(study(root, generators={"siamese": own}).generators)
    assert one.check == "conditioning_weights" and "at hed.pth" in one.advice


@pytest.mark.parametrize(("total", "severity"), [(2.0, "error"), (0.9, "warning")])
def test_a_full_disk_is_found(total: float, severity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1 * GB})())
    (one,) = storage.space(DiskUsage(0, 0, total * GB, 0))
    assert (one.severity, one.check) == (severity, "disk")
    assert "1 GB are free" in one.found


def test_what_outputs_take_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    files.write_bytes(Path("outputs/drawn/x"), bytes(600))
    assert list(storage.space(DiskUsage(0, 0, 1400, 0))) == []
    assert [one.severity for one in storage.space(DiskUsage(0, 0, 1700, 0))] == ["error"]


def test_a_file_in_the_place_of_outputs_is_an_error() -> None:
    Path("outputs").rmdir()
    Path("outputs").write_text("")
    (one,) = storage.permissions()
    assert (one.severity, one.check) == ("error", "permissions")


def test_a_folder_of_somebody_else_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "outputs")
    (one,) = storage.permissions()
    assert "outputs cannot be written" in one.found


def test_stale_work_is_found_and_fresh_work_is_not(root: Path) -> None:
    for name in ("finetune-0123", "generate-4567", "names"):
        files.write_bytes(Path("work") / name / "state.pt", b"12345")
    written = os.stat("work/finetune-0123/state.pt").st_mtime
    old = written - 20 * storage.DAY
    for path in ("work/finetune-0123/state.pt", "work/finetune-0123"):
        os.utime(path, (old, old))
    (one,) = storage.stale_work(study(root).study, now=written + 60)
    assert one.check == "stale_work" and one.found.endswith("finetune-0123")


def test_what_a_killed_stage_left_half_published_is_found(root: Path) -> None:
    Path("outputs/drawn/.real.x7.tmp").mkdir(parents=True)
    (one,) = storage.stale_work(study(root).study)
    assert "outputs/drawn/.real.x7.tmp" in one.found


@pytest.mark.parametrize(
    ("version", "found"), [((3, 10), 1), ((3, 11), 0), ((3, 12), 0), ((3, 13), 0), ((3, 14), 1), ((2, 7), 1)]
)
def test_python_is_one_of_three(version: tuple[int, int], found: int) -> None:
    assert len(list(versions.python(version))) == found


def test_packages_are_compared_with_the_lock() -> None:
    lock = "torch==2.10.0 ; sys_platform != 'nowhere' \\\n    --hash=sha256:0\nnumpy==2.3.4 \\\nTimm==1.0\n"
    lock += "numpy==1.0 ; sys_platform == 'nowhere' \\\nharmless==1\n"
    wanted = versions.pins(lock)
    assert wanted == {"torch": "2.10.0", "numpy": "2.3.4", "timm": "1.0", "harmless": "1"}
    same = {"torch": "2.10.0+cu128", "numpy": "2.3.4", "timm": "1.0", "harmless": "2"}
    assert list(versions.packages(wanted, same)) == []
    missing, other = versions.packages(wanted, {"torch": "2.9.1", "numpy": "2.3.4", "harmless": "1"})
    assert (missing.severity, missing.found) == ("error", "not installed: timm")
    assert (other.severity, other.found) == ("warning", "other versions than locked: torch 2.9.1 (locked: 2.10.0)")


def test_the_environment_of_the_tests_is_the_locked_one() -> None:
    lock = Path(__file__).parents[2] / "requirements.lock"
    assert serious(versions.findings(lock)) == []


def gpus(found: Hardware, root: Path, launch: str | None = None) -> list[Finding]:
    return serious(devices.gpus(precisions(study(root)), found, launch))


def test_a_machine_without_gpu_is_fine(root: Path) -> None:
    assert gpus(CPU, root) == []


@pytest.mark.parametrize(("cuda", "told"), [(None, "is built for CPUs"), ("13.0", "does not serve torch")])
def test_a_gpu_that_torch_cannot_use_is_an_error(root: Path, cuda: str | None, told: str) -> None:
    (one,) = gpus(Hardware("550.54", "2.10.0", cuda, (), 24 * GB, 2), root)
    assert (one.severity, one.check) == ("error", "gpu")
    assert told in one.found and "550.54" in one.found


def test_hidden_gpus_are_a_warning(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (one,) = gpus(Hardware("550.54", "2.10.0", "12.8", (), 24 * GB, 2), root)
    assert one.severity == "warning" and "CUDA_VISIBLE_DEVICES" in one.found


def test_a_launch_on_more_gpus_than_there_are_is_an_error(root: Path) -> None:
    files.write_bytes(devices.LAUNCHES / "gpu8.yaml", b"{num_processes: 8, num_machines: 1, use_cpu: false}")
    files.write_bytes(devices.LAUNCHES / "cpu2.yaml", b"{num_processes: 2, num_machines: 1, use_cpu: true}")
    (one,) = gpus(CPU, root, "gpu8")
    assert one.check == "launch" and "starts 8 processes on GPUs, but torch sees 0" in one.found
    assert gpus(CPU, root, "cpu2") == []
    (one,) = gpus(CPU, root, "gpu9")
    assert one.advice == "choose of: cpu2, gpu8"


def test_an_old_gpu_has_no_bf16(root: Path) -> None:
    old = Hardware("550.54", "2.10.0", "12.8", (("Tesla T4", 16 * GB, (7, 5)),), 24 * GB, 2)
    assert gpus(old, root) == []
    asking = study(root, finetune={**TOY_STUDY["finetune"], "precision": "bf16"})
    (one,) = serious(devices.gpus(precisions(asking), old, None))
    assert "Tesla T4 has no bf16" in one.found


@pytest.mark.parametrize(
    ("gpu", "room", "fits"), [(True, 8, True), (True, 6, False), (False, 8, True), (False, 7, False)]
)
def test_too_little_memory_is_an_error(
    root: Path, gpu: bool, room: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven GB are needed; of a machine without a GPU nine tenths are for the process."""
    monkeypatch.setattr(GeneratorProfiler, "memory", lambda *_: Memory(GB, GB, 2 * GB, GB, GB, GB))
    monkeypatch.setattr(GeneratorProfiler, "cost", lambda _: Cost(1, 1, 1.0, 1.0, 1.0))
    small = Hardware(None, "2", None, (("Small", room * GB, (8, 0)),) if gpu else (), room * GB, 2)
    found = list(devices.memory(small, None, generator_costs(study(root))[1]))
    assert [(one.severity, one.check) for one in found] == ([] if fits else [("error", "memory")])
    assert fits or ("fine-tuning needs about 7 GB" in found[0].found and "no micro-batch fits" in found[0].found)
    assert fits or found[0].advice.startswith("take a GPU with more memory")


def test_a_micro_batch_that_will_fit_the_gpu_is_a_note(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte per sample, two samples, and room for one."""

    def needed(profiler: GeneratorProfiler, settings: Any, *_: Any) -> Memory:
        return Memory(GB * (settings.micro_batch or settings.global_batch), 0, 0, 0, 0, 0)

    monkeypatch.delenv("PRESET", raising=False)
    monkeypatch.setattr(GeneratorProfiler, "memory", needed)
    monkeypatch.setattr(GeneratorProfiler, "cost", lambda _: Cost(1, 1, 1.0, 1.0, 1.0))
    small, counted = Hardware(None, "2", None, (("Small", GB, (8, 0)),), GB, 2), generator_costs(study(root))[1]
    (one,) = devices.memory(small, None, counted)
    assert (one.severity, one.found) == ("note", "fine-tuning fits the GPU with micro_batch 1, which it will take")
    (one,) = devices.memory(replace(small, gpus=()), None, counted)
    assert (one.severity, one.advice) == ("error", "take a GPU with more memory, LAUNCH=gpu8_zero2 on several GPUs, or"
            " finetune.lora_rank, which is another method")  # fmt: skip


def test_dvc_and_git_are_looked_for() -> None:
    assert list(dvc_state.repository()) == []
    Path(".git").rmdir()
    Path(".dvc/config").unlink()
    Path("dvc.yaml").unlink()
    told = [one.found for one in dvc_state.repository()]
    assert told[:2] == ["there is no dvc.yaml here", ".dvc has no config"]
    Path(".dvc/config").write_text("[core]\n    no_scm = true\n")
    assert [one.check for one in dvc_state.repository()] == ["dvc"]


def test_another_dvc_command_is_found_by_its_table() -> None:
    table = {"write": {"outputs": {"pid": os.getpid(), "cmd": "dvc repro"}}, "read": {}}
    Path(".dvc/tmp/rwlock").write_text(json.dumps(table))
    (one,) = dvc_state.running()
    assert one.severity == "warning" and f"dvc repro (process {os.getpid()})" in one.found
    table["write"]["outputs"]["pid"] = 2**22 + 1  # beyond Linux's largest
    Path(".dvc/tmp/rwlock").write_text(json.dumps(table))
    assert list(dvc_state.running()) == []


def test_another_dvc_command_is_found_by_its_lock() -> None:
    lock = Path(".dvc/tmp/lock")
    lock.write_text("1\n")
    assert list(dvc_state.running()) == []
    with lock.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert [one.check for one in dvc_state.running()] == ["dvc_running"]


# The lock that DVC 3.67 wrote for a file and a folder with these contents.
LOCKED = """
schema: '2.0'
stages:
  make:
    cmd: make
    outs:
    - {path: outputs/drawn/a.json, hash: md5, md5: 8a80554c91d9fca8acb82f023de02f11, size: 3}
    - path: outputs/drawn/set
      hash: md5
      md5: 8f3aed770a113fef1f5936cdd50f77d0.dir
      size: 7
      nfiles: 2
    - {path: outputs/other/x, hash: md5, md5: 0, size: 1}
"""


def test_an_output_changed_by_hand_is_found(root: Path) -> None:
    params = study(root)
    files.write_bytes(Path("outputs/drawn/a.json"), b"{}\n")
    files.write_bytes(Path("outputs/drawn/set/one"), b"abc\n")
    files.write_bytes(Path("outputs/drawn/set/deep/two"), b"de\n")
    Path("dvc.lock").write_text(LOCKED)
    assert list(dvc_state.outputs(params.study)) == []
    files.write_bytes(Path("outputs/drawn/set/deep/two"), b"dE\n")
    (one,) = dvc_state.outputs(params.study)
    assert (one.severity, one.check) == ("warning", "outputs")
    assert one.found == "changed since their stage published them: outputs/drawn/set"
    Path("outputs/drawn/a.json").unlink()
    assert [one.severity for one in dvc_state.outputs(params.study)] == ["note", "warning"]


def test_a_damaged_lock_is_an_error(root: Path) -> None:
    Path("dvc.lock").write_text("stages: [")
    (one,) = dvc_state.outputs(study(root).study)
    assert (one.severity, one.check) == ("error", "dvc")


def test_the_verb_counts_and_tells_by_severity(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(study(root))
    monkeypatch.setattr("pipeline.cli.doctor.examination.machine_checks", lambda params, quick: [])
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.startswith("nothing to mend")
    for stem in "abcdefghi":
        (root / "masks" / f"{stem}.png").unlink()
    for stem in "xyz":
        pair(root, stem)
        (root / "masks" / f"{stem}.png").unlink()
    assert main(["doctor"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "error data: images/a.png: has no mask"
    assert told[1] == "    do: add one of the same name or remove the image"
    assert told[-2].endswith("more; --json lists them")
    assert main(["doctor", "--json"]) == 1
    plain = json.loads(capsys.readouterr().out)
    assert plain["errors"] >= 12 and set(plain["findings"][0]) == {"severity", "check", "found", "advice"}


def counting(monkeypatch: pytest.MonkeyPatch, owner: str) -> list[object]:
    """The first arguments of the calls of a function, which still does its work."""
    module, _, name = owner.rpartition(".")
    original, calls = getattr(importlib.import_module(module), name), []

    def called(*arguments: Any) -> Any:
        calls.append(arguments[0])
        return original(*arguments)

    monkeypatch.setattr(owner, called)
    return calls


def test_a_large_set_is_sampled_and_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dataset, "SAMPLED", 4)
    decoded = counting(monkeypatch, "pipeline.stages.prepare.pair_checks.decode")
    params = study(root)
    (one,) = dataset.findings(params.data, params.seed, thorough=False)
    assert (one.severity, one.check) == ("note", "sampled")
    assert one.found.startswith("4 pairs of 14 decoded")
    assert len(decoded) == 4
    monkeypatch.setattr("pipeline.cli.doctor.examination.machine_checks", lambda params, quick: [])
    write(params)
    assert main(["doctor"]) == 0
    assert "sampled: 4 pairs of 14 decoded" in capsys.readouterr().out
    assert main(["doctor", "--thorough"]) == 0
    assert "sampled" not in capsys.readouterr().out


def test_headers_of_a_large_set_are_all_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged, missing and unequal files are found wherever they lie; pixels of the others are not looked at."""
    monkeypatch.setattr(dataset, "SAMPLED", 2)  # a and n
    (root / "images/c.png").write_bytes(b"nothing")
    save(root / "masks/e.png", rectangle(width=WIDTH // 2))
    (root / "masks/g.png").unlink()
    save(root / "masks/i.png", rectangle(100))  # needs its pixels
    params = study(root)
    told = [one.found for one in serious(dataset.findings(params.data, params.seed, thorough=False))]
    assert [text.partition(":")[0] for text in told] == ["images/g.png", "images/c.png", "images/e.png"]
    (whole,) = [one for one in data_findings(params) if "masks/i.png" in one.found or "images/i.png" in one.found]
    assert "the values 100" in whole.found


def test_memory_and_disk_are_counted_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.cli.doctor.devices.hardware", lambda: CPU)
    counted = counting(monkeypatch, "pipeline.cli.doctor.examination.generator_costs")
    examine(write(study(root)))
    assert len(counted) == 1


def test_an_unknown_study_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--study", "nothing"]) == 2
    assert "there is no study 'nothing'" in capsys.readouterr().err


def test_every_check_is_in_the_guide() -> None:
    repository = Path(__file__).parents[2]
    guide = (repository / "docs" / "doctor.md").read_text(encoding="utf-8")
    names = {check for _, check, _, _ in FAULTS.values()} | {"parameters", "base_weights", "extractor_weights",
             "segmenter_weights", "conditioning_weights", "disk", "permissions", "stale_work", "packages", "python",
             "gpu", "launch", "memory", "dvc", "git", "dvc_running", "outputs"}  # fmt: skip
    assert [name for name in sorted(names) if f"`{name}`" not in guide] == []
