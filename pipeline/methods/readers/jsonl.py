"""JSON lines in the format of the authors of Siamese-Diffusion: {"source": mask, "target": image, "prompt": text}."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from pipeline.core.errors import UserError
from pipeline.core.section import Section
from pipeline.data.decoding import Fault, FilePair, Item
from pipeline.data.sample import Split
from pipeline.methods.readers import _folders
from pipeline.stages.prepare.params import Data


class Params(Section):
    """The file, and the folder that its paths start from."""

    file: Path
    """The file with one JSON object per line."""
    root: Path | None = None
    """Folder that the paths in the file start from; `null` for the file's own folder."""
    source: str = "default"
    """Name of the source, which `data.prompt` may refer to."""


class Line(Section):
    """One pair."""

    source: str = Field(min_length=1)  # the mask's path
    target: str = Field(min_length=1)  # the image's path
    prompt: str = ""  # empty: data.prompt
    split: Split | None = None  # all lines or none


def read(data: Data, params: Params) -> Iterator[Item]:
    """Yield pairs in the order of the file, and faults of lines and names."""
    file = params.file.expanduser()
    if not file.is_file():
        raise UserError(f"data.file: {file} does not exist")
    root = _folders.existing(params.root or file.parent, "data.root")
    attributes = data.attributes.columns if data.attributes else ()
    parsed = [_parse(file.name, *numbered, attributes) for numbered in _numbered(file)]
    lines = [item for item in parsed if isinstance(item, tuple)]
    yield from (item for item in parsed if isinstance(item, Fault))
    yield from _faults(file.name, [line for _, line in lines])
    for _, line in lines:
        yield from _pair(root, line, params.source)


def _numbered(file: Path) -> Iterator[tuple[int, str]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"data.file: {file} is not UTF-8 text; save it as UTF-8") from None
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _parse(name: str, number: int, text: str, attributes: Sequence[str] = ()) -> tuple[int, Line] | Fault:
    """Return the line without its `attributes`, which prepare reads from the file, or its faults."""
    location = f"{name}, line {number}"
    try:
        values = json.loads(text)
        if isinstance(values, dict):
            values = {key: value for key, value in values.items() if key in Line.model_fields or key not in attributes}
        return number, Line.model_validate(values)
    except ValidationError as error:
        return Fault(location, "; ".join(_explain(fault) for fault in error.errors()))
    except (ValueError, RecursionError) as error:
        return Fault(location, f"is not JSON ({getattr(error, 'msg', error)})")


def _explain(fault: Any) -> str:
    key = ".".join(map(str, fault["loc"]))
    return f"{key}: {fault['msg']}" if key else fault["msg"]


def _faults(name: str, lines: list[Line]) -> Iterator[Fault]:
    for target, times in Counter(line.target for line in lines).items():
        if times > 1:
            yield Fault(name, f"{target!r} is the target of {times} lines; keep one")
    without = sum(line.split is None for line in lines)
    if 0 < without < len(lines):
        yield Fault(name, f"{without} of {len(lines)} lines have no split; give one to all or to none")


def _pair(root: Path, line: Line, source: str) -> Iterator[Item]:
    sample_id = _folders.safe_id(str(Path(line.target).with_suffix("")))
    image, mask = root / line.target, root / line.source
    return _folders.pair_or_faults(FilePair(sample_id, image, mask, root, line.prompt, line.split, source))
