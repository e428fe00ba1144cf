"""What no engine runs here: Dockerfiles, compose and manifests, linted, and true to the lock file."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

REPO = Path(__file__).parents[1]
INFRA = REPO / "infra"


def _lint(command: str, *arguments: str | Path) -> None:
    """Run a linter of the dev group; raises with what it found."""
    linter = Path(sys.executable).with_name(command)
    done = subprocess.run([str(word) for word in (linter, *arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _locked() -> dict[str, str]:
    text = (REPO / "requirements.lock").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", text, re.MULTILINE))


def _dockerfiles() -> list[Path]:
    return [path for path in sorted(INFRA.glob("Dockerfile.*")) if path.suffix != ".dockerignore"]


def test_dockerfiles_are_clean_under_hadolint() -> None:
    _lint("hadolint", *_dockerfiles())


def test_manifests_fit_the_schemas_of_kubernetes() -> None:
    _lint("kubernetes-validate", "--strict", *sorted((INFRA / "kubernetes").glob("*.yaml")))


def test_compose_fits_its_schema() -> None:
    _lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", INFRA / "compose.yaml")


def test_images_install_the_versions_of_the_lock_file_and_only_the_stages_have_torch() -> None:
    locked = _locked()
    for path in _dockerfiles():
        text = path.read_text(encoding="utf-8")
        code = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
        pins = dict(re.findall(r"([a-z][a-z0-9-]+)==([0-9][0-9.]*)", code))
        torch = pins.pop("torch", None)
        assert (torch is not None) == (path.name == "Dockerfile.stages"), path.name
        assert pins.items() <= locked.items(), path.name
    wanted = re.search(r"torch==([0-9.]+)", (REPO / "pyproject.toml").read_text(encoding="utf-8"))
    assert wanted is not None
    assert f"torch=={wanted[1]}" in (INFRA / "Dockerfile.stages").read_text(encoding="utf-8")


def test_every_file_that_an_image_or_a_container_names_is_there() -> None:
    for path in _dockerfiles():
        for source in re.findall(
            r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", path.read_text(encoding="utf-8"), re.MULTILINE
        ):
            assert all((REPO / name).exists() for name in source.split()), (path.name, source)
    services = yaml.safe_load((INFRA / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert {"postgres", "s3", "service", "prometheus", "alertmanager", "grafana"} < set(services)
    for service in services.values():
        if "build" in service:
            assert (REPO / service["build"]["dockerfile"]).is_file()
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (INFRA / source).exists(), source
