"""Candidates trained from scratch: the better go on, the best wins, and a search stopped anywhere ends as one that was not."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.autopi.architecture import Architecture, EpochRecord, FoundArchitecture
from components.autopi.collapse import measure_collapse
from components.autopi.cost import read_cost
from components.autopi.discretising import strengths_of
from components.autopi.halving import epochs_of_halving, those_going_on
from components.autopi.operators import PAPER_OPERATORS
from components.autopi.sampling import draw_architecture, even_strengths, log_strength
from components.autopi.searching import SearchParams, search_architecture
from components.autopi.supernet import Space, Supernet
from components.autopi.trial import Candidate
from components.errors import ConfigError
from tests.search_world import PARAMS, Log, bench, needs_compiler, stopped_at_random

HALVING = dataclasses.replace(PARAMS, strategy="halving")


@pytest.fixture(scope="module")
def small() -> Any:
    return Log(2_000, 20, 1)


@pytest.fixture(scope="module")
def uninterrupted(small: Any, tmp_path_factory: pytest.TempPathFactory) -> FoundArchitecture:
    return search_architecture(small, HALVING, bench(tmp_path_factory.mktemp("whole")))


def with_trial(params: SearchParams, **changes: Any) -> SearchParams:
    return dataclasses.replace(params, trial=dataclasses.replace(params.trial, **changes))


def test_at_each_rung_the_better_half_goes_on_and_the_best_wins(uninterrupted: FoundArchitecture) -> None:
    trials = uninterrupted.trials
    assert [trial.number for trial in trials] == list(range(6))
    # Four batches an epoch, so rungs of half an epoch, one and two.
    assert {trial.steps for trial in trials} == {(2,), (2, 4), (2, 4, 8)}
    for rung, num_alive in enumerate((6, 3, 2)):
        alive = [trial for trial in trials if len(trial.steps) > rung]
        assert len(alive) == num_alive
        worst_kept = min(trial.tune_auc[rung] for trial in alive if len(trial.steps) > rung + 1 or rung == 2)
        gone = [trial.tune_auc[rung] for trial in alive if len(trial.steps) == rung + 1 < 3]
        assert all(quality <= worst_kept for quality in gone)
    finalists = [trial for trial in trials if len(trial.steps) == 3]
    assert uninterrupted.architecture.to_text() == max(finalists, key=lambda trial: trial.tune_auc[-1]).line
    assert len({trial.line for trial in trials}) == 6
    assert uninterrupted.trial_rows == 6 * 2 * 512 + 3 * (2_000 - 1_024) + 2 * 2_000
    assert (uninterrupted.rows_seen, uninterrupted.history, uninterrupted.best_epoch) == (0, (), None)


@pytest.mark.parametrize(
    ("ranked", "count", "going_on"),
    [
        ("TTTccc", 3, [0, 1, 3]),  # the last of three makes room for the best without terms
        ("ccTcTT", 2, [0, 2]),
        ("TcTTcc", 3, [0, 1, 2]),  # both kinds are there: nobody makes room
        ("TTTT", 2, [0, 1]),  # there is one kind
        ("TTcc", 1, [0]),  # the one place is for the best of all
        ("Tc", 2, [0, 1]),
    ],
)
def test_the_best_with_terms_and_the_best_without_go_on(ranked: str, count: int, going_on: list[int]) -> None:
    plain = Architecture.from_text("3 fields | interaction fm(0) | ensemble skip(0)+fm(1)", "here")
    made = {"T": dataclasses.replace(plain, terms=((0, 1),)), "c": plain}
    candidates = [Candidate(number, "random", made[kind], None) for number, kind in enumerate(ranked)]
    assert [candidate.number for candidate in those_going_on(candidates, count)] == going_on


def test_only_networks_that_multiply_see_a_planted_product(tmp_path: Path) -> None:
    log: Any = Log(6_000, 20, 7)
    params = with_trial(HALVING, num_candidates=6, dropout=0.0)
    params = dataclasses.replace(
        params, trial_rung_epochs=(2.0, 6.0), operators=("skip", "fm"), num_nodes=1, edges_per_node=1
    )
    found = search_architecture(log, params, bench(tmp_path))
    assert len(found.trials) == 6
    assert "fm" in found.architecture.operators()
    blind = [trial for trial in found.trials if "fm" not in trial.line]
    assert blind
    assert all(trial.tune_auc[-1] < 0.7 for trial in blind)  # main effects: the traits are no fair coins
    assert max(trial.tune_auc[-1] for trial in found.trials) > 0.8  # the oracle has .92


def test_with_averaged_weights_a_rung_is_judged_alike_whatever_comes_after_it(small: Any, tmp_path: Path) -> None:
    rungs = {}
    for decay in (0.9, 0.0):
        for last in (1.0, 2.0):
            params = with_trial(HALVING, num_candidates=3, weight_averaging=decay)
            params = dataclasses.replace(params, trial_rung_epochs=(0.5, last))
            found = search_architecture(small, params, bench(tmp_path / f"{decay}-{last}"))
            rungs[decay, last] = [trial.tune_auc[0] for trial in found.trials]
    assert rungs[0.9, 1.0] == rungs[0.9, 2.0]
    assert rungs[0.0, 1.0] != rungs[0.0, 2.0]  # the cosine's rate at a rung depends on the last one
    assert rungs[0.9, 1.0] != rungs[0.0, 1.0]


def test_random_search_costs_no_more_than_halving_and_trains_each_to_the_end(
    small: Any, uninterrupted: FoundArchitecture, tmp_path: Path
) -> None:
    assert epochs_of_halving(HALVING) == 6 * 0.5 + 3 * 0.5 + 2 * 1.0
    found = search_architecture(small, dataclasses.replace(PARAMS, strategy="random"), bench(tmp_path))
    assert found.strategy == "random"
    assert [trial.steps for trial in found.trials] == [(8,)] * 3
    assert found.trial_rows == 3 * 2 * 2_000
    assert found.trial_rows <= uninterrupted.trial_rows
    assert found.architecture.to_text() == max(found.trials, key=lambda trial: trial.tune_auc[-1]).line


def test_several_seeds_of_the_last_rung_decide_by_their_mean(small: Any, tmp_path: Path) -> None:
    params = with_trial(HALVING, num_candidates=3, num_seeds=2)
    params = dataclasses.replace(params, trial_rung_epochs=(0.5, 1.0))
    found = search_architecture(small, params, bench(tmp_path))
    means: dict[str, float] = {}
    for line in {trial.line for trial in found.trials}:
        finals = [trial.tune_auc[-1] for trial in found.trials if trial.line == line and trial.steps[-1] == 4]
        if finals:
            assert len(finals) == 2
            assert finals[0] != finals[1]
            means[line] = sum(finals) / 2
    assert len(means) == 2
    assert found.architecture.to_text() == max(means, key=lambda line: means[line])


@needs_compiler
def test_trials_by_kernels_side_by_side_and_one_by_one_are_the_same_search(small: Any, tmp_path: Path) -> None:
    compiled = dataclasses.replace(HALVING, kernels="compiled")
    one_by_one = search_architecture(small, compiled, bench(tmp_path / "one"))
    assert search_architecture(small, compiled, bench(tmp_path / "two", cores=2)) == one_by_one
    by_torch = search_architecture(small, HALVING, bench(tmp_path / "torch"))
    for own, other in zip(one_by_one.trials, by_torch.trials, strict=True):
        assert own.tune_log_loss[0] == pytest.approx(other.tune_log_loss[0], rel=1e-3)
        assert own.tune_log_loss[0] != other.tune_log_loss[0], "kernels were asked for and torch did the work"


@pytest.mark.parametrize("seed", [1, 2])
def test_a_search_stopped_at_random_batches_ends_bit_for_bit_as_one_that_was_not(
    small: Any, uninterrupted: FoundArchitecture, tmp_path: Path, seed: int
) -> None:
    found, exit_codes = stopped_at_random(small, HALVING, tmp_path, seed, 12)
    assert len(exit_codes) >= 3
    assert found == uninterrupted


def test_a_search_that_has_ended_is_not_searched_again_unless_asked(
    small: Any, uninterrupted: FoundArchitecture, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no checkpoint"):
        search_architecture(small, HALVING, bench(tmp_path, resume="always"))
    search_architecture(small, HALVING, bench(tmp_path))
    told: list[tuple[float, float, str]] = []
    search_architecture(
        small, HALVING, bench(tmp_path, progress=lambda done, total, note: told.append((done, total, note)))
    )
    done, total, note = told[-1]
    assert done == total, "what an earlier run did counts as done"
    assert "best so far" in note
    cost = read_cost(tmp_path, uninterrupted)
    assert cost is not None
    again = search_architecture(small, HALVING, bench(tmp_path, resume="always"))
    assert again == uninterrupted
    assert read_cost(tmp_path, uninterrupted) == cost
    with pytest.raises(ConfigError, match="params"):
        search_architecture(small, dataclasses.replace(HALVING, alpha_rate=0.1), bench(tmp_path, resume="always"))
    assert search_architecture(small, HALVING, bench(tmp_path, resume="never")) == uninterrupted
    anew = read_cost(tmp_path, uninterrupted)
    assert anew is not None
    assert anew.seconds > 0
    assert anew.core_seconds > 0
    assert (anew.supernet_rows, anew.trial_rows) == (0, uninterrupted.trial_rows)
    other = dataclasses.replace(uninterrupted, strategy="random")
    assert read_cost(tmp_path, other) is None
    assert read_cost(tmp_path / "nowhere", uninterrupted) is None


def test_a_supernet_proposes_its_share_of_the_candidates_and_is_held_against_them(small: Any, tmp_path: Path) -> None:
    params = dataclasses.replace(with_trial(HALVING, supernet_share=0.5), max_epochs=1)
    found = search_architecture(small, params, bench(tmp_path))
    assert Counter(trial.origin for trial in found.trials) == {"supernet": 3, "random": 3}
    darts = search_architecture(small, dataclasses.replace(params, strategy="darts"), bench(tmp_path / "darts"))
    assert found.trials[0].line == darts.architecture.to_text()
    assert found.history == darts.history
    assert found.rows_seen == darts.rows_seen == 2_000
    assert found.collapse is not None
    assert darts.collapse is not None
    assert found.collapse.alpha_entropy == darts.collapse.alpha_entropy
    assert found.collapse.num_ranked == 6
    strengths = strengths_of(darts.history[0])
    for trial in found.trials:
        architecture = Architecture.from_text(trial.line, "here")
        assert trial.strength == log_strength(architecture, strengths, PAPER_OPERATORS)


def record(alpha: float, num_nodes: int = 2) -> EpochRecord:
    """Alpha of the first of two operators on every edge; beta rises with the edge's number."""
    interaction, ensemble = (3, 5) if num_nodes == 2 else (1, 2)
    return EpochRecord(
        epoch=1,
        temperature=1.0,
        weight_loss=0.5,
        alpha_loss=0.5,
        tune_log_loss=0.5,
        tune_auc=0.5,
        alpha_interaction=((alpha, 0.0),) * interaction,
        beta_interaction=tuple(map(float, range(interaction))),
        alpha_ensemble=((alpha, 0.0),) * ensemble,
        beta_ensemble=tuple(map(float, range(ensemble))),
        line="",
    )


def test_strengths_of_a_record_are_those_of_the_supernet() -> None:
    supernet = Supernet((3, 3), Space(("skip", "fm"), 2, 2, False), torch.Generator().manual_seed(1), None)
    written = record(0.7)
    with torch.no_grad():
        for name in ("alpha_interaction", "beta_interaction", "alpha_ensemble", "beta_ensemble"):
            supernet.get_parameter(name).copy_(torch.tensor(getattr(written, name)))
        for cell, strength_eo in strengths_of(written).items():
            np.testing.assert_allclose(supernet.strength(cell, 1.0).numpy(), strength_eo, rtol=1e-6)


def test_edges_are_drawn_as_often_as_their_strengths_say() -> None:
    strengths = strengths_of(record(math.log(3.0)))
    generator = np.random.default_rng(1)
    drawn = [draw_architecture(strengths, ("skip", "fm"), 1, 4, generator) for _ in range(1_500)]
    operators = Counter(operator for one in drawn for operator in one.operators())
    assert operators["skip"] / operators.total() == pytest.approx(0.75, abs=0.02)
    # The second node of the interaction cell has edges 1 and 2, of beta 1 and 2.
    sources = Counter(one.interaction.nodes[1][0].source for one in drawn)
    assert sources[1] / 1_500 == pytest.approx(math.e / (1 + math.e), abs=0.05)


def test_random_architectures_have_the_shape_of_found_ones() -> None:
    generator = np.random.default_rng(1)
    strengths = even_strengths(4, 6)
    for strength_eo in strengths.values():
        np.testing.assert_allclose(strength_eo.sum(1)[-3:], 1 / (4 if len(strength_eo) == 10 else 5))
    drawn = [draw_architecture(strengths, PAPER_OPERATORS, 2, 10, generator) for _ in range(60)]
    assert {operator for one in drawn for operator in one.operators()} == set(PAPER_OPERATORS)
    for one in drawn:
        assert [len(edges) for edges in one.interaction.nodes] == [1, 2, 2, 2]
        assert [len(edges) for edges in one.ensemble.nodes] == [2, 2, 2, 2]


def test_the_strength_of_an_architecture_is_the_mean_log_over_its_edges() -> None:
    strengths = strengths_of(record(math.log(3.0), num_nodes=1))
    architecture = Architecture.from_text("4 fields | interaction fm(0) | ensemble skip(0)+skip(1)", "here")
    shares = [0.25, 0.75 / (1 + math.e), 0.75 * math.e / (1 + math.e)]
    assert log_strength(architecture, strengths, ("skip", "fm")) == pytest.approx(np.mean(np.log(shares)))


def test_the_signs_of_a_collapse_are_those_worked_out_by_hand() -> None:
    architecture = Architecture.from_text("4 fields | interaction skip(0) | ensemble skip(0)+fm(1)", "here")
    undecided = measure_collapse(architecture, record(0.0), [(-1.0, 0.6), (-2.0, 0.7), (-3.0, 0.8)])
    assert undecided.skip_share == pytest.approx(2 / 3)
    assert undecided.alpha_entropy == pytest.approx(1.0)
    assert undecided.rank_correlation == pytest.approx(-1.0)
    assert undecided.num_ranked == 3
    decided = measure_collapse(architecture, record(50.0), [(-1.0, 0.6), (-2.0, 0.7)])
    assert decided.alpha_entropy == pytest.approx(0.0, abs=1e-12)
    assert decided.rank_correlation is None
    # Ranks 1 2 3 4 against 2 1 4 3: 1 - 6 * 4 / (4 * 15).
    mixed = measure_collapse(architecture, None, [(1.0, 0.2), (2.0, 0.1), (3.0, 0.4), (4.0, 0.3)])
    assert mixed.rank_correlation == pytest.approx(0.6)
    assert mixed.alpha_entropy is None
