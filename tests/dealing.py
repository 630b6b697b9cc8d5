"""How pytest runs these tests: a file on one worker, so that its fixtures are made once; those that take longest first.

The hooks are those of conftest.py.
"""

from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests import machine

# Files that take longest, in this order, wherever they lie; the others follow as they are collected.
LONGEST = (
    "test_smoke.py",
    "test_kill_and_ranks.py",
    "test_audit.py",
    "test_distribution.py",
    "test_segmenters.py",
    "test_generators.py",
    "test_grid.py",
    "test_step_cost.py",
    "test_sampling.py",
    "test_extractors.py",
    "test_smoke_kinds.py",
    "test_generator_export.py",
    "test_features.py",
    "test_blocks.py",
    "test_base_file.py",
    "test_smoke_segmenters.py",
    "test_siamese.py",
    "test_segmenter_encoders.py",
)
# Files whose tests take long and share no fixture: each test goes to the next worker that is free.
SPLIT = ("test_blocks.py", "test_smoke_kinds.py")


def file_name(nodeid: str) -> str:
    """That of the test's file; no two files of tests have the same."""
    return PurePosixPath(nodeid.partition("::")[0]).name


def group(nodeid: str) -> str:
    """What stays together on one worker."""
    return nodeid if file_name(nodeid) in SPLIT else file_name(nodeid)


def longest_first(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(file_name(item.nodeid), len(rank)))


class ByFile(LoadScopeScheduling):
    """Deals groups in the order of collection."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        self.config.option.loadscopereorder = False

    def remove_node(self, node: Any) -> str | None:
        """The test that killed its worker fails and is not tried again; others take over what was left."""
        workload = self.assigned_work.pop(node)
        left = [(tests, nodeid) for tests in workload.values() for nodeid, done in tests.items() if not done]
        if not left:
            return None
        tests, killer = left[0]
        tests[killer] = True
        self.workqueue.update({name: tests for name, tests in workload.items() if not all(tests.values())})
        for other in self.assigned_work:
            self._reschedule(other)
        return killer

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return machine.workers()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A run without workers keeps the order of files."""
    if hasattr(config, "workerinput"):
        longest_first(items)


def pytest_report_header(config: pytest.Config) -> list[str]:
    return machine.described(config.getoption("numprocesses", None) or 0)


def pytest_sessionstart(session: pytest.Session) -> None:
    """A run that asks for workers tells of its machine although the configured options are quiet."""
    config = session.config
    workers = config.getoption("numprocesses", None)
    if workers is not None and config.get_verbosity() < 0 and not hasattr(config, "workerinput"):
        for line in machine.described(workers):
            config.pluginmanager.getplugin("terminalreporter").write_line(line)
