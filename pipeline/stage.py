"""How a function becomes a stage: its parameters' names are the artifacts it reads, their types what those must be.

`Line` checks every new stage against what is made above it, by the types' names, so wrong wiring fails when
`pipeline.stages` is imported. What the names stand for is imported when a stage is asked to run: torch alone takes two
seconds, and most stages work without it. Besides artifacts a stage may ask for three things by name: `params` (its section
of the params files, as the dataclass it names), `request` (what the run asks of the world) and `workbench` (what it is
lent while it works).
"""

from __future__ import annotations

import ast
import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from components.artifact import Artifact

LENT: Mapping[str, str] = {"request": "LogRequest", "workbench": "Workbench"}

StageFunction = TypeVar("StageFunction", bound="Callable[..., Artifact]")


class GraphError(TypeError):
    """The stages do not fit together: a programmer must look."""


@dataclass(frozen=True)
class Later:
    """`from module import name`, not carried out yet."""

    module: str
    name: str

    @property
    def path(self) -> str:
        """What it brings, as one dotted name."""
        return f"{self.module}.{self.name}"

    def carried_out(self) -> Any:
        """Give what the import brings: something that the module holds, or a module below it."""
        module = importlib.import_module(self.module)
        return getattr(module, self.name) if hasattr(module, self.name) else importlib.import_module(self.path)


def later_imports(file: str) -> dict[str, Later]:
    """The imports that a file shows to type checkers alone (`if TYPE_CHECKING:`), by the name they bring."""
    blocks = [node for node in ast.parse(Path(file).read_text("utf-8")).body if isinstance(node, ast.If)]
    hidden = [line for block in blocks if ast.unparse(block.test) == "TYPE_CHECKING" for line in block.body]
    lines = [line for line in hidden if isinstance(line, ast.ImportFrom) and line.module is not None]
    return {one.asname or one.name: Later(str(line.module), one.name) for line in lines for one in line.names}


@dataclass(frozen=True)
class Stage:
    """One pure function of the line.

    verb      the function's name, such as "split"
    makes     the artifact's name, such as "splits"
    reads     artifact name -> its type's name, in the signature's order
    params    the name of the dataclass of its knobs, or None
    lent      which of `request` and `workbench` it asks for
    result    the name of the artifact's type
    later     what the function names and is imported when it is asked to run
    modules   the component modules that its body names: what it stands on
    """

    verb: str
    makes: str
    function: Callable[..., Artifact]
    reads: Mapping[str, str]
    params: str | None
    lent: tuple[str, ...]
    result: str
    later: Mapping[str, Later]
    modules: tuple[str, ...]

    def imported(self) -> Mapping[str, Any]:
        """Import all that the stage names, so that it can be called; gives the types: parameter (or "return") -> type.

        Raises GraphError where what it returns is no artifact.
        """
        known = self.function.__globals__
        known.update({name: later.carried_out() for name, later in self.later.items() if name not in known})
        types = typing.get_type_hints(self.function)
        result = types["return"]
        if not (hasattr(result, "save") and hasattr(result, "load")):
            raise GraphError(f"{self.verb} must return an artifact type with save and load, not {result}")
        return types


@dataclass
class Line:
    """The data's way: the input artifacts that `fetch` makes (name -> its type's name), then the stages in order."""

    inputs: dict[str, str]
    later: Mapping[str, Later]
    stages: list[Stage] = field(default_factory=list)

    def type_of(self, artifact: str) -> str | None:
        """The name of the type of an artifact made so far, or None if nothing above makes it."""
        made = {stage.makes: stage.result for stage in self.stages}
        return made.get(artifact) or self.inputs.get(artifact)

    def imported_types(self) -> dict[str, Any]:
        """Import everything: artifact -> its type, of the inputs too."""
        inputs = {name: self.later[kind].carried_out() for name, kind in self.inputs.items()}
        return inputs | {stage.makes: stage.imported()["return"] for stage in self.stages}

    def stage(self, verb: str) -> Stage:
        """The stage with this verb; raises KeyError."""
        return {stage.verb: stage for stage in self.stages}[verb]

    def makes(self, artifact: str) -> Callable[[StageFunction], StageFunction]:
        """Append the decorated function as the stage that makes `artifact`; raises GraphError if it does not fit."""

        def append(function: StageFunction) -> StageFunction:
            self.stages.append(self._checked(artifact, function))
            return function

        return append

    def _checked(self, artifact: str, function: Callable[..., Artifact]) -> Stage:
        verb = function.__name__
        if self.type_of(artifact) is not None or artifact in (*LENT, "params"):
            raise GraphError(f"{verb} makes '{artifact}', but that name is taken")
        named: dict[str, str] = inspect.get_annotations(function)
        if "return" not in named:
            raise GraphError(f"{verb} makes '{artifact}', but does not say of which type")
        reads: dict[str, str] = {}
        lent: list[str] = []
        for name in inspect.signature(function).parameters:
            wanted = named.get(name)
            if wanted is None:
                raise GraphError(f"{verb}: parameter '{name}' has no type")
            if name == "params":
                continue
            if name in LENT:
                if wanted != LENT[name]:
                    raise GraphError(f"{verb} takes '{name}' as {wanted}, but it is {LENT[name]}")
                lent.append(name)
                continue
            made = self.type_of(name)
            if made is None:
                raise GraphError(f"{verb} reads '{name}', but no stage above makes it")
            if made != wanted:
                raise GraphError(f"{verb} reads '{name}' as {wanted}, but it is made as {made}")
            reads[name] = wanted
        in_body = function.__code__.co_names
        later = {name: self.later[name] for name in (*named.values(), *in_body) if name in self.later}
        modules = tuple(self.later[name].path for name in in_body if name in self.later)
        return Stage(verb, artifact, function, reads, named.get("params"), tuple(lent), named["return"], later, modules)
