"""A function becomes a stage by its signature alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from components.log import LogRequest
from components.workbench import Workbench
from pipeline.stage import GraphError, Line


@dataclass(frozen=True)
class Apples:
    def save(self, folder: Path) -> None: ...
    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls()


@dataclass(frozen=True)
class Cider(Apples): ...


@dataclass(frozen=True)
class PressParams:
    force: float


def test_a_stage_is_read_off_its_signature() -> None:
    line = Line(inputs={"apples": Apples})

    @line.makes("cider")
    def press(apples: Apples, request: LogRequest, params: PressParams, workbench: Workbench) -> Cider:
        return Cider()

    stage = line.stage("press")
    assert (stage.makes, stage.result, dict(stage.reads)) == ("cider", Cider, {"apples": Apples})
    assert (stage.params, stage.lent) == (PressParams, ("request", "workbench"))
    assert line.type_of("cider") is Cider


def test_reading_what_nothing_above_makes_is_refused() -> None:
    line = Line(inputs={})

    def press(apples: Apples) -> Cider:
        return Cider()

    with pytest.raises(GraphError, match="press reads 'apples', but no stage above makes it"):
        line.makes("cider")(press)


def test_reading_an_artifact_as_another_type_is_refused() -> None:
    line = Line(inputs={"apples": Apples})

    def press(apples: Cider) -> Cider:
        return Cider()

    with pytest.raises(GraphError, match="press reads 'apples' as Cider, but it is made as Apples"):
        line.makes("cider")(press)


def test_making_an_artifact_twice_is_refused() -> None:
    line = Line(inputs={"apples": Apples})

    def press(apples: Apples) -> Apples:
        return apples

    with pytest.raises(GraphError, match="name is taken"):
        line.makes("apples")(press)


def test_what_cannot_be_saved_is_no_artifact() -> None:
    line = Line(inputs={"apples": Apples})

    def count(apples: Apples) -> int:
        return 1

    with pytest.raises(GraphError, match="must return an artifact type"):
        line.makes("number")(count)
