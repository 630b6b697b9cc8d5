"""twinsynth try: a page on which one draws a mask and sees what a trained generator makes of it."""

import argparse
import sys
from typing import Any

from pipeline.cli.output import declare, tell

EXAMPLE = "twinsynth try --open"


def add(subparsers: Any) -> None:
    """Declare the verb."""
    about = "draw a mask in the browser and see what a trained generator of the study makes of it"
    parser = declare(subparsers, "try", about, EXAMPLE)
    parser.add_argument("--port", type=int, default=8766, help="port to listen at, 0 for any (default: 8766)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")


def run(arguments: argparse.Namespace) -> int:
    """Serve the page to this computer until Ctrl-C. Raises UserError where nothing can draw, or the port is taken."""
    import webbrowser

    from pipeline.study import load_params
    from pipeline.web import listening
    from pipeline.web.drawing.app import create_app
    from pipeline.web.drawing.workbench import Workbench

    workbench = Workbench(load_params())
    with listening.listen("127.0.0.1", arguments.port) as listener:
        page = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        tell(f"generators: {', '.join(workbench.names)}\npage: {page}\nCtrl-C stops it")
        sys.stdout.flush()
        if arguments.open:
            webbrowser.open(page)
        listening.run(create_app(workbench), listener)
    return 0
