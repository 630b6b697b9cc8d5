"""How the tests are dealt to workers: a file to one of them, so that its fixtures are made once; the longest first."""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Files that take longest, in this order; the others follow as they are collected.
LONGEST = (
    "tests/e2e/test_smoke.py",
    "tests/docs/test_blocks.py",
    "tests/pipeline/test_distribution.py",
    "tests/faults/test_kill_and_ranks.py",
    "tests/pipeline/test_extractors.py",
    "tests/pipeline/test_generator_export.py",
    "tests/pipeline/test_audit.py",
    "tests/contracts/test_generators.py",
    "tests/e2e/test_smoke_kinds.py",
    "tests/e2e/test_smoke_segmenters.py",
    "tests/contracts/test_features.py",
    "tests/pipeline/test_siamese.py",
    "tests/pipeline/test_siamese_exactness.py",
    "tests/pipeline/test_base_file.py",
    "tests/pipeline/test_base_hub.py",
    "tests/pipeline/test_sampling.py",
    "tests/pipeline/test_acceleration.py",
    "tests/pipeline/test_step_cost.py",
    "tests/pipeline/test_grid.py",
    "tests/pipeline/test_segmenter_encoders.py",
    "tests/contracts/test_segmenters.py",
)
# Files whose tests take long and share no fixture: each test goes to the next worker that is free.
SPLIT = ("tests/docs/test_blocks.py", "tests/e2e/test_smoke_kinds.py")


def file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def group(nodeid: str) -> str:
    """What stays together on one worker."""
    return nodeid if file(nodeid) in SPLIT else file(nodeid)


def longest_first(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(file(item.nodeid), len(rank)))


class ByFile(LoadScopeScheduling):
    """Deals groups in the order of collection."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        self.config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
