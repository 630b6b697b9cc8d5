"""What stages share: arguments that name an entry of params.yaml, a log, and errors in one line."""

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.core import files, locks, paths, progress
from pipeline.core.errors import UserError

if TYPE_CHECKING:
    from pipeline.study import Params

PATIENCE = 10.0  # seconds
ENTRIES = {"generator": "generators", "training_set": "training_sets", "segmenter": "segmenters"}
WRONG, BROKEN, STOPPED = 2, 1, 130  # exit statuses: the user's to mend, ours to mend, Ctrl-C


def run(stage: Callable[..., None], about: str | None, *entries: str, argv: list[str] | None = None) -> None:
    """Run `stage(params, **chosen)` with the entries named on the command line (default: the first of params.yaml).

    Progress and messages also go to work/logs/<stage>_<entry>.log, with the traceback of what was not foreseen. A run
    that fails ends with one line and that file's place; of several processes the first to fail tells it.
    """
    parser = argparse.ArgumentParser(description=about)
    for entry in entries:
        parser.add_argument(f"--{entry.replace('_', '-')}", help=f"a key of {ENTRIES[entry]} (default: the first)")
    arguments = vars(parser.parse_args(argv))
    from pipeline.study import load_params

    rank, name = process(), Path(stage.__code__.co_filename).stem
    log = None
    try:
        params = load_params()
        chosen = {entry: _choice(params, entry, arguments[entry]) for entry in entries}
        with locks.exclusive("_".join([name, *chosen.values()])) if rank == 0 else nullcontext():
            log = progress.start_log(paths.log(name, chosen.values(), rank))
            stage(params, **chosen)
    except UserError as error:
        _end(f"error: {error}", WRONG, log, rank)
    except KeyboardInterrupt:
        _end(f"{name} was stopped; the same command goes on", STOPPED, log, rank)
    except Exception as error:
        if refused := files.write_failure(error):
            _end(f"error: {refused}", WRONG, log, rank)
        if log is None:
            raise
        record(log)
        _end(f"error: {name} failed in a way that nobody foresaw ({brief(error)})", BROKEN, log, rank)


def process() -> int:
    """Return the number of this process in its launch, 0 for the main one, without loading torch."""
    return int(os.environ.get("RANK", "0"))


def _end(message: str, status: int, log: Path | None, rank: int) -> NoReturn:
    """The first process tells at once; another waits, in which time a launcher ends it if the first failed too."""
    if log is not None:
        with suppress(OSError), log.open("a", encoding="utf-8") as file:
            file.write(f"{message}\n")
    if rank > 0:
        time.sleep(PATIENCE)
    process = f"process {rank}: " if rank > 0 else ""
    place = f"\nlog: {log}" if log is not None else ""
    sys.stderr.write(f"{process}{message}{place}\n")
    raise SystemExit(status) from None


def record(log: Path) -> Path | None:
    """Add the traceback of the error at hand to a log; None where it cannot be written."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            traceback.print_exc(file=file)
    except OSError:
        return None
    return log


def brief(error: Exception) -> str:
    """Kind and first line of an error."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _choice(params: "Params", entry: str, name: str | None) -> str:
    there: dict[str, Any] = getattr(params, ENTRIES[entry])
    if not there:
        raise UserError(f"the study {params.study} has no {ENTRIES[entry]}, so there is nothing to do")
    chosen = name or next(iter(there))
    if chosen not in there:
        raise UserError(f"there is no {entry} {chosen!r} in params.yaml; the available ones are: {', '.join(there)}")
    return chosen
