"""Presets set what hardware decides and refuse what belongs to the study."""

from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.stages.finetune import presets
from pipeline.stages.finetune.params import Finetune
from tests.conftest import REPOSITORY

SETTINGS = Finetune(max_steps=2, global_batch=8, learning_rate=1e-3, precision="bf16")
SHIPPED = REPOSITORY / "configs" / "presets"


def write(folder: Path, finetune: str) -> None:
    text = f"launch: gpu1\ndevices: 1\nmemory_gib: 24\ntflops: 60\nfinetune: {finetune}\n"
    (folder / "mine.yaml").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name", ["1x24g", "1x80g", "8x24g", "8x80g", "8x80g_sdxl"])
def test_shipped_preset_changes_hardware_only(name: str) -> None:
    fitted = presets.under(SETTINGS, presets.load(name, SHIPPED))
    changed = {key for key in Finetune.model_fields if getattr(fitted, key) != getattr(SETTINGS, key)}
    assert changed and changed <= set(presets.Switches.model_fields)
    assert (REPOSITORY / "configs" / "accelerate" / f"{presets.load(name, SHIPPED).launch}.yaml").is_file()


def test_without_a_preset_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRESET", raising=False)
    assert presets.fitted(SETTINGS) is SETTINGS


def test_the_shell_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("PRESET", "1x24g")
    assert presets.fitted(SETTINGS).gradient_checkpointing
    monkeypatch.setenv("PRESET", "9x1g")
    with pytest.raises(UserError, match="PRESET is '9x1g'; the available ones are: 1x24g, 1x80g, 8x24g, 8x80g"):
        presets.fitted(SETTINGS)


def test_all_presets_of_a_run_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run may be killed under one and go on under another or none: its bytes are those of none of them alone."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.delenv("PRESET", raising=False)
    presets.note(tmp_path)
    assert presets.record(tmp_path) == {}
    for name in ("1x24g", "1x24g", "8x24g"):
        monkeypatch.setenv("PRESET", name)
        presets.note(tmp_path)
    told = presets.record(tmp_path)["presets"]
    assert [one["name"] for one in told] == [None, "1x24g", "8x24g"]
    assert told[1]["micro_batch"] == 2


def test_switches_that_were_chosen_to_fit_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRESET", raising=False)
    assert presets.leaves_open(SETTINGS)
    fitting = SETTINGS.model_copy(update={"micro_batch": 2})
    assert not presets.leaves_open(fitting)
    presets.note(tmp_path, presets.differences(SETTINGS, fitting))
    assert presets.record(tmp_path) == {"presets": [{"name": "fitted", "micro_batch": 2}]}


@pytest.mark.parametrize("key", ["optimizer: adamw_8bit", "precision: fp32", "max_steps: 1", "lora_rank: 4"])
def test_what_changes_the_method_is_refused(tmp_path: Path, key: str) -> None:
    write(tmp_path, f"{{{key}}}")
    with pytest.raises(UserError, match=f"finetune.{key.split(':')[0]} changes the method"):
        presets.load("mine", tmp_path)


def test_unknown_keys_are_named_with_the_file(tmp_path: Path) -> None:
    write(tmp_path, "{micro_bach: 2}")
    with pytest.raises(UserError, match=r"mine.yaml: finetune.micro_bach is not a parameter; did you mean micro_batch"):
        presets.load("mine", tmp_path)
