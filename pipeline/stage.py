"""How a function becomes a stage: its parameters' names are the artifacts it reads, their types what those must be.

`Line` checks every new stage against what is made above it, so wrong wiring fails when `pipeline.stages` is imported.
Besides artifacts a stage may ask for three things by name: `params` (its section of the params files, as the
dataclass it names), `request` (what the run asks of the world) and `workbench` (what it is lent while it works).
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeVar

from components.log import LogRequest
from components.workbench import Workbench

LENT: Mapping[str, type] = {"request": LogRequest, "workbench": Workbench}

StageFunction = TypeVar("StageFunction", bound=Callable[..., Any])


class GraphError(TypeError):
    """The stages do not fit together: a programmer must look; raised at import."""


@dataclass(frozen=True)
class Stage:
    """One pure function of the line.

    verb      the function's name, such as "split"
    makes     the artifact's name, such as "splits"
    reads     artifact name -> type, in the signature's order
    params    the dataclass of its knobs, or None
    lent      which of `request` and `workbench` it asks for
    result    the artifact's type
    modules   the component modules that its body names: what it stands on
    """

    verb: str
    makes: str
    function: Callable[..., Any]
    reads: Mapping[str, type]
    params: type | None
    lent: tuple[str, ...]
    result: type
    modules: tuple[str, ...]


@dataclass
class Line:
    """The data's way: the input artifacts that `fetch` makes, then the stages in order."""

    inputs: dict[str, type]
    stages: list[Stage] = field(default_factory=list)

    def type_of(self, artifact: str) -> type | None:
        """What an artifact made so far is, or None if nothing above makes it."""
        made = {stage.makes: stage.result for stage in self.stages}
        return made.get(artifact) or self.inputs.get(artifact)

    def stage(self, verb: str) -> Stage:
        """The stage with this verb; raises KeyError."""
        return {stage.verb: stage for stage in self.stages}[verb]

    def makes(self, artifact: str) -> Callable[[StageFunction], StageFunction]:
        """Append the decorated function as the stage that makes `artifact`; raises GraphError if it does not fit."""

        def append(function: StageFunction) -> StageFunction:
            self.stages.append(self._checked(artifact, function))
            return function

        return append

    def _checked(self, artifact: str, function: Callable[..., Any]) -> Stage:
        verb = function.__name__
        if self.type_of(artifact) is not None or artifact in (*LENT, "params"):
            raise GraphError(f"{verb} makes '{artifact}', but that name is taken")
        hints = typing.get_type_hints(function)
        result = hints.pop("return", None)
        if not isinstance(result, type) or not (hasattr(result, "save") and hasattr(result, "load")):
            raise GraphError(f"{verb} must return an artifact type with save and load, not {result}")
        reads: dict[str, type] = {}
        params: type | None = None
        lent: list[str] = []
        for name in inspect.signature(function).parameters:
            wanted = hints.get(name)
            if wanted is None:
                raise GraphError(f"{verb}: parameter '{name}' has no type")
            if name == "params":
                params = wanted
            elif name in LENT:
                if wanted is not LENT[name]:
                    raise GraphError(f"{verb} takes '{name}' as {wanted.__name__}, but it is {LENT[name].__name__}")
                lent.append(name)
            else:
                made = self.type_of(name)
                if made is None:
                    raise GraphError(f"{verb} reads '{name}', but no stage above makes it")
                if made is not wanted:
                    raise GraphError(f"{verb} reads '{name}' as {wanted.__name__}, but it is made as {made.__name__}")
                reads[name] = wanted
        return Stage(verb, artifact, function, reads, params, tuple(lent), result, _modules_named_by(function))


def _modules_named_by(function: Callable[..., Any]) -> tuple[str, ...]:
    """The component modules whose names the function's body uses (its one call)."""
    names = function.__code__.co_names
    found = [function.__globals__.get(name) for name in names]
    return tuple(module.__name__ for module in found if isinstance(module, ModuleType))
