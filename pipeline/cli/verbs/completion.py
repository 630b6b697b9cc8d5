"""twinsynth completion: a script with which the shell completes verbs and options."""

import argparse
from collections.abc import Iterator
from typing import Any

from pipeline.cli.output import declare, tell


def add(subparsers: Any) -> None:
    """Declare the verb."""
    parser = declare(
        subparsers,
        "completion",
        "print a script for the shell's completion of verbs and options",
        'eval "$(twinsynth completion bash)"                               # this shell; in ~/.bashrc: every one',
        'twinsynth completion zsh > "${fpath[1]}/_twinsynth"',
        "twinsynth completion tcsh > ~/.twinsynth.tcsh; source ~/.twinsynth.tcsh",
    )
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell to complete in")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    from pipeline.cli.main import parser

    command = parser()
    for action in _actions(command):
        if action.metavar in ("DIR", "FILE"):
            completer = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
            setattr(action, "complete", completer)  # noqa: B010, where shtab looks; argparse does not know it
    tell(shtab.complete(command, shell=arguments.shell).rstrip("\n"))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of all verbs below it."""
    for action in parser._actions:
        yield action
        for inner in dict(action.choices).values() if isinstance(action, argparse._SubParsersAction) else ():
            yield from _actions(inner)
