"""twinsynth: start, check, run and hand on a study of synthetic training data for medical image segmentation."""

import argparse
import importlib
import keyword
import logging
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from pipeline.cli.output import Formatter
from pipeline.core.errors import UserError

VERBS = (
    *(
        "init",
        "doctor",
        "estimate",
        "study",
        "submit",
        "jobs",
        "download",
        "weights",
        "report",
        "rate",
        "try",
        "predict",
        "export",
        "release",
        "import",
    ),
    "completion",
)
EXAMPLE = """example: a first study of your own images

  twinsynth init --images data/mine/images --masks data/mine/masks --name mine
  twinsynth study use mine
  twinsynth doctor
  dvc repro
  twinsynth report --open"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit status: 2 for an error that the user can mend, 1 for an unforeseen one."""
    arguments = parser().parse_args(argv)
    from pipeline.core import progress

    logging.basicConfig(level=logging.INFO, handlers=[progress.console_handler()])
    try:
        status = _module(arguments.verb).run(arguments)
        sys.stdout.flush()
        return status
    except UserError as error:
        return _refuse("; ".join(line.strip() for line in str(error).splitlines() if line.strip()))
    except BrokenPipeError:  # as in `twinsynth study show demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _refuse(f"{error.filename or 'a file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
    except Exception as error:  # noqa: BLE001, its traceback goes to a log
        return _unforeseen(arguments.verb, error)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs; loads the standard library only."""
    command = argparse.ArgumentParser(
        prog="twinsynth", description=__doc__, epilog=EXAMPLE, formatter_class=Formatter, allow_abbrev=False
    )
    verbs = command.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name in VERBS:
        _module(name).add(verbs)
    return command


def _module(verb: str) -> ModuleType:
    """Return the module of a verb; a verb that is a keyword of Python has _ behind its file's name."""
    return importlib.import_module(f"pipeline.cli.verbs.{verb}{'_' if keyword.iskeyword(verb) else ''}")


def _unforeseen(verb: str, error: Exception) -> int:
    """Write one line and the place of the traceback to standard error."""
    from pipeline.core import paths
    from pipeline.stages import command

    log = command.record(paths.log("twinsynth", [verb], 0))
    place = f"\nlog: {log}" if log else ""
    sys.stderr.write(f"error: {verb} failed in a way that nobody foresaw ({command.brief(error)}){place}\n")
    return 1


def _refuse(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return 2
