"""A function becomes a stage by its signature alone."""

from __future__ import annotations

import subprocess
import sys
import xml.dom
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import pytest

from components.log import LogRequest
from components.workbench import Workbench
from pipeline.stage import GraphError, Line, later_imports
from pipeline.stages import LINE

ROOT = Path(__file__).parents[1]


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
    line = Line({"apples": "Apples"}, {})

    @line.makes("cider")
    def press(apples: Apples, request: LogRequest, params: PressParams, workbench: Workbench) -> Cider:
        return Cider()

    stage = line.stage("press")
    assert (stage.makes, stage.result, dict(stage.reads)) == ("cider", "Cider", {"apples": "Apples"})
    assert (stage.params, stage.lent) == ("PressParams", ("request", "workbench"))
    assert line.type_of("cider") == "Cider"
    types = stage.imported()
    assert (types["apples"], types["params"], types["workbench"], types["return"]) == (
        Apples,
        PressParams,
        Workbench,
        Cider,
    )


def test_reading_what_nothing_above_makes_is_refused() -> None:
    line = Line({}, {})

    def press(apples: Apples) -> Cider:
        return Cider()

    with pytest.raises(GraphError, match="press reads 'apples', but no stage above makes it"):
        line.makes("cider")(press)


def test_reading_an_artifact_as_another_type_is_refused() -> None:
    line = Line({"apples": "Apples"}, {})

    def press(apples: Cider) -> Cider:
        return Cider()

    with pytest.raises(GraphError, match="press reads 'apples' as Cider, but it is made as Apples"):
        line.makes("cider")(press)


def test_making_an_artifact_twice_is_refused() -> None:
    line = Line({"apples": "Apples"}, {})

    def press(apples: Apples) -> Apples:
        return apples

    with pytest.raises(GraphError, match="name is taken"):
        line.makes("apples")(press)


def test_what_cannot_be_saved_is_no_artifact() -> None:
    line = Line({"apples": "Apples"}, {})

    def count(apples: Apples) -> int:
        return 1

    line.makes("number")(count)  # type: ignore[type-var]
    with pytest.raises(GraphError, match="count must return an artifact type"):
        line.stage("count").imported()


def test_a_stage_that_does_not_say_what_it_makes_is_refused() -> None:
    line = Line({"apples": "Apples"}, {})

    def press(apples: Apples):  # type: ignore[no-untyped-def]
        return apples

    with pytest.raises(GraphError, match="press makes 'cider', but does not say of which type"):
        line.makes("cider")(press)


def test_what_a_stage_is_lent_has_one_type() -> None:
    line = Line({}, {})

    def press(workbench: Apples) -> Cider:
        return Cider()

    with pytest.raises(GraphError, match="press takes 'workbench' as Apples, but it is Workbench"):
        line.makes("cider")(press)


ORCHARD = """
from __future__ import annotations
from typing import TYPE_CHECKING
from pipeline.stage import Line, later_imports
if TYPE_CHECKING:
    import press_that_is_not_there
    from decimal import Decimal
    from xml import dom as trees

LINE = Line({"apples": "Decimal"}, later_imports(__file__))

@LINE.makes("cider")
def press(apples: Decimal) -> Decimal:
    return trees.minidom
"""


def test_what_a_stage_names_is_imported_when_it_is_asked_to_run(tmp_path: Path) -> None:
    (tmp_path / "orchard.py").write_text(ORCHARD)
    said = later_imports(str(tmp_path / "orchard.py"))
    assert {name: later.path for name, later in said.items()} == {"Decimal": "decimal.Decimal", "trees": "xml.dom"}
    space: dict[str, Any] = {"__name__": "orchard", "__file__": str(tmp_path / "orchard.py")}
    exec(compile(ORCHARD, "orchard.py", "exec"), space)
    stage = space["LINE"].stage("press")
    assert stage.modules == ("xml.dom",)
    assert "trees" not in space
    with pytest.raises(GraphError, match="must return an artifact type"):
        stage.imported()
    assert (space["trees"], space["Decimal"]) == (xml.dom, Decimal)


def test_every_stage_of_the_line_can_be_imported() -> None:
    """The types' names are compared as the file is read; that they are of artifacts shows here, and that `run` will find them."""
    types = LINE.imported_types()
    assert set(types) == {*LINE.inputs, *(stage.makes for stage in LINE.stages)}
    for stage in LINE.stages:
        assert {name: kind for name, kind in stage.imported().items() if name in stage.reads} == {
            name: types[name] for name in stage.reads
        }


LIGHT = """
import sys
from pipeline import __main__, acts, alerting, fetching, promotion, run_acts, served
from pipeline.registry import bundles, champions
from components.packing import verify_bundle
from pipeline.alerting import warning
from pipeline.stages import LINE
for verb in ("check", "split", "encode", "judge", "watch"):
    LINE.stage(verb).imported()
heavy = ("torch", "onnx", "sklearn", "great_expectations", "evidently", "pandas", "dvc", "boto3", "airflow", "kfp")
print(sorted(set(heavy) & set(sys.modules)))
"""


def test_no_step_but_those_with_a_network_imports_torch_when_it_starts() -> None:
    """All of them in one process: the acts, warn and promote among them, and five stages; `pack` reads the ranker and needs torch."""
    done = subprocess.run([sys.executable, "-c", LIGHT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
