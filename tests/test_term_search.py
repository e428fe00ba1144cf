"""Terms of chosen fields: what they compute, how they learn, and which of them a search keeps."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.autopi import halving, term_search
from components.autopi.architecture import Architecture, FoundArchitecture
from components.autopi.network import FoundNetwork
from components.autopi.search_params import check_params
from components.autopi.searching import search_architecture
from components.autopi.term_course import TermCourse
from components.autopi.term_search import TermSearch
from components.errors import ConfigError
from components.rankers import RankerParams
from components.rankers.terms import FieldTerms, all_terms
from components.stepping import TermLearning, adam, set_rate
from tests.rankers_by_hand import NUM_FIELDS, SIZES, WIDTH, term_effects
from tests.search_world import PARAMS, Log, Split, bench, stopped_at_random

SEARCH = dataclasses.replace(
    PARAMS, strategy="halving", terms=dataclasses.replace(PARAMS.terms, orders=(2,), max_epochs=6, first_pruning=3)
)
SCREENING = dataclasses.replace(SEARCH, terms=dataclasses.replace(SEARCH.terms, screened_orders=(3,)))
PLANTED = (0, 1)  # of tests.search_world.Log


@pytest.fixture(scope="module")
def small() -> Any:
    return Log(4_000, 20, 1)


@pytest.fixture(scope="module")
def found(small: Any, tmp_path_factory: pytest.TempPathFactory) -> FoundArchitecture:
    return search_architecture(small, SEARCH, bench(tmp_path_factory.mktemp("whole")))


@pytest.fixture(scope="module")
def triple() -> Any:
    return Log(6_000, 8, 1, is_triple=True)


@pytest.fixture(scope="module")
def screened(triple: Any, tmp_path_factory: pytest.TempPathFactory) -> FoundArchitecture:
    return search_architecture(triple, SCREENING, bench(tmp_path_factory.mktemp("screened")))


def test_terms_of_two_and_three_fields_are_what_loops_by_hand_give() -> None:
    torch.manual_seed(1)
    terms = ((0, 2), (1, 3), (0, 1, 3), (0, 1))
    module = FieldTerms(SIZES, terms, WIDTH).double()
    assert module.embeddings["2"].table.shape == (sum(SIZES), WIDTH)
    assert module.embeddings["3"].table.shape == (SIZES[0] + SIZES[1] + SIZES[3], WIDTH), "no vectors for field 2"
    with torch.no_grad():
        module.weights_t.copy_(torch.tensor([0.5, -1.0, 2.0, 1.5]))
        torch.nn.init.normal_(module.main.table)
    generator = np.random.default_rng(1)
    ids = np.column_stack([generator.integers(0, size, 9) for size in SIZES]).astype(np.int32)
    weights = {key: tensor.numpy() for key, tensor in module.state_dict().items()}
    expected = [term_effects(weights, row, terms, "") for row in ids]
    assert np.std(expected) > 0.1
    assert module(torch.from_numpy(ids)).tolist() == pytest.approx(expected, rel=1e-9)
    module.restrict([2, 3])
    weights["weights_t"] = np.array([0.0, 0.0, 2.0, 1.5])
    assert module(torch.from_numpy(ids)).tolist() == pytest.approx(
        [term_effects(weights, row, terms, "") for row in ids]
    )
    main_b, parts_bt = module.parts(torch.from_numpy(ids))
    assert [terms[place] for place in module.alive] == [(0, 1), (0, 1, 3)]
    for column, place in enumerate(module.alive):
        weights["weights_t"] = np.where(np.arange(4) == place, [0.5, -1.0, 2.0, 1.5], 0.0)
        alone = [term_effects(weights, row, terms, "") for row in ids]
        assert (main_b + parts_bt[:, column]).tolist() == pytest.approx(alone)


def test_terms_can_be_counted_before_there_is_memory_for_them() -> None:
    terms = ((0, 2), (0, 1, 3))
    with torch.device("meta"):
        module = FieldTerms((10**9, 5, 10**9, 7), terms, WIDTH)
        module.restrict([1])
    assert sum(table.numel() for table in module.tables()) == 2 * 10**9 + 12 + WIDTH * (2 * 10**9 + 10**9 + 12)


def test_there_are_as_many_terms_as_ways_to_choose_fields() -> None:
    assert len(all_terms(14, (2, 3))) == math.comb(14, 2) + math.comb(14, 3)
    assert all_terms(3, (3, 2)) == ((0, 1), (0, 2), (1, 2), (0, 1, 2))
    assert all_terms(NUM_FIELDS, ()) == ()


def test_all_terms_together_begin_with_a_tenth_of_a_logit_or_two_however_many_there_are() -> None:
    generator = np.random.default_rng(1)
    for orders, num_fields in (((2,), 3), ((2,), 14), ((2, 3), 10)):
        sizes = (50,) * num_fields
        torch.manual_seed(1)
        module = FieldTerms(sizes, all_terms(num_fields, orders), 10)
        ids = torch.from_numpy(generator.integers(0, 50, (2_000, num_fields)).astype(np.int32))
        assert 0.1 < float(module(ids).detach().std()) < 0.2


def test_terms_learn_by_their_own_rate_and_penalty_and_nothing_else_does() -> None:

    line = "3 fields | interaction skip(0) | ensemble skip(0)+fm(1) | terms 0x2"
    network = FoundNetwork((4, 5, 6), Architecture.from_text(line, "here"), RankerParams(2, (3,), 0.0, True))
    optimizer = adam(network, 0.01, 0.5, TermLearning(3.0, 0.25))
    rates = {
        id(one): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for one in group["params"]
    }
    assert len(rates) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        is_table = name.endswith("table")
        expected = (0.03, 0.25 * is_table) if name.startswith("terms.") else (0.01, 0.5 * is_table)
        assert rates[id(parameter)] == pytest.approx(expected), name
    set_rate(optimizer, 0.001)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.001, 0.001, 0.003, 0.003])


def test_the_planted_pair_stays_and_what_means_nothing_goes(found: FoundArchitecture) -> None:
    assert found.architecture.terms == (PLANTED,)
    before = found.term_epochs[2]
    gains = dict(zip(before.terms, before.gains, strict=True))
    assert gains.pop(PLANTED) > 10 * max(gains.values())
    assert [len(epoch.terms) for epoch in found.term_epochs[:3]] == [6, 6, 6]
    assert len(found.term_epochs[3].terms) < 6
    assert {trial.line.split("| terms")[1] for trial in found.trials} == {
        found.architecture.to_text().split("| terms")[1]
    }


def test_a_log_without_interactions_gets_no_terms_for_long(tmp_path: Path) -> None:
    log: Any = Log(4_000, 12, 3)
    for split in (log.split("train"), log.split("tune")):
        split.clicks[:] = (np.random.default_rng(5).random(len(split.clicks)) < 0.3).astype(np.int8)
    search = TermSearch(log, SCREENING, bench(tmp_path))
    assert len(search.run()) <= 1
    assert len(search.epochs) <= 6
    assert not any(screened.has_joined for screened in search.screened)
    assert max(screened.agreement for screened in search.screened) < 3


def test_a_planted_triple_that_no_pair_shows_is_screened_and_joins(
    triple: Any, screened: FoundArchitecture, tmp_path: Path
) -> None:
    assert screened.architecture.terms == ((0, 1, 2),)
    first, *others = screened.screened_terms
    assert (first.fields, first.has_joined) == ((0, 1, 2), True)
    assert first.agreement > 10
    assert len(others) == 3
    assert all(one.agreement < 3 and not one.has_joined for one in others)
    assert [epoch.epoch for epoch in screened.term_epochs] == list(range(len(screened.term_epochs)))
    assert screened.term_epochs[-1].tune_auc > 0.8 > 0.6 > screened.term_epochs[3].tune_auc
    screened.save(tmp_path)
    assert FoundArchitecture.load(tmp_path) == screened
    plain = search_architecture(triple, SEARCH, bench(tmp_path / "plain"))
    assert not any(len(term) == 3 for term in plain.architecture.terms)
    assert plain.screened_terms == ()


def test_a_pair_that_was_dropped_too_early_comes_back_and_no_triple_on_its_account(tmp_path: Path) -> None:
    terms = dataclasses.replace(
        SCREENING.terms, screened_orders=(2, 3), first_pruning=1, min_errors=3.0, max_epochs=4, learning_rate=0.002
    )
    log: Any = Log(4_000, 12, 1)
    check_params(dataclasses.replace(SCREENING, terms=terms))
    search = TermSearch(log, dataclasses.replace(SCREENING, terms=terms), bench(tmp_path))
    assert search.run() == (PLANTED,)
    assert [len(epoch.terms) for epoch in search.epochs] == [6, 1, 1, 1, 1]
    back, *others = search.screened
    assert (back.fields, back.has_joined) == (PLANTED, True)
    assert [one.fields for one in others[:2]] == [(0, 1, 2), (0, 1, 3)]
    assert others[1].agreement > 10, "they lack it as well"
    assert not any(one.has_joined for one in others)


def test_a_gain_is_the_log_loss_that_a_term_saves(small: Any, tmp_path: Path) -> None:
    params = dataclasses.replace(SEARCH, terms=dataclasses.replace(SEARCH.terms, max_epochs=1))
    course = TermCourse("terms", small, all_terms(4, (2,)), params, bench(tmp_path), {})
    course.run()
    (epoch,) = course.epochs
    tune = small.split("tune")
    network = course._average.double()

    def loss() -> float:
        with torch.no_grad():
            logits = network(torch.from_numpy(tune.ids)).numpy()
        return float(np.mean(np.logaddexp(0, np.where(tune.clicks == 1, -logits, logits))))

    whole = loss()
    assert epoch.tune_log_loss == pytest.approx(whole, rel=1e-5)
    for place, gain in enumerate(epoch.gains):
        assert epoch.terms[place] == network.terms.terms[place]
        weight = float(network.terms.weights_t.detach()[place])
        with torch.no_grad():
            network.terms.weights_t[place] = 0.0
        assert loss() - whole == pytest.approx(gain, abs=1e-6)
        with torch.no_grad():
            network.terms.weights_t[place] = weight


def test_a_gains_standard_error_is_that_of_its_rows_however_tune_is_cut_into_batches(
    small: Any, tmp_path: Path
) -> None:
    course = TermCourse("terms", small, all_terms(4, (2,)), SEARCH, bench(tmp_path), {})
    course.run()
    logits_r, gains_t, errors_t = course._judge()
    tune = small.split("tune")
    network = course._average
    with torch.no_grad():
        _, parts_rt = network.terms.parts(torch.from_numpy(tune.ids))
    signs_r = np.where(tune.clicks == 1, -1.0, 1.0)
    without_rt = np.log1p(np.exp(signs_r[:, None] * (logits_r[:, None] - parts_rt.double().numpy())))
    rises_rt = without_rt - np.log1p(np.exp(signs_r * logits_r))[:, None]
    assert len(tune.clicks) > SEARCH.batch_rows
    assert gains_t == pytest.approx(rises_rt.mean(0), abs=1e-6)
    assert errors_t == pytest.approx(rises_rt.std(0) / math.sqrt(len(rises_rt)), rel=1e-3)


class Wide:
    """Encoded rows of many fields, the last of 500 ids: a click depends on fields 3 and 8 alone, and on their product."""

    def __init__(self, num_fields: int, num_rows: int) -> None:
        generator = np.random.default_rng(1)
        self.field_sizes = (6,) * (num_fields - 1) + (500,)
        self.field_names = tuple(f"f{field}" for field in range(num_fields))
        signs = np.array([-1.0, 1.0] * 3)
        self._splits = {}
        for name, rows in (("train", num_rows), ("tune", num_rows // 2)):
            ids = generator.integers(0, self.field_sizes, (rows, num_fields)).astype(np.int32)
            one, other = signs[ids[:, 3]], np.roll(signs, 1)[ids[:, 8]]
            logits = 0.5 * one + 0.5 * other + 1.5 * one * other
            clicks = (generator.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.int8)
            self._splits[name] = Split(ids, clicks, np.zeros(rows, np.int64))

    def split(self, name: str) -> Any:
        return self._splits[name]


def test_of_many_fields_the_pairs_learn_that_main_effects_lack_and_only_telling_fields_are_combined(
    tmp_path: Path,
) -> None:
    log: Any = Wide(20, 4_000)
    terms = dataclasses.replace(SCREENING.terms, max_learned=10, max_asked=190)
    search = TermSearch(log, dataclasses.replace(SCREENING, terms=terms), bench(tmp_path / "190"))
    assert (3, 8) in search.run()
    assert len(search.epochs[0].terms) < 5, "of 190 pairs, of which one would pass by chance"
    assert len(search._asked((3,))) == 165, "all triples of eleven fields: those of twelve are 220"
    fields = {field for term in search._asked((3,)) for field in term}
    assert {3, 8} <= fields
    few = dataclasses.replace(terms, max_asked=3)
    assert TermSearch(log, dataclasses.replace(SCREENING, terms=few), bench(tmp_path / "3"))._asked((2,)) == tuple(
        term for term in all_terms(20, (2,)) if set(term) <= fields_that_tell_most(log, 3)
    )


def fields_that_tell_most(log: Any, count: int) -> set[int]:
    """By loops: the agreement of each field's click rates on train and on tune, in standard errors."""
    train, tune = log.split("train"), log.split("tune")
    found = []
    for field, size in enumerate(log.field_sizes):
        top = bottom = 0.0
        for number in range(size):
            here, there = train.ids[:, field] == number, tune.ids[:, field] == number
            a = sum(train.clicks[here] - train.clicks.mean())
            top += a * sum(tune.clicks[there] - tune.clicks.mean())
            bottom += a * a * there.sum() * tune.clicks.mean() * (1 - tune.clicks.mean())
        found.append((top / math.sqrt(bottom), field))
    return {field for _, field in sorted(found, reverse=True)[:count]}


def test_a_search_that_asks_in_pieces_is_stopped_between_them_and_ends_as_one_that_was_not(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(term_search, "_TOLD_AFTER", 1)
    params = dataclasses.replace(SCREENING, terms=dataclasses.replace(SCREENING.terms, max_learned=2))
    whole = search_architecture(small, params, bench(tmp_path / "whole"))
    assert PLANTED in whole.architecture.terms
    assert whole.term_epochs[0].terms == (PLANTED,)
    again, exit_codes = stopped_at_random(small, params, tmp_path / "again", 3, 25)
    assert len(exit_codes) >= 4
    assert again == whole


@pytest.mark.parametrize("seed", [1, 2])
def test_a_search_for_terms_stopped_at_random_batches_ends_bit_for_bit_as_one_that_was_not(
    triple: Any, screened: FoundArchitecture, tmp_path: Path, seed: int
) -> None:
    again, exit_codes = stopped_at_random(triple, SCREENING, tmp_path, seed, 15)
    assert len(exit_codes) >= 4
    assert again == screened


def test_half_of_the_candidates_may_go_without_terms_so_that_trials_decide(small: Any, tmp_path: Path) -> None:
    half = search_architecture(small, dataclasses.replace(SEARCH, term_share=0.5), bench(tmp_path / "half"))
    assert [" | terms 0x1" in trial.line for trial in half.trials] == [True] * 3 + [False] * 3
    assert half.architecture.terms == ((0, 1),), "they know the planted product from the start"
    none = search_architecture(small, dataclasses.replace(SEARCH, term_share=0.0), bench(tmp_path / "none"))
    assert none.term_epochs == ()
    assert not any("terms" in trial.line for trial in none.trials)


def test_random_draws_terms_blindly_and_darts_has_none(small: Any, tmp_path: Path) -> None:
    drawn = search_architecture(small, dataclasses.replace(SEARCH, strategy="random"), bench(tmp_path / "random"))
    assert len({trial.line.partition("| terms")[2] for trial in drawn.trials}) > 1
    assert drawn.term_epochs == ()
    quick = dataclasses.replace(SEARCH, strategy="darts", max_epochs=1)
    assert search_architecture(small, quick, bench(tmp_path / "darts")).architecture.terms == ()


def test_random_looks_at_no_more_terms_of_many_fields_than_a_search_for_terms() -> None:
    params = dataclasses.replace(SCREENING, terms=dataclasses.replace(SCREENING.terms, max_asked=40))
    chosen = halving._choices(60, (2, 3), params, np.random.default_rng(1))
    assert len(set(chosen)) == len(chosen) == 40
    assert {len(term) for term in chosen} <= {2, 3}
    assert sum(len(term) == 3 for term in chosen) > 30, "of 35,990 terms 34,220 are triples"
    assert all(tuple(sorted(set(term))) == term and term[0] >= 0 and term[-1] < 60 for term in chosen)
    assert halving._choices(5, (2, 3), params, np.random.default_rng(1)) == all_terms(5, (2, 3))


def test_params_that_make_no_terms_are_refused(small: Any, tmp_path: Path) -> None:
    for change, words in (
        ({"orders": (1,)}, "terms.orders"),
        ({"screened_orders": (3, 3)}, "terms.screened_orders"),
        ({"max_asked": 0}, "terms.max_asked"),
        ({"max_learned": 0}, "terms.max_learned"),
        ({"screened_rows": 0}, "terms.screened_rows"),
        ({"max_epochs": 0}, "terms.max_epochs"),
    ):
        wrong = dataclasses.replace(SEARCH, terms=dataclasses.replace(SEARCH.terms, **change))
        with pytest.raises(ConfigError, match=words):
            search_architecture(small, wrong, bench(tmp_path))
