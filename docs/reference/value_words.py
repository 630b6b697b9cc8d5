"""What a key of params.yaml may hold and what it holds by default, in words, from the annotation of its field."""

import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen, MultipleOf
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

SIGNS = {Ge: ("ge", "≥"), Gt: ("gt", ">"), Le: ("le", "≤"), Lt: ("lt", "<"), MultipleOf: ("multiple_of", "multiple of")}
KINDS = {int: "integer", float: "number", bool: "true or false", str: "text", Path: "path", Any: "any value"}
COUNTED = (int, float, str, Path)  # whose names have a plural


def kind_of(annotation: Any, metadata: Sequence[Any] = (), plural: bool = False) -> str:
    """Return in words what a value may be, with its bounds."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind_of(arguments[0], [*arguments[1:], *metadata], plural)
    if origin is Literal:
        return _choice([f"`{as_yaml(value)}`" for value in arguments])
    if origin in (Union, types.UnionType):
        inner = [kind for kind in arguments if kind is not type(None)]
        words = [kind_of(kind, metadata if len(inner) == 1 else (), plural) for kind in inner]
        return _choice([*words, *(["null"] if type(None) in arguments else [])])
    if origin is tuple:
        return _list(arguments, plural) + _bounds(metadata)
    if models_in(annotation):
        return "the keys below"
    kind = f"mapping to {kind_of(arguments[1], plural=True)}" if origin else KINDS[annotation]
    return kind + ("s" if plural and annotation in COUNTED else "") + _bounds(metadata)


def _list(arguments: Sequence[Any], plural: bool) -> str:
    number = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
    return f"{'lists' if plural else 'list'} of {number}{kind_of(arguments[0], plural=True)}"


def _choice(words: Sequence[str]) -> str:
    return " or ".join([*filter(None, [", ".join(words[:-1])]), words[-1]])


def _bounds(metadata: Sequence[Any]) -> str:
    words: list[str] = []
    for one in metadata:
        if isinstance(one, FieldInfo):
            words.append(_bounds(one.metadata).strip())
        elif type(one) in SIGNS:
            attribute, sign = SIGNS[type(one)]
            words.append(f"{sign} {as_yaml(getattr(one, attribute))}")
    least = next((one.min_length for one in metadata if isinstance(one, MinLen)), 0)
    most = next((one.max_length for one in metadata if isinstance(one, MaxLen)), None)
    if least and least == most:
        words.append(f"({least})")
    elif least:
        words.append("(not empty)" if least == 1 else f"({least} or more)")
    return f" {', '.join(words)}" if words else ""


def default_of(field: FieldInfo) -> str:
    """Return a default as params.yaml would write it."""
    if field.is_required():
        return "*required*"
    value = field.get_default(call_default_factory=True)
    return "" if isinstance(value, BaseModel) or value is PydanticUndefined else f"`{as_yaml(value)}`"


def as_yaml(value: Any) -> str:
    """Return a value in YAML's flow style."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(as_yaml, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {as_yaml(one)}" for key, one in value.items()) + "}"
    return str(value) or '""'


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models in an annotation."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for inner in get_args(annotation) for model in models_in(inner)]
