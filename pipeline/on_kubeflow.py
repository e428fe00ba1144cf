"""Kubeflow: the line of `dvc.yaml` as a compiled pipeline, a component a step, artifacts passed by Kubeflow's own URIs.

Components are written from the plan as Python source, since kfp reads a component's inputs and outputs off a signature;
each only starts `pipeline.kubeflow_step` in the image (or, under `kfp.local`, in CTR_HOME).
"""

import linecache  # no postponed annotations here: kfp reads types off signatures
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfp import compiler, dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from pipeline.plan import Plan, Step, read_plan
from pipeline.resources import Need, Resources, read_resources

_MODELS = frozenset({"architecture", "ranker", "scorer", "champion", "bundle"})
_REPORTS = frozenset({"evaluation", "verdict", "drift"})
_NAMES = {"Input": Input, "Output": Output, "Artifact": Artifact, "Dataset": Dataset, "Model": Model}

_COMPONENT = '''\
def {verb}({parameters}) -> None:
    """{words}"""
    import os
    import subprocess
    import sys

    command = [sys.executable, "-m", "pipeline.kubeflow_step", {command}, "--start", window_start, "--end", window_end]
    command += [{places}]
    subprocess.run(command, cwd=os.environ.get("CTR_HOME", "/app"), check=True)
'''


def write_pipeline(home: Path, output: Path) -> None:
    """Compile the line up to `bundle`, with its promotion, into `output`."""
    compiler.Compiler().compile(kubeflow_pipeline(home), str(output))


def kubeflow_pipeline(home: Path) -> Any:
    """The pipeline as kfp knows it; call it under `kfp.local`, or compile it."""
    plan, resources = read_plan(home / "dvc.yaml").up_to("bundle"), read_resources(home)
    components = {step.verb: _component(step, step.command, resources) for step in plan.steps}
    act = Step("promote", "python -m pipeline promote", ("bundle", "champion"), ())
    rehearsal = _component(act, f"{act.command} --dry-run", resources)
    for_real = _component(act, act.command, resources)

    @dsl.pipeline(name="ctr-line", description="From an impression log to a packed bundle, and its promotion.")
    def ctr_line(window_start: str = "", window_end: str = "", dry_run: bool = False) -> None:
        window = {"window_start": window_start, "window_end": window_end}
        made = _wired(plan, components, resources, window)
        inputs = {name: made[name] for name in act.reads}
        with dsl.If(dry_run == True, name="rehearsal"):  # noqa: E712 - kfp writes the comparison into the pipeline
            _with_needs(rehearsal(**inputs, **window), resources.of("promote"), resources.accelerator)
        with dsl.Else(name="for real"):
            _with_needs(for_real(**inputs, **window), resources.of("promote"), resources.accelerator)

    return ctr_line


def _wired(plan: Plan, components: dict[str, Any], resources: Resources, window: dict[str, Any]) -> dict[str, Any]:
    """Call each component with what the steps above it made; name -> artifact."""
    made: dict[str, Any] = {}
    for step in plan.steps:
        task = components[step.verb](**{name: made[name] for name in step.reads}, **window)
        _with_needs(task, resources.of(step.verb), resources.accelerator)
        made |= {name: task.outputs[name] for name in step.makes}
    return made


def _with_needs(task: Any, need: Need, accelerator: str) -> None:
    task.set_cpu_request(str(need.cpu)).set_cpu_limit(str(need.cpu))
    task.set_memory_request(f"{need.memory_gib}Gi").set_memory_limit(f"{need.memory_gib}Gi")
    task.set_caching_options(enable_caching=False)
    task.set_retry(need.retries, f"{need.first_wait_seconds:g}s", 2.0, f"{need.max_wait_seconds:g}s")
    if need.gpu:
        task.set_accelerator_type(accelerator).set_accelerator_limit(need.gpu)


def _component(step: Step, command: str, resources: Resources) -> Any:
    """A lightweight Python component with one input a read artifact and one output a made one."""
    inputs = [f"{name}: Input[{_kind(name)}]" for name in step.reads]
    outputs = [f"{name}: Output[{_kind(name)}]" for name in step.makes]
    places = [f'"--read", "{name}=" + {name}.path' for name in step.reads]
    places += [f'"--make", "{name}=" + {name}.path' for name in step.makes]
    source = _COMPONENT.format(
        verb=step.verb,
        parameters=", ".join([*inputs, *outputs, "window_start: str", "window_end: str"]),
        words=f"Step `{step.verb}` of dvc.yaml.",
        command=repr(command),
        places=", ".join(places),
    )
    make = dsl.component(base_image=resources.image, install_kfp_package=False)
    return make(_function(step.verb, source, command))


def _function(name: str, source: str, command: str) -> Callable[..., None]:
    """The function that `source` defines; kfp reads the source back, so it is laid where `inspect` looks."""
    file = f"<kubeflow component: {command}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    namespace: dict[str, Any] = dict(_NAMES)
    exec(compile(source, file, "exec", dont_inherit=True), namespace)
    function: Callable[..., None] = namespace[name]
    return function


def _kind(artifact: str) -> str:
    if artifact in _MODELS:
        return "Model"
    return "Artifact" if artifact in _REPORTS else "Dataset"
