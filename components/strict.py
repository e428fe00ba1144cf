"""Strict reading of YAML and JSON into frozen dataclasses: unknown and missing keys and wrong types are errors.

Every dataclass that people or files fill derives from `Strict`; pydantic does the checking.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Hashable
from typing import Any, ClassVar, TypeVar, cast

import pydantic

from components.errors import CtrError

T = TypeVar("T")


class Strict:
    """A mixin for frozen dataclasses: no unknown keys, no silent conversion of types."""

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(extra="forbid", strict=True)


@functools.cache
def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind)


def parse(kind: type[T], content: object, where: str, error_class: type[CtrError]) -> T:
    """Make a `kind` of plain JSON-like content; raises `error_class` saying what is unknown, missing or wrong, and where."""
    try:
        parsed: T = _adapter(cast("Hashable", kind)).validate_json(json.dumps(content, default=str))
    except pydantic.ValidationError as error:
        raise error_class(f"{where} does not fit {kind.__name__}: {_in_words(error)}") from error
    return parsed


def _in_words(error: pydantic.ValidationError) -> str:
    unknown: list[str] = []
    missing: list[str] = []
    wrong: list[str] = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            unknown.append(place)
        elif problem["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
            missing.append(place)
        else:
            wrong.append(f"{place}: {problem['msg']}, got {problem['input']!r}")
    parts = [f"unknown {unknown}" if unknown else "", f"missing {missing}" if missing else "", *wrong]
    return ", ".join(part for part in parts if part)
