"""Progress bars on a terminal, lines of progress in a log, and the handlers of both."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import ClassVar, Self, TypeVar

T = TypeVar("T")
SOON, QUIET = 5.0, 15.0  # seconds until the first line of progress, and between two lines
FORMAT = "%(asctime)s %(message)s"
steps = logging.getLogger("pipeline.progress")  # a terminal shows bars instead of its lines


class Bar:
    """A progress bar with an ETA on a terminal and occasional lines in the log; nested bars advance it by fractions."""

    open: ClassVar[list["Bar"]] = []  # those that are shown, the outer one first; a terminal has place for one

    def __init__(self, title: str, total: int | None, visible: bool = True) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self.title, self.total, self.visible, self.whole = title, total, visible, 0
        self.started = self.spoken = time.monotonic()
        columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
        self.drawn = Progress(*columns, console=Console(stderr=True), disable=not visible or bool(Bar.open))
        self.task = self.drawn.add_task(title, total=total)

    def __enter__(self) -> Self:
        if self.visible:
            Bar.open.append(self)
            self.drawn.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.visible:
            self.drawn.stop()
            Bar.open.remove(self)

    def show(self, done: int) -> None:
        """Set the number of items that are done."""
        self.whole = done
        self._tell(done)

    def part(self, share: float) -> None:
        """Set the share of the next item that is done."""
        self._tell(self.whole + min(share, 1.0))

    def _tell(self, done: float) -> None:
        if not self.visible:
            return
        self.drawn.update(self.task, completed=done)
        outer = Bar.open.index(self) - 1
        if outer >= 0 and self.total:
            Bar.open[outer].part(done / self.total)
        now = time.monotonic()
        if now - self.spoken >= (SOON if self.spoken == self.started else QUIET):
            self.spoken = now
            left = f" | {(now - self.started) / done * (self.total - done):.0f} s left" if self.total and done else ""
            steps.info("%s %s/%s%s", self.title, round(done, 1), self.total or "?", left)


def track(items: Iterable[T], title: str, total: int | None = None, visible: bool = True) -> Iterator[T]:
    """Yield the items while a Bar follows them."""
    total = len(items) if total is None and isinstance(items, Sized) else total
    with Bar(title, total, visible) as bar:
        for count, item in enumerate(items, 1):
            yield item
            bar.show(count)


def advance_bar(share: float) -> None:
    """Advance the innermost bar, if there is one, by the share of its next item that is done."""
    if Bar.open:
        Bar.open[-1].part(share)


def start_log(path: Path) -> Path | None:
    """Send all messages to standard error and to the file, written anew; return None where it cannot be."""
    handlers: list[logging.Handler] = [console_handler()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="w", encoding="utf-8"))
        handlers[-1].setFormatter(logging.Formatter(FORMAT))
    except OSError:
        path = None  # type: ignore[assignment]
    logging.raiseExceptions = False  # a full disk costs lines of the log, no more
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
    return path


def console_handler() -> logging.Handler:
    """Return a handler that writes to standard error, without lines of progress where a terminal shows bars."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(lambda record: record.name != steps.name or not sys.stderr.isatty())
    return handler
