"""twinsynth study: the studies of configs/studies, the one in params.yaml and why it runs again, cross-validation."""

import argparse
import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.cli.output import add_json, confirm, declare, positive, tell, tell_json
from pipeline.core.errors import UserError

STUDIES = Path("configs/studies")
PLACE = Path("params.yaml")
EXAMPLES = {
    "list": "twinsynth study list",
    "show": "twinsynth study show polyps",
    "use": "twinsynth study use kvasir_cpu",
    "why": "twinsynth study why finetune@siamese",
    "run-folds": "twinsynth study run-folds kvasir_pseudo 0 2 3 --jobs 3",
    "folds": "twinsynth study folds small_f0 small_f1 small_f2",
    "exchange": "twinsynth study exchange --from kvasir_cpu --pairs 50,100,200,400 --multipliers 0,2",
}


def add(subparsers: Any) -> None:
    """Declare the verb."""
    about = "list, show or use studies, explain why stages run again, or pool the folds of a cross-validation"
    parser = declare(subparsers, "study", about, *EXAMPLES.values())
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = declare(actions, "list", "list the studies of configs/studies", EXAMPLES["list"])
    showing = declare(actions, "show", "print a study's parameters", EXAMPLES["show"])
    using = declare(actions, "use", "show the difference, then replace params.yaml with a study", EXAMPLES["use"])
    using.add_argument("--yes", action="store_true", help="do not ask")
    using.add_argument(
        "--fold", type=int, metavar="N", help="use it as fold N of data.folds; the name of the study is then NAME_fN"
    )
    for action in (showing, using):
        action.add_argument("name", metavar="NAME", help="a file of configs/studies, without .yaml")
    about = "run folds of a study side by side and compare the arms over them"
    running = declare(actions, "run-folds", about, EXAMPLES["run-folds"])
    running.add_argument("name", metavar="NAME", help="a file of configs/studies, without .yaml")
    running.add_argument("folds", nargs="+", type=int, metavar="N", help="a fold of data.folds, counted from 0")
    running.add_argument("--jobs", type=positive, default=1, metavar="J", help="folds at a time (default: 1)")
    pooling = declare(actions, "folds", "compare the arms over all folds of a cross-validation", EXAMPLES["folds"])
    pooling.add_argument("studies", nargs="+", metavar="NAME", help="the study of every fold, a folder of outputs")
    pooling.add_argument(
        "--partial",
        action="store_true",
        help="allow that folds are left out, such as the one on which settings were chosen",
    )
    asking = declare(actions, "why", "name the files and parameters that make stages run again", EXAMPLES["why"])
    asking.add_argument("stage", metavar="STAGE", nargs="?", help="only this stage, named as for dvc repro")
    about = "write a study of how many labels synthetic images are worth"
    exchanging = declare(actions, "exchange", about, EXAMPLES["exchange"])
    exchanging.add_argument("--from", dest="source", default=str(PLACE), metavar="STUDY", help="a study file or name")
    exchanging.add_argument("--pairs", type=_numbers, help="numbers of real pairs (default: 16,32,64 ... up to all)")
    exchanging.add_argument(
        "--multipliers", type=_numbers, default=(0, 2), help="synthetic images per real one (default: 0,2)"
    )
    exchanging.add_argument("--generator", help="an entry of the study (default: the first one that is trained)")
    exchanging.add_argument("--seeds", type=_numbers, help="seeds of the segmenters (default: those of the study)")
    exchanging.add_argument("--name", help="name of the new study (default: STUDY_exchange)")
    exchanging.add_argument("--force", action="store_true", help="replace a study of this name")
    for action in (listing, showing, running, pooling, asking, exchanging):
        add_json(action)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"give whole numbers separated by commas, found {text!r}") from None


def run(arguments: argparse.Namespace) -> int:
    """Run one action. Raises UserError."""
    actions = {"list": _list, "show": _show, "use": _use, "why": _why, "exchange": _exchange}
    actions |= {"run-folds": _run_folds, "folds": _folds}
    return actions[arguments.action](arguments)


def find(name: str) -> Path:
    """Return the file of a study. Raises UserError that lists the available names."""
    path = STUDIES / f"{name}.yaml"
    if not path.is_file():
        available = ", ".join(file.stem for file in _files()) or f"none; run in the folder that holds {STUDIES}"
        raise UserError(f"there is no study {name!r}; the available ones are: {available}")
    return path


def study_file(study: str) -> Path:
    """Return the file of a study that is given as a path or a name of configs/studies. Raises UserError."""
    path = Path(study)
    return path if path.is_file() or path.name == PLACE.name else find(study)


def about(text: str) -> str:
    """Return the first sentence of a study's first comment in one line."""
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
        raise UserError(
            f"{STUDIES} holds no study; run the command in the project's folder, or write a study with twinsynth init"
        )
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
    from pipeline.cli.watched_sections import check_watched_sections
    from pipeline.core import files
    from pipeline.study import load_params

    load_params(path)  # a study that is not valid never gets in place
    check_watched_sections(path)
    new = path.read_text(encoding="utf-8") if arguments.fold is None else _fold_of(path, arguments.fold)
    old = PLACE.read_text(encoding="utf-8") if PLACE.is_file() else ""
    if new == old:
        tell(f"params.yaml is the study {arguments.name} already")
        return 0
    tell("\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), str(PLACE), str(path), lineterm="")))
    if not arguments.yes and not confirm(f"Replace params.yaml by the study {arguments.name}?"):
        tell("nothing changed")
        return 1
    files.write_bytes(PLACE, new.encode())
    tell(f"params.yaml is now the study {arguments.name}; next: twinsynth doctor, then dvc repro")
    return 0


def _fold_of(path: Path, fold: int) -> str:
    """Return the text of a study as one of its folds. Raises UserError where it has no such fold."""
    from io import StringIO

    from ruamel.yaml import YAML

    from pipeline.study import load_params

    folds = load_params(path).data.folds
    if folds is None or not 0 <= fold < folds:
        has = "no data.folds" if folds is None else f"the folds 0 to {folds - 1}"
        raise UserError(f"--fold is {fold}, but the study {path.stem} has {has}")
    yaml = YAML()  # keeps comments and the order of keys
    yaml.width = 1000
    values = yaml.load(path.read_text(encoding="utf-8"))
    values["study"], values["data"]["fold"] = f"{values['study']}_f{fold}", fold
    text = StringIO()
    yaml.dump(values, text)
    return text.getvalue()


def _run_folds(arguments: argparse.Namespace) -> int:
    from pipeline.cli.fold_runs import run_folds
    from pipeline.study import load_params

    path = find(arguments.name)
    params = load_params(path)
    studies = run_folds(arguments.name, params.study, params.data.folds, arguments.folds, arguments.jobs)
    return _pool(path, studies, partial=True, as_json=arguments.json)


def _folds(arguments: argparse.Namespace) -> int:
    return _pool(PLACE, arguments.studies, partial=arguments.partial, as_json=arguments.json)


def _pool(path: Path, studies: Sequence[str], *, partial: bool, as_json: bool) -> int:
    from pipeline.cli.cross_validation import pool_folds
    from pipeline.study import load_params

    folder, verdict = pool_folds(load_params(path), studies, partial=partial)
    if as_json:
        tell_json({"comparison": folder, "verdict": verdict})
    else:
        tell(verdict)
    return 0


def _why(arguments: argparse.Namespace) -> int:
    from pipeline.cli.rerun_reasons import reasons

    rows = [row for row in reasons() if arguments.stage in (None, row.stage, row.stage.partition("@")[0])]
    if arguments.json:
        tell_json([row.record() for row in rows])
        return 0
    for stage in dict.fromkeys(row.stage for row in rows):
        of_stage = [row for row in rows if row.stage == stage]
        earlier = [row.name for row in of_stage if row.kind == "after"]
        condition = f", if the outputs of {', '.join(earlier)} change" if len(earlier) == len(of_stage) else ""
        tell(f"{stage} runs again{condition}")
        for row in of_stage:
            if row.kind != "after":
                tell(f"  {row.kind:<9}  {row.name}  {row.change}")
    if not rows:
        tell("nothing has changed since the last dvc repro")
    return 0


def _exchange(arguments: argparse.Namespace) -> int:
    from pipeline.cli import exchange
    from pipeline.cli.doctor.devices import hardware, machine
    from pipeline.cli.forecast import forecast
    from pipeline.cli.forecast_text import fit_line
    from pipeline.core import files
    from pipeline.study import NAME, load_params

    source = study_file(arguments.source)
    params = load_params(source)
    study = exchange.Source(params.study, params.data, params.generators, params.training_sets)
    name = arguments.name or f"{study.name}_exchange"
    path = STUDIES / f"{name}.yaml"
    if not re.fullmatch(NAME, name):
        raise UserError(f"--name is {name!r}; a name consists of lower-case letters, digits and _")
    if path.exists() and not arguments.force:
        raise UserError(f"{path} already exists; choose another --name, or pass --force to replace it")
    pairs = arguments.pairs or exchange.ladder(exchange.all_pairs(study))
    generator = arguments.generator or exchange.first_trained(study)
    axes = exchange.Exchange(name, pairs, arguments.multipliers, generator, arguments.seeds)
    files.write_bytes(path, exchange.exchange_text(source.read_text(encoding="utf-8"), study, axes).encode())
    written = load_params(path)
    result = forecast(written, [machine(hardware(), batch=written.finetune.global_batch)], pairs[-1])
    if arguments.json:
        tell_json({"study": name, "file": path, "pairs": pairs, "estimate": result.record()})
        return 0
    tell(f"{len(written.training_sets)} training sets x {len(written.segment.seeds)} seeds, {len(pairs)} generators")
    tell("\n".join(map(fit_line, result.fits)))
    tell(f"written: {path}; read it, then: twinsynth study use {name}, twinsynth doctor, dvc repro")
    return 0
