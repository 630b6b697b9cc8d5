"""What stages share: arguments that name an entry of params.yaml, and errors told without a traceback."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.params import Params

PATIENCE = 10.0  # seconds
ENTRIES = {"generator": "generators", "training_set": "training_sets", "segmenter": "segmenters"}


def run(stage: Callable[..., None], about: str | None, *entries: str, argv: list[str] | None = None) -> None:
    """Runs `stage(params, **chosen)` with the entries named on the command line (default: the first of params.yaml).

    A UserError ends the process with one message and status 2; of several processes the first to fail tells it.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=about)
    for entry in entries:
        parser.add_argument(f"--{entry.replace('_', '-')}", help=f"a key of {ENTRIES[entry]} (default: the first)")
    arguments = vars(parser.parse_args(argv))
    from pipeline.params import load_params

    try:
        params = load_params()
        stage(params, **{entry: _choice(params, entry, arguments[entry]) for entry in entries})
    except UserError as error:
        _tell(error, int(os.environ.get("RANK", "0")))
        raise SystemExit(2) from None


def _tell(error: UserError, rank: int) -> None:
    """The first process tells at once; another waits, in which time a launcher ends it if the first failed too."""
    if rank > 0:
        time.sleep(PATIENCE)
    sys.stderr.write(f"error: {error}\n" if rank == 0 else f"error in process {rank}: {error}\n")


def _choice(params: "Params", entry: str, name: str | None) -> str:
    there: dict[str, Any] = getattr(params, ENTRIES[entry])
    chosen = name or next(iter(there))
    if chosen not in there:
        raise UserError(f"there is no {entry} {chosen!r} in params.yaml; there are: {', '.join(there)}")
    return chosen
