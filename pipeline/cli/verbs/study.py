"""twinsynth study: the studies of configs/studies, and which of them stands in params.yaml."""

import argparse
import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.cli.output import add_json, agreed, declare, tell, tell_json
from pipeline.core.errors import UserError

STUDIES = Path("configs/studies")
PLACE = Path("params.yaml")


def add(subparsers: Any) -> None:
    """Declares the verb."""
    examples = ("twinsynth study list", "twinsynth study show polyps", "twinsynth study use kvasir_cpu")
    parser = declare(subparsers, "study", "list the studies, show one, or put one in place of params.yaml", *examples)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = declare(actions, "list", "list the studies of configs/studies", examples[0])
    showing = declare(actions, "show", "print a study's parameters", examples[1])
    using = declare(actions, "use", "put a study in place of params.yaml, after the difference is shown", examples[2])
    using.add_argument("--yes", action="store_true", help="do not ask")
    for action in (showing, using):
        action.add_argument("name", metavar="NAME", help="a file of configs/studies, without .yaml")
    for action in (listing, showing):
        add_json(action)


def run(arguments: argparse.Namespace) -> int:
    """Runs one action. Raises UserError."""
    return {"list": _list, "show": _show, "use": _use}[arguments.action](arguments)


def find(name: str) -> Path:
    """The file of a study. Raises UserError with the names there are."""
    path = STUDIES / f"{name}.yaml"
    if not path.is_file():
        there = ", ".join(file.stem for file in _files()) or f"none; run in the folder that holds {STUDIES}"
        raise UserError(f"there is no study {name!r}; there are: {there}")
    return path


def about(text: str) -> str:
    """The first sentence of a study's first comment in one line."""
    words = re.sub(r'^The study "\w+"(:|,)? ', "", " ".join(_comment(text)))
    return re.split(r"(?<!\bal)\. ", words)[0].rstrip(".")


def _comment(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if not line.startswith("#"):
            return
        yield line.removeprefix("#").strip()


def _files() -> list[Path]:
    return sorted(STUDIES.glob("*.yaml"))


def _list(arguments: argparse.Namespace) -> int:
    if not _files():
        raise UserError(f"{STUDIES} holds no study; run in the project's folder, or make one with twinsynth init")
    placed = PLACE.read_text(encoding="utf-8") if PLACE.is_file() else None
    texts = {path.stem: path.read_text(encoding="utf-8") for path in _files()}
    rows = [{"name": name, "about": about(text), "in_place": text == placed} for name, text in texts.items()]
    if arguments.json:
        tell_json(rows)
        return 0
    width = max(len(name) for name in texts)
    for row in rows:
        tell(f"{'*' if row['in_place'] else ' '} {row['name']:<{width}}  {row['about']}")
    tell("* stands in params.yaml" if any(row["in_place"] for row in rows) else "none of them stands in params.yaml")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    path = find(arguments.name)
    if arguments.json:
        from pipeline.study import load_params

        tell_json(load_params(path).model_dump(mode="json"))
    else:
        tell(path.read_text(encoding="utf-8").rstrip("\n"))
    return 0


def _use(arguments: argparse.Namespace) -> int:
    path = find(arguments.name)
    from pipeline.core import files
    from pipeline.study import load_params

    load_params(path)  # a study that is not valid never gets in place
    new = path.read_text(encoding="utf-8")
    old = PLACE.read_text(encoding="utf-8") if PLACE.is_file() else ""
    if new == old:
        tell(f"params.yaml is the study {arguments.name} already")
        return 0
    tell("\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), str(PLACE), str(path), lineterm="")))
    if not arguments.yes and not agreed(f"Replace params.yaml by the study {arguments.name}?"):
        tell("nothing changed")
        return 1
    files.write_bytes(PLACE, new.encode())
    tell(f"params.yaml is now the study {arguments.name}; next: twinsynth doctor, then dvc repro")
    return 0
