"""The two container files: what they copy exists, their shell is valid, and they install the same system."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DOCKER = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
APPTAINER = (REPOSITORY / "Apptainer.def").read_text(encoding="utf-8")
SECTIONS = ("files", "post", "environment", "runscript", "test")
INSTRUCTIONS = {"ARG", "FROM", "RUN", "USER", "WORKDIR", "COPY", "ENV", "CMD"}


def instructions() -> list[tuple[str, str]]:
    """Name and rest of every instruction of the Dockerfile; continued lines are joined."""
    lines = [line for line in DOCKER.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


def sections() -> dict[str, str]:
    """Text of every section of the definition file."""
    parts = re.split(r"^%(\w+)\n", APPTAINER, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def scripts() -> Iterator[tuple[str, str]]:
    yield from (("Dockerfile", rest) for name, rest in instructions() if name == "RUN")
    yield from (("Apptainer.def", text) for name, text in sections().items() if name != "files")


def packages(text: str) -> set[str]:
    [listed] = re.findall(r"apt-get install --yes --no-install-recommends ([\w+ -]+)", text)
    return set(listed.split())


def test_every_instruction_and_section_is_known() -> None:
    assert {name for name, _ in instructions()} <= INSTRUCTIONS
    assert tuple(sections()) == SECTIONS


def test_what_they_copy_exists() -> None:
    copied = [word for name, rest in instructions() if name == "COPY" for word in rest.split()[1:-1]]
    copied += [line.split()[0] for line in sections()["files"].splitlines() if line.strip()]
    assert copied == ["requirements.lock", ".", "requirements.lock"]
    assert all((REPOSITORY / path).exists() for path in copied)


@pytest.mark.parametrize(("file", "script"), list(scripts()))
def test_their_shell_is_valid(file: str, script: str) -> None:
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{file}: {done.stderr}"


def test_both_install_the_same_system_and_the_locked_packages() -> None:
    [base] = re.findall(r"^ARG BASE=(\S+)$", DOCKER, flags=re.MULTILINE)
    assert f"From: {base}\n" in APPTAINER
    assert packages(DOCKER) == packages(APPTAINER) >= {"g++", "python3-dev"}  # finetune.compile builds kernels
    assert all("--require-hashes" in text for text in (DOCKER, APPTAINER))
