"""The page's section on the search: what was tried, what it cost, and the signs of a collapse."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from components.autopi.architecture import (
    Architecture,
    Collapse,
    FoundArchitecture,
    ScreenedTerm,
    TermEpoch,
    TrialRecord,
)
from components.autopi.cost import SearchCost, write_cost
from pipeline.report.page import page_of
from pipeline.report.reading import Run, read_run
from pipeline.report.search_figures import cost_against_quality, front
from pipeline.report.search_words import search_in_words

LINES = (
    "3 fields | interaction fm(0) | ensemble skip(0)+senet(1)",
    "3 fields | interaction skip(0) | ensemble skip(0)+skip(1)",
)


def trial(number: int, aucs: tuple[float, ...]) -> TrialRecord:
    steps = (4, 8)[: len(aucs)]
    losses = (0.4321, 0.3456)[: len(aucs)]
    return TrialRecord(number, "random", 1, LINES[number], -1.5, steps, aucs, losses, 12_345, 67_890)


FOUND = FoundArchitecture(
    architecture=Architecture.from_text(LINES[0], "here"),
    strategy="halving",
    operators=("skip", "fm", "senet"),
    history=(),
    best_epoch=None,
    collapse=Collapse(1 / 3, None, -0.25, 7),
    rows_seen=0,
    limit_batches=None,
    trials=(trial(0, (0.6543, 0.7654)), trial(1, (0.5432,))),
    trial_rows=24_680,
)


def run_of(found: FoundArchitecture, cost: SearchCost | None) -> Run:
    absent = {field.name: None for field in dataclasses.fields(Run)}
    return Run(**{**absent, "folder": Path("nowhere"), "architecture": found, "search_cost": cost})  # type: ignore[arg-type]


def test_the_page_lists_every_candidate_with_its_figures() -> None:
    page = page_of(run_of(FOUND, None), "")
    section = page[page.index('id="search"') : page.index('id="training"')]
    for words in (*LINES, "0.6543", "0.7654", "0.3456", "0.5432", "12,345", "67,890", "24,680 rows passed"):
        assert words in section, words
    assert section.count(">taken<") == 1
    assert "after 4, 8 batches" in section
    assert "rank correlation of -0.25" in section
    assert "7 candidates trained from scratch" in section
    assert "33.3 % of the kept edges are plain skips" in section
    assert "entropy" not in section
    assert "seconds" not in section


def test_the_cost_is_read_from_beside_the_artifacts_and_only_for_the_same_network(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts" / "architecture"
    folder.mkdir(parents=True)
    FOUND.save(folder)
    assert FoundArchitecture.load(folder) == FOUND
    write_cost(tmp_path / ".ctr" / "checkpoints" / "search", FOUND, 12.34, 23.42)
    run = read_run(tmp_path / "artifacts", None)
    assert run.search_cost == SearchCost("halving", LINES[0], 12.3, 23.4, 0, 24_680)
    assert "one after the other took 12 seconds, 23 core-seconds" in page_of(run, "")
    other = dataclasses.replace(FOUND, architecture=Architecture.from_text(LINES[1], "here"))
    write_cost(tmp_path / ".ctr" / "checkpoints" / "search", other, 1.0, 1.0)
    assert read_run(tmp_path / "artifacts", None).search_cost is None


def test_terms_are_named_with_what_tune_would_lose_without_them() -> None:
    architecture = Architecture.from_text(f"{LINES[0]} | terms 0x1 0x1x2", "here")
    epochs = (
        TermEpoch(0, 0.5, 0.6, ((0, 1), (1, 2), (0, 1, 2)), (0.02, 0.0, 0.03)),
        TermEpoch(1, 0.4, 0.7, ((0, 1), (0, 1, 2)), (0.012346, 0.045678)),
    )
    found = dataclasses.replace(FOUND, architecture=architecture, term_epochs=epochs)
    words = search_in_words(found, None, ("user", "item", "hour"))["terms"]
    assert "3 of 4, those that main effects surely lack, learned" in words
    every = dataclasses.replace(epochs[0], terms=(*epochs[0].terms, (0, 2)), gains=(*epochs[0].gains, 0.0))
    of_every = dataclasses.replace(found, term_epochs=(every, epochs[1]))
    assert "all 4 of them, learned side by side" in search_in_words(of_every, None, ())["terms"]
    assert "2 are left" in words
    assert words.endswith(": user × item × hour (0.04568), user × item (0.01235).")
    assert "field 0 × field 1 × field 2 (0.04568)" in page_of(run_of(found, None), "")
    screened = (ScreenedTerm((0, 1, 2), 8.14, True), ScreenedTerm((0, 2, 3), 2.26, False))
    words = search_in_words(dataclasses.replace(found, screened_terms=screened), None, ("user", "item", "hour", "day"))
    assert "are lacking: user × item × hour (8.1)" in words["terms"]
    assert "the highest of the others, user × hour × day, has 2.3." in words["terms"]
    nothing = dataclasses.replace(found, screened_terms=screened[1:])
    assert "none surely; the highest of the others" in search_in_words(nothing, None, ())["terms"]


def test_an_architecture_that_was_given_says_so() -> None:
    given = dataclasses.replace(FOUND, strategy="fixed", collapse=None, trials=(), trial_rows=0)
    assert search_in_words(given, None, ()) == {
        "lead": "Nothing was searched: the network was given.",
        "cost": "",
        "terms": "",
        "trials": "",
        "collapse": "",
    }
    assert "Candidates trained from scratch" not in page_of(run_of(given, None), "")


def test_on_the_front_is_what_no_other_beats_in_cost_and_quality() -> None:
    points = [(3.0, 0.7), (1.0, 0.5), (2.0, 0.7), (2.0, 0.6), (4.0, 0.65), (5.0, 0.8), (1.0, 0.5)]
    assert front(points) == [(1.0, 0.5), (2.0, 0.7), (5.0, 0.8)]


def test_candidates_are_drawn_with_the_front_of_those_that_were_trained_to_the_end() -> None:
    trials = tuple(
        dataclasses.replace(trial(number % 2, aucs), number=number, num_flops=flops)
        for number, (flops, aucs) in enumerate(
            ((100, (0.6, 0.7)), (200, (0.6, 0.65)), (300, (0.6, 0.75)), (400, (0.61,)))
        )
    )
    drawn = cost_against_quality(dataclasses.replace(FOUND, trials=trials))
    assert drawn.count("<circle") == 4
    assert drawn.count('class="dot third"') == 2  # the first and the third: cheap, and good
    assert drawn.count('class="dot first"') == 1
    assert drawn.count('class="dot second"') == 1
    assert "400, 0.61" in drawn
    assert cost_against_quality(dataclasses.replace(FOUND, trials=trials[:1])) == ""
    assert drawn in page_of(run_of(dataclasses.replace(FOUND, trials=trials), None), "")
