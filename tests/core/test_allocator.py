"""Memory that is freed stays with the process, unless the user has set the thresholds of glibc."""

import json
import os
import platform
import subprocess
import sys

import pytest

from pipeline.core.allocator import VARIABLES

FAULTS = """
import json, resource, sys
from pipeline.core.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
def fill():
    blocks = [bytearray(24_000_000) for _ in range(2)]
for _ in range(3):
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    fill()
print(json.dumps([kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before]))
"""


def _run(keep: str, **variables: str) -> list[int]:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | variables
    command = [sys.executable, "-c", FAULTS, keep]
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_blocks_are_used_again_without_page_faults() -> None:
    kept, faults = _run("keep")
    assert kept
    assert faults < 200


def test_thresholds_that_the_user_has_set_are_respected() -> None:
    assert _run("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] is False
