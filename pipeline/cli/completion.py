"""twinsynth completion: a script with which the shell completes verbs and options."""

import argparse
from typing import Any

from pipeline.cli._telling import declare, tell


def add(subparsers: Any) -> None:
    """Declares the verb."""
    parser = declare(
        subparsers,
        "completion",
        "print a script for the shell's completion of verbs and options",
        'eval "$(twinsynth completion bash)"                               # this shell; in ~/.bashrc: every one',
        'twinsynth completion zsh > "${fpath[1]}/_twinsynth"',
        "twinsynth completion tcsh > ~/.twinsynth.tcsh; source ~/.twinsynth.tcsh",
    )
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def run(arguments: argparse.Namespace) -> int:
    """Prints the script."""
    import shtab

    from pipeline.cli.main import parser

    tell(shtab.complete(parser(), shell=arguments.shell).rstrip("\n"))
    return 0
