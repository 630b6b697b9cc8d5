"""The check for GPUs at toy size: every line of it runs on the CPU, and says what only a GPU can show."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_check import __main__ as command
from benchmarks.gpu_check import lines
from benchmarks.gpu_check.lines import Check, Outcome
from benchmarks.gpu_check.processes import FailedError, Launch, NotApplicableError, run
from benchmarks.gpu_check.scale import Scale
from pipeline.core.runtime import Runtime

pytestmark = pytest.mark.dist
NEEDS_A_GPU = {
    **{f"no wait for the device, {method}": "a CPU has nothing to wait for" for method in lines.METHODS},
    "TF32": "TF32 is of CUDA",
    "xformers": "attention: xformers needs CUDA",
    "8-bit Adam": "optimizer: adamw_8bit needs CUDA",
    "memory against its prediction": "only CUDA counts what is allocated",
}


def test_every_line_runs_at_toy_size(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["gpu_check", "--toy", "--gpus", "2"])
    status = command.main()
    printed = capsys.readouterr().out
    report = json.loads(printed.splitlines()[-1])
    found = {line["line"]: (line["result"], line["reason"]) for line in report["lines"]}
    assert status == 0, found
    assert list(found) == list(lines.all_lines(Scale.of(toy=True))) and len(found) == 25
    for line, (result, reason) in found.items():
        if line in NEEDS_A_GPU:
            assert result == "not applicable" and NEEDS_A_GPU[line] in reason, line
        elif line != "resume DDP, FSDP2, ZeRO-2, DDP":  # DeepSpeed may be installed
            assert (result, reason) == ("passed", ""), line
    assert (report["device"], report["processes"]) == ("CPU, toy size", 2)
    assert printed.count("| passed |") + printed.count("| not applicable: ") == len(found)


def broken(runtime: Runtime) -> None:
    raise ValueError("one\ntwo")


def idle(runtime: Runtime) -> str:
    raise NotApplicableError("nothing to do")


def test_what_goes_wrong_is_one_line(tmp_path: Path) -> None:
    check = Check(Scale.of(toy=True), 1, tmp_path)
    failed = lines.outcome("a", lambda check: check.alone(broken), check)
    assert (failed.result, failed.reason) == ("failed", "ValueError: one")
    skipped = lines.outcome("b", lambda check: check.alone(idle), check)
    assert (skipped.result, skipped.reason) == ("not applicable", "nothing to do")
    several = lines.outcome("c", lambda check: check.together(idle), check)
    assert several.reason == "needs two GPUs; say GPUS=2"
    with pytest.raises(FailedError, match="no answer within 0 s"):
        run(Launch(on_cpu=True, patience=0.0), broken)


def test_the_batch_fits_the_gpu_that_there_is() -> None:
    scales = (Scale.of(toy=False), Scale.of(toy=False, batch=6), Scale.of(toy=False, batch=2))
    assert [scale.batches for scale in scales] == [(6, 24), (6,), (2,)]


def test_the_table_is_markdown() -> None:
    one = Outcome("a", "failed", "x | y", {"n": 1}, 2.5)
    assert command.row(one) == "| a | failed: x / y | n 1 | 2.5 |"
    assert command.table([one], {"device": "d", "torch": "2"}).splitlines()[:4] == [
        "device d, torch 2:",
        "",
        "| line | result | numbers | seconds |",
        "|---|---|---|---|",
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_would_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu_check", "--gpus", "8"])
    assert command.main() == 2
    assert "0 CUDA devices here, 8 wanted; --toy tries the check on a CPU" in capsys.readouterr().err
