"""Files of weights of strangers: nothing in them is run, and whatever their bytes are, they are read or refused."""

import contextlib
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.methods.conditioning import _soft_edges
from pipeline.methods.features import _inception, _weights
from pipeline.methods.segmenters import _supervised
from pipeline.networks import pretrained
from pipeline.networks.stable_diffusion import weight_file
from pipeline.stages.score.params import WeightFile
from pipeline.training.checkpoints import Checkpoints
from tests.faults.tally import count
from tests.malformed import bent, sizes, tried

pytestmark = pytest.mark.faults
TENSORS = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.zeros(3, dtype=torch.int64)}


class Runs:
    """Unpickled by a careless reader, it makes the file run.txt."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        import os

        return os.system, ("touch run.txt",)


class Opens:
    """The same without a shell."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return eval, ("open('run.txt', 'w').close()",)


def saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def readers(tmp_path: Path) -> dict[str, Callable[[Path], Any]]:
    """Everything of ours that reads a file of weights which somebody else may have made."""

    def edges(path: Path) -> nn.Module:
        published = pretrained.Weights("x.pth", "https://example.org/x.pth", None, "unknown")
        return _soft_edges.load_weights(nn.Linear(4, 3), "x", published, _soft_edges.SoftEdges(file=str(path)))

    def checkpoint(path: Path) -> Any:
        place = tmp_path / "run" / "checkpoints" / "00000001.pt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
        return Checkpoints(tmp_path / "run", "x", 1, Runtime(torch.device("cpu"))).newest(1)

    return {
        "segmenter": _supervised.read_weights,
        "extractor": _weights.read_tensors,
        "base": weight_file.read,
        "shapes": weight_file.shapes,
        "hint": edges,
        "checkpoint": checkpoint,
    }


def script() -> bytes:
    """TorchScript: a program."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


def programs() -> dict[str, bytes]:
    """Files that a careless reader would run."""
    return {
        "system.pth": saved({"a": TENSORS["a.weight"], "b": Runs()}),
        "eval.pth": saved(Opens()),
        "old.pth": saved({"a": Runs()}, _use_new_zipfile_serialization=False),
        "plain.bin": pickle.dumps(Runs()),
        "named_safely.safetensors": pickle.dumps(Runs()),
        "module.pt": saved(nn.Linear(2, 2)),
        "script.pt": script(),
    }


@pytest.mark.parametrize("reader", ["segmenter", "extractor", "base", "shapes", "hint", "checkpoint"])
def test_no_reader_runs_what_is_in_a_file(reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in programs().items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            UserError, match=name.partition(".")[0] if reader != "checkpoint" else "damaged|no checkpoint"
        ):
            readers(tmp_path)[reader](tmp_path / name)
        count("malformed")
    assert not list(tmp_path.rglob("run.txt"))


def test_the_planted_programs_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the test above can fail."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(programs()["plain.bin"])
    assert (tmp_path / "run.txt").is_file()


@sizes(25, 600)
def test_bent_files_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    monkeypatch.chdir(tmp_path)
    own, read = readers(tmp_path), {"whole": 0}
    pickled = [saved(TENSORS), saved({"state_dict": TENSORS}), saved(TENSORS, _use_new_zipfile_serialization=False)]

    def check(chosen: tuple[bytes, str]) -> None:
        content, suffix = chosen
        path = tmp_path / f"x{suffix}"
        path.write_bytes(content)
        for reader in own.values():
            with contextlib.suppress(UserError):
                reader(path)
                read["whole"] += 1

    safe = st.tuples(bent([save(TENSORS)]), st.just(".safetensors"))
    content = bent([*pickled, *programs().values()]) | st.sampled_from(pickled)
    tried(examples, st.tuples(content, st.sampled_from([".pth", ".bin"])) | safe, check)
    assert read["whole"] > 0
    assert not (tmp_path / "run.txt").exists()


def test_weights_that_unfold_are_refused(tmp_path: Path) -> None:
    """torch stores its parts as they are; one that is compressed could unfold to any size."""
    path, packed = tmp_path / "sound.pth", tmp_path / "packed.pth"
    path.write_bytes(saved(TENSORS))
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    for name in ("segmenter", "extractor", "base"):
        assert readers(tmp_path)[name](path)
        with pytest.raises(UserError, match="could unfold to any size"):
            readers(tmp_path)[name](packed)


def test_tables_of_something_else_are_no_weights(tmp_path: Path) -> None:
    for value in ([1, 2], {"a": 1}, {"a": {"b": TENSORS}}, TENSORS["a.bias"], "text", None, {1: TENSORS["a.bias"]}):
        (tmp_path / "x.pth").write_bytes(saved(value))
        for name in ("segmenter", "extractor", "hint"):
            with contextlib.suppress(UserError):
                readers(tmp_path)[name](tmp_path / "x.pth")
                assert name != "hint"


def test_a_program_is_run_only_where_its_hash_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("a program of unknown origin was loaded"))
    place = _inception.WEIGHTS.place
    place.parent.mkdir(parents=True)
    place.write_bytes(script())
    with pytest.raises(UserError, match="sha256"):
        pretrained.find("inception", _inception.WEIGHTS, {})
    with pytest.raises(UserError, match="sha256"):
        pretrained.find("inception", _inception.WEIGHTS, {"inception": WeightFile(file=str(place))})
    with pytest.raises(UserError, match="sha256"):
        pretrained.find("inception", _inception.WEIGHTS, {"inception": WeightFile(file=str(place), sha256="0" * 64)})


def test_every_program_among_the_published_weights_has_a_hash() -> None:
    assert len(_inception.WEIGHTS.sha256 or "") == 64
