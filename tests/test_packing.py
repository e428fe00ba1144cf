"""A bundle is the same bytes from the same inputs, and nothing that is not as it was closed is ever believed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from components.artifact import write_json
from components.autopi.architecture import Architecture
from components.champion import Champion
from components.errors import ConfigError, IntegrityError
from components.evaluating import Evaluation
from components.judging import Verdict, judge
from components.judging.size import known_bytes
from components.lineage import Lineage, code_digests, read_lineage
from components.log import TIME
from components.manifest import write_manifest
from components.packing import Bundle, verify_bundle
from components.packing.bundle import BundledArchitecture
from components.packing.closing import _drawing
from components.profiling import ReferenceProfile
from components.scoring import Scorer
from tests.bundle_world import JUDGE_PARAMS, LINE, PACK_PARAMS, World, shared_world

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return shared_world(tmp_path_factory)


@pytest.fixture(scope="module")
def bundle(world: World) -> Bundle:
    return world.pack()


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    """The bundle on disk."""
    place = tmp_path / "bundle"
    place.mkdir()
    bundle.save(place)
    return place


def test_the_same_inputs_give_the_same_bytes(world: World, bundle: Bundle) -> None:
    again = world.pack()
    assert again == bundle
    assert again.files == bundle.files


def test_a_bundle_is_saved_and_loaded_equal(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    loaded = Bundle.load(folder)
    assert loaded == bundle
    assert loaded.folder == folder
    assert loaded.verdict == bundle.verdict
    assert loaded.lineage == bundle.lineage
    (tmp_path / "again").mkdir()
    loaded.save(tmp_path / "again")
    assert Bundle.load(tmp_path / "again") == bundle


def test_the_digest_is_that_of_the_manifest(bundle: Bundle, folder: Path) -> None:
    assert bundle.digest == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert verify_bundle(folder) == bundle.digest
    assert bundle.num_bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_bundle_has_the_bytes_that_were_judged(world: World, bundle: Bundle) -> None:
    """Scorer and evaluation to the byte, all else within the room that was set aside; pack refuses to need more."""
    judged = known_bytes(world.scorer, world.evaluation)
    sizes = {place: len(content) for place, content in bundle.files.items()}
    assert judged.scorer == sum(size for place, size in sizes.items() if place.startswith("scorer/"))
    assert judged.ranker == sizes["scorer/ranker.onnx"]
    assert judged.evaluation == sum(
        sizes[name] for name in ("evaluation.json", "reliability.parquet", "slices.parquet")
    )
    check = next(check for check in world.verdict.checks if check.name == "bundle size")
    assert check.measured == judged.scorer + judged.evaluation + JUDGE_PARAMS.other_bundle_bytes
    assert judged.scorer + judged.evaluation < bundle.num_bytes <= check.measured
    cramped = dataclasses.replace(JUDGE_PARAMS, other_bundle_bytes=1_000)
    verdict = judge(world.scorer, world.evaluation, cramped)
    assert verdict.is_promotion
    with pytest.raises(ConfigError, match=r"the bundle has [\d,]+ bytes, but .* raise other_bundle_bytes"):
        dataclasses.replace(world, verdict=verdict).pack()


def test_everything_in_a_bundle_is_what_was_packed(world: World, folder: Path) -> None:
    assert Scorer.load(folder / "scorer") == world.scorer
    assert Evaluation.load(folder) == world.evaluation
    assert Verdict.load(folder) == world.verdict
    profile = ReferenceProfile.load(folder / "profile")
    assert profile.num_rows == world.splits.span("test").num_rows
    assert profile.click_rate == pytest.approx(world.evaluation.challenger.click_rate)
    assert profile.mean_score == pytest.approx(world.evaluation.challenger.mean_score)


def test_the_lineage_names_each_input_by_its_content(world: World, bundle: Bundle) -> None:
    lineage = bundle.lineage
    assert set(lineage.inputs) == {
        "clean_log", "splits", "encoded", "architecture", "ranker", "scorer", "evaluation", "verdict"
    }  # fmt: skip
    assert lineage.spans == world.splits.spans
    said = subprocess.run(["uname", "-s", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    assert lineage.platform == f"{said}, CPython 3.11"
    assert lineage.seeds == {"profile": PACK_PARAMS.profile.seed}
    assert lineage.lock_sha256 == hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest()
    other = dataclasses.replace(world, verdict=dataclasses.replace(world.verdict, reasons=("another",))).pack()
    changed = {name for name in lineage.inputs if lineage.inputs[name] != other.lineage.inputs[name]}
    assert changed == {"verdict"}
    assert other.digest != bundle.digest


def test_the_lineage_is_the_same_for_artifacts_that_were_loaded(world: World, bundle: Bundle, tmp_path: Path) -> None:
    loaded = {}
    for name in ("clean_log", "splits", "encoded", "ranker"):
        artifact = getattr(world, name)
        (tmp_path / name).mkdir()
        artifact.save(tmp_path / name)
        loaded[name] = type(artifact).load(tmp_path / name)
    (tmp_path / "clean_log" / "html").mkdir()
    (tmp_path / "clean_log" / "html" / "index.html").write_text("pages beside are not content")
    assert dataclasses.replace(world, **loaded).pack() == bundle


def test_the_lineage_holds_the_code_that_packing_stands_on_as_the_import_graph_says() -> None:
    """Truth from outside: grimp's graph of the same package, as `dvc.yaml` has it."""
    import grimp

    graph = grimp.build_graph("components", cache_dir=None)
    modules = {"components.packing.closing", *graph.find_upstream_modules("components.packing.closing")}
    modules |= {module.rpartition(".")[0] for module in modules} - {""}
    files = set()
    for module in modules:
        place = ROOT.joinpath(*module.split("."))
        files.add((place / "__init__.py" if place.is_dir() else place.with_suffix(".py")).relative_to(ROOT).as_posix())
        files |= {file.relative_to(ROOT).as_posix() for file in place.glob("*.[ch]")}
    assert {"components/autopi/mixing.c", "components/rankers/hidden.c"} <= files
    digests = code_digests("components.packing.closing")
    assert set(digests) == files
    assert "components/watching/__init__.py" not in digests
    said = subprocess.run(["sha256sum", ROOT / "components/errors.py"], capture_output=True, text=True, check=True)
    assert digests["components/errors.py"] == said.stdout.split()[0]


def test_no_file_of_a_bundle_holds_a_path_of_this_machine(bundle: Bundle, tmp_path: Path) -> None:
    for place, content in bundle.files.items():
        assert str(ROOT).encode() not in content, place
        assert str(tmp_path.parents[1]).encode() not in content, place


def test_an_architecture_is_packed_for_the_ranker_that_has_one(world: World, bundle: Bundle) -> None:
    assert json.loads(bundle.files["architecture.json"]) == {"ranker": "linear", "line": None, "architecture": None}
    assert b"made by hand" in bundle.files["drawing.svg"]
    found = Architecture.from_text(LINE, "test")
    drawing = _drawing(BundledArchitecture("autopi", LINE, found), world.encoded)
    assert drawing.startswith("<svg")
    assert "price" in drawing


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a bit flipped": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "cut in half": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "a line added": lambda content: content + b"\n",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_changed_byte_in_any_file_is_refused_by_its_name(bundle: Bundle, folder: Path, damage: str) -> None:
    for place, content in bundle.files.items():
        (folder / place).write_bytes(DAMAGES[damage](content))
        with pytest.raises(IntegrityError, match=Path(place).name.replace(".", r"\.")):
            verify_bundle(folder)
        with pytest.raises(IntegrityError):
            Champion.from_bundle(folder, "v1.0.0")
        (folder / place).write_bytes(content)
    assert verify_bundle(folder) == bundle.digest


TOP_LEVEL = (
    "card.md", "drawing.svg", "schema.json", "architecture.json", "evaluation.json", "verdict.json", "lineage.json",
    "slices.parquet", "reliability.parquet",
)  # fmt: skip


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_a_bundle_closed_without_one_of_its_files_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    write_manifest(folder)
    with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
        verify_bundle(folder)
    (folder / name).mkdir()
    (folder / name / "inside").write_bytes(b"")
    write_manifest(folder)
    with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
        verify_bundle(folder)


@pytest.mark.parametrize("name", ["model.pkl", "__init__.py", "run.sh", "extra/file.txt"])
def test_a_bundle_closed_with_a_file_that_none_has_is_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"import os")
    write_manifest(folder)
    with pytest.raises(IntegrityError, match="no bundle has"):
        verify_bundle(folder)


HOSTILE_FACTS = ("null", "[]", "7", '"text"', "{}", "{", "", "9" * 6_000, "[" * 100_000, "NaN", '{"a": 1, "a": 2}')
STRICT_FACTS = ("schema.json", "architecture.json", "evaluation.json", "verdict.json", "lineage.json")


@pytest.mark.parametrize("text", HOSTILE_FACTS, ids=lambda text: str(text)[:12] or "empty")
@pytest.mark.parametrize("name", STRICT_FACTS)
def test_hostile_facts_are_refused_also_with_a_manifest_that_fits(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    write_manifest(folder)
    with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
        verify_bundle(folder)


@pytest.mark.parametrize("value", ["true", '"5"', "[1]", "{}", "null", "1e400", "-1e400", "9" * 4_200])
@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("lineage.json", '"format": 2'),
        ("lineage.json", '"num_rows": '),
        ("evaluation.json", '"num_bootstraps": 40'),
        ("verdict.json", '"decision": "promote"'),
        ("schema.json", '"max_missing_share": 0.2'),
    ],
)
def test_a_fact_of_another_type_is_refused(folder: Path, name: str, before: str, value: str) -> None:
    text = (folder / name).read_text()
    assert before in text
    key = before.split(":")[0]
    start = text.index(before)
    end = min(place for place in (text.find(",", start), text.find("\n", start)) if place > 0)
    (folder / name).write_text(f"{text[:start]}{key}: {value}{text[end:]}")
    write_manifest(folder)
    with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
        verify_bundle(folder)


def test_a_lineage_of_another_generation_is_refused(folder: Path) -> None:
    content = json.loads((folder / "lineage.json").read_text()) | {"format": 3}
    write_json(folder / "lineage.json", content)
    write_manifest(folder)
    with pytest.raises(IntegrityError, match="format"):
        Champion.from_bundle(folder, "v1.0.0")


def test_a_lineage_without_train_is_refused(folder: Path) -> None:
    lineage: Lineage = read_lineage(folder)
    write_json(folder / "lineage.json", dataclasses.replace(lineage, spans=lineage.spans[1:]))
    write_manifest(folder)
    with pytest.raises(IntegrityError, match="train"):
        verify_bundle(folder)


def test_the_packed_scorer_scores_as_the_one_that_was_evaluated(world: World, folder: Path) -> None:
    rows = world.clean_log.scan().select(TIME, "user", "item", "device", "price").head(50).collect()
    assert isinstance(rows, pl.DataFrame)
    assert (Scorer.load(folder / "scorer").score(rows) == world.scorer.score(rows)).all()
