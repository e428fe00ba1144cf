"""An architecture survives every form it is written in, and what is no network is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.artifact import read_json, write_json
from components.autopi.architecture import (
    NUM_INPUTS,
    Architecture,
    Cell,
    Collapse,
    Edge,
    EpochRecord,
    FoundArchitecture,
)
from components.errors import ConfigError, IntegrityError

LINE = "10 fields | interaction fm(0):0.5 skip(0):0.25+senet(1) | ensemble skip(0):0.1+fm(1):0.125 convolution_1d(2)"


@st.composite
def cells(draw: st.DrawFn, name: str) -> Cell:
    nodes = []
    for number in range(NUM_INPUTS[name], NUM_INPUTS[name] + draw(st.integers(1, 5))):
        sources = sorted(draw(st.sets(st.integers(0, number - 1), min_size=1, max_size=3)))
        operator = st.sampled_from(["skip", "fm", "senet", "convolution_1d", "self_attention"])
        strength = st.none() | st.floats(0, 1)
        nodes.append(tuple(Edge(source, draw(operator), draw(strength)) for source in sources))
    return Cell(NUM_INPUTS[name], tuple(nodes))


@st.composite
def terms(draw: st.DrawFn, num_fields: int) -> tuple[tuple[int, ...], ...]:
    if num_fields < 2:
        return ()
    fields = st.sets(st.integers(0, num_fields - 1), min_size=2, max_size=3).map(lambda found: tuple(sorted(found)))
    return tuple(draw(st.lists(fields, max_size=4, unique=True)))


architectures = st.integers(1, 99).flatmap(
    lambda count: st.builds(
        Architecture, st.just(count), cells("interaction"), cells("ensemble"), st.booleans(), terms(count)
    )
)


@settings(max_examples=100, deadline=None)
@given(architectures)
def test_one_line_of_text_reads_back_equal(architecture: Architecture) -> None:
    line = architecture.to_text()
    assert "\n" not in line
    assert Architecture.from_text(line, "here") == architecture


def test_json_reads_back_equal(tmp_path: Path) -> None:
    architecture = Architecture.from_text(LINE, "here")
    write_json(tmp_path / "a.json", architecture)
    assert Architecture.from_json(read_json(tmp_path / "a.json"), "a.json", IntegrityError) == architecture


def test_a_line_may_be_broken_over_several() -> None:
    assert Architecture.from_text(LINE.replace(" | ", "\n  | "), "here") == Architecture.from_text(LINE, "here")


def test_the_line_means_what_it_says() -> None:
    architecture = Architecture.from_text(LINE, "here")
    assert architecture.num_fields == 10
    assert architecture.interaction.nodes[1] == (Edge(0, "skip", 0.25), Edge(1, "senet", None))
    assert architecture.ensemble.nodes[1] == (Edge(2, "convolution_1d", None),)
    assert architecture.operators() == ("fm", "skip", "senet", "skip", "fm", "convolution_1d")
    assert architecture.terms == ()
    assert Architecture.from_text(f"{LINE} | terms 3x8 0x4x9", "here").terms == ((3, 8), (0, 4, 9))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("fm(0):0.5", "fm(1):0.5", "not all earlier nodes"),
        ("skip(0):0.25+senet(1)", "skip(1):0.25+senet(1)", "not distinct"),
        ("fm(0):0.5", "fm(0):1.5", "outside 0..1"),
        ("fm(0):0.5", "fm(0):0..5", "no number"),
        ("fm(0):0.5", "FM(0):0.5", "no edge"),
        ("fm(0):0.5", "fm:0.5", "no edge"),
        ("10 fields", "0 fields", "at least one field"),
        ("10 fields | ", "", "no architecture"),
        (" | ensemble", "", "no architecture"),
        ("convolution_1d(2)", "convolution_1d(2) | terms 3x10", "3x10 is not two or more of the fields 0 to 9"),
        ("convolution_1d(2)", "convolution_1d(2) | terms 4x3", "4x3 is not two or more"),
        ("convolution_1d(2)", "convolution_1d(2) | terms 3", "term 3 is not two or more"),
        ("convolution_1d(2)", "convolution_1d(2) | terms 3x4 3x4", "not distinct"),
    ],
)
def test_what_is_no_network_is_refused_in_words(old: str, new: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Architecture.from_text(LINE.replace(old, new, 1), "params.yaml [search] fixed_architecture")


def test_json_of_no_network_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", Architecture.from_text(LINE, "here"))
    content = read_json(tmp_path / "a.json")
    content["interaction"]["nodes"][0][0]["source"] = 4
    with pytest.raises(IntegrityError, match="not all earlier nodes"):
        Architecture.from_json(content, "a.json", IntegrityError)


def test_what_was_found_saves_and_loads_equal(tmp_path: Path) -> None:
    record = EpochRecord(
        1, 1.5, 0.3, 0.31, 0.32, 0.8, ((0.1, 0.2),), (0.5,), ((0.1, 0.2), (0.3, 0.1)), (0.1, 0.2), LINE
    )
    architecture = Architecture.from_text(LINE, "here")
    found = FoundArchitecture(architecture, "darts", ("skip", "fm"), (record,), 1, Collapse(0.25, 0.9), 8192, None)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        found.save(tmp_path / name)
    assert FoundArchitecture.load(tmp_path / "first") == found
    first = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()}
    (tmp_path / "first" / "architecture.json").write_text("{}")
    with pytest.raises(IntegrityError, match="missing"):
        FoundArchitecture.load(tmp_path / "first")
