"""Sections of params.yaml: read as DVC reads it; faults are named by their dotted path, unknown keys refused."""

import difflib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.errors import UserError

LONGEST, LARGEST, DEEPEST = 2**18, 100_000, 50  # bytes of a file of parameters; values in it; one inside the other


class Section(BaseModel):
    """A frozen group of parameters; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(BaseModel):
    """A frozen group whose further keys belong to a plug-in and are checked by it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @property
    def options(self) -> dict[str, Any]:
        """Return the keys that belong to the plug-in."""
        return dict(self.model_extra or {})


class MethodEntry(Entry):
    """An entry of params.yaml that names a method, a plug-in, or has the method's name as its own."""

    method: str | None = None
    """Name of the method, a file of the plug-in folder. Without it the entry's own name is the method's name."""

    def method_of(self, name: str) -> str:
        """Return the method of the entry with this name."""
        return self.method or name


S = TypeVar("S", bound=BaseModel)


def parse(section: type[S], values: Any, where: str = "") -> S:
    """Check values against a section. Raises UserError naming every fault by its dotted path below `where`."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        lines = [_explain(fault, section, where, values) for fault in error.errors()]
        raise UserError("params.yaml: " + "\n  ".join(lines)) from None


def _explain(fault: Any, section: type[BaseModel], where: str, values: Any) -> str:
    keys = _keys_of(fault["loc"], values)
    location = [where, *keys] if where else keys
    path = ".".join(location)
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(location[-1], _keys(section, fault["loc"][:-1]), n=1)
        return f"{path} is not a parameter" + (f"; did you mean {near[0]}?" if near else "")
    message = fault["msg"].removeprefix("Value error, ")
    found = "" if fault["type"] in ("missing", "value_error") else f", found {shortened(fault['input'])}"
    return f"{path}: {message}{found}" if path else f"{message}{found}"


def _keys_of(location: tuple[Any, ...], values: Any) -> list[str]:
    """Return the parts of a location that are keys of the file; the others name members of a union."""
    keys = []
    for number, part in enumerate(location, 1):
        if isinstance(values, dict):
            if part not in values and number < len(location):
                continue
            values = values.get(part)
        elif isinstance(values, list | tuple):
            if not isinstance(part, int):
                continue
            values = values[part] if part < len(values) else None
        elif values is None or isinstance(values, str | int | float):
            continue
        keys.append(str(part))
    return keys


def _keys(section: Any, location: tuple[Any, ...]) -> list[str]:
    """Return the field names of the section at `location`."""
    for part in location:
        field = getattr(section, "model_fields", {}).get(part)
        candidates = [] if field is None else [field.annotation, *getattr(field.annotation, "__args__", ())]
        models = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        section = models[0] if models else section
    return list(getattr(section, "model_fields", {}))


def shortened(value: Any) -> str:
    """Return a value as Python writes it, cut after 200 characters."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML 1.2 file (1e-5 is a number, no is a string), as DVC reads it. Raises UserError.

    Only plain values are made, never other objects; aliases that unfold to more than LARGEST of them are refused.
    """
    try:
        if path.stat().st_size > LONGEST:
            raise UserError(f"{path} has more than {LONGEST} bytes; a file of parameters may not be larger")
        content = YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        hint = "run in the project's folder, or copy a file of configs/studies"
        raise UserError(f"{path} does not exist; {hint}") from None
    except UserError:
        raise
    except YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    except Exception as error:  # values such as 2001-99-99, bytes that are no text, brackets without end
        raise UserError(f"{path} is not valid YAML ({type(error).__name__}: {error!s:.200})") from error
    if _unfolded(content) > LARGEST:
        raise UserError(
            f"{path} expands to more than {LARGEST} values, or contains itself; write out what *aliases repeat"
        )
    return content


def _unfolded(value: Any, depth: int = 0) -> int:
    """Return the number of values with every alias written out; counting stops beyond LARGEST."""
    if not isinstance(value, dict | list | tuple | set):
        return 1
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    count = 1 if depth < DEEPEST else LARGEST + 1
    for item in inner:
        if count > LARGEST:
            break
        count += _unfolded(item, depth + 1)
    return count
