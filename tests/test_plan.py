"""dvc.yaml says what the stages' signatures say, and can be read without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pipeline.on_dvc import dvc_yaml
from pipeline.params import read_settings
from pipeline.plan import read_plan
from pipeline.stages import LINE

ROOT = Path(__file__).parents[1]


def test_dvc_yaml_is_what_the_signatures_say() -> None:
    assert (ROOT / "dvc.yaml").read_text() == dvc_yaml(LINE, read_settings(ROOT)), "run `python -m pipeline wire`"


def test_the_plan_has_the_edges_of_the_signatures() -> None:
    plan = read_plan(ROOT / "dvc.yaml")
    assert [step.verb for step in plan.steps] == ["fetch", *(stage.verb for stage in LINE.stages)]
    for stage in LINE.stages:
        assert plan.step(stage.verb).reads == tuple(stage.reads)
        assert plan.step(stage.verb).makes == (stage.makes,)
    assert ("split", "encode") in plan.edges()
    assert ("fetch", "check") in plan.edges()


def test_the_line_up_to_the_bundle_leaves_the_watch_out() -> None:
    verbs = [step.verb for step in read_plan(ROOT / "dvc.yaml").up_to("bundle").steps]
    assert verbs == ["fetch", "check", "split", "encode", "search", "train", "calibrate", "evaluate", "judge", "pack"]


def test_reading_the_plan_imports_nothing_heavy() -> None:
    code = "import sys, pipeline.plan; print([m for m in ('torch', 'polars', 'components', 'dvc') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_editing_what_is_written_in_c_runs_a_search_again() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    search = text[text.index("\n  search:") : text.index("\n  train:")]
    in_c = [path.relative_to(ROOT).as_posix() for path in (ROOT / "components").rglob("*.[ch]")]
    assert in_c
    assert all(f"- {path}\n" in search for path in in_c)


def test_editing_the_watch_does_not_run_a_search_again() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    search = text[text.index("\n  search:") : text.index("\n  train:")]
    assert "components/autopi/searching" in search
    for later in ("watching", "judging", "packing", "scoring"):
        assert later not in search
