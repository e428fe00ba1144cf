"""The leaderboard: what is kept and gone on with, what fails alone, and which differences it calls noise."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import yaml

from components import metrics
from components.encoding import Encoded
from components.errors import ConfigError
from components.log import CleanLog, RawLog
from components.splitting import Splits
from pipeline.bench_imbalance import run_bench_imbalance
from pipeline.leaderboard import page, table
from pipeline.leaderboard.bench import Bench, Task
from pipeline.leaderboard.bench import test_clusters as clusters_of_test
from pipeline.leaderboard.board import Board, run_leaderboard, write_board
from pipeline.leaderboard.comparing import (
    Difference,
    SeedsDifference,
    differences,
    differences_over_seeds,
    holm,
    spread,
)
from pipeline.leaderboard.params import LeaderboardParams
from pipeline.leaderboard.planted import PLANTED, true_scores
from pipeline.leaderboard.results import Spent, Trial, key_of
from pipeline.leaderboard.tuning import Tuning
from pipeline.leaderboard.work import work
from pipeline.params import Settings
from pipeline.run import Workspace
from tests.board_world import ROOT, make_workspace, write_params


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("board"), tmp_path_factory.mktemp("line"))


@pytest.fixture(scope="module")
def settings(workspace: Workspace) -> Settings:
    return write_params(workspace.root)


@pytest.fixture(scope="module")
def bench(workspace: Workspace, settings: Settings) -> Bench:
    """Logistic regression measured with two seeds, here and not in processes of its own."""
    bench = Bench.of(workspace, settings)
    for seed in (1, 2):
        work(bench, Task("linear", seed, None, is_trial=False))
    return bench


@pytest.fixture(scope="module")
def finished(workspace: Workspace, bench: Bench) -> Board:
    """A board of what is kept, a ranker that diverges in its process, and one whose params are impossible."""
    heads = {"finalmlp": {**_finalmlp(), "num_heads": 7}}
    settings = write_params(workspace.root, learning_rate={"others": 0.01, "fm": 1e30}, ranker_params=_shapes() | heads)
    made = run_leaderboard(
        workspace, settings, ["linear", "fm", "finalmlp"], [1, 2], num_workers=2, num_trials=0, num_first_seeds=0
    )
    write_params(workspace.root)
    return made


def _shapes() -> dict[str, Any]:
    shapes: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["train"][
        "ranker_params"
    ]
    return shapes


def _finalmlp() -> dict[str, Any]:
    shape: dict[str, Any] = _shapes()["finalmlp"]
    return shape


def test_a_result_holds_the_figures_of_the_test_rows(workspace: Workspace, bench: Bench, finished: Board) -> None:
    row = finished.rows[0]
    assert row.name == "linear"
    assert [one.seed for one in row.results] == [1, 2]
    clicks = np.asarray(workspace.read("encoded", Encoded).split("test").clicks)
    for one in row.results:
        scores = bench.results.scores(one)
        assert one.figures.auc.value == metrics.auc(clicks, scores)
        assert one.figures.log_loss.value == pytest.approx(metrics.log_loss(clicks, scores))
        assert one.parity < 1e-9
        assert one.cost.num_parameters == 1
        assert one.cost.train_core_seconds > 0
        assert one.cost.milliseconds_per_1000 > 0


def test_what_is_kept_is_not_trained_again_and_other_params_are_other_results(
    workspace: Workspace, bench: Bench, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in bench.results.folder.glob("*/result.json")}
    again = run_leaderboard(workspace, settings, ["linear"], [1, 2], num_workers=1, num_trials=0, num_first_seeds=0)
    assert len(again.rows[0].results) == 2
    assert {path: path.stat().st_mtime_ns for path in bench.results.folder.glob("*/result.json")} == before
    assert capsys.readouterr().out.count("linear") == 2
    task = Task("linear", 1, None, is_trial=False)
    here = bench.identity(task, "data")
    others = [
        bench.identity(dataclasses.replace(task, seed=3), "data"),
        bench.identity(dataclasses.replace(task, is_trial=True), "data"),
        bench.identity(task, "other data"),
        dataclasses.replace(bench, train=dataclasses.replace(bench.train, click_weight=2.0)).identity(task, "data"),
    ]
    assert len({key_of(one) for one in (here, *others)}) == 5
    elsewhere = dataclasses.replace(bench.train, learning_rate=bench.train.learning_rate | {"mlp": 7.0})
    assert dataclasses.replace(bench, train=elsewhere).identity(task, "data") == here


def test_params_that_change_while_the_board_runs_end_it_with_words(
    workspace: Workspace, settings: Settings, bench: Bench
) -> None:
    write_params(workspace.root, click_weight=2.0)
    try:
        with pytest.raises(ConfigError, match=r"changed while the board was running.*run the same command again"):
            run_leaderboard(workspace, settings, ["linear"], [1, 5], num_workers=1, num_trials=0, num_first_seeds=0)
    finally:
        write_params(workspace.root)


def test_the_three_best_on_tune_get_more_seeds(workspace: Workspace, settings: Settings, bench: Bench) -> None:
    made = run_leaderboard(workspace, settings, ["linear"], [1], num_workers=1, num_trials=0, num_first_seeds=2)
    assert [one.seed for one in made.rows[0].results] == [1, 2]
    assert "2 seeds each, preset params" in table.markdown(made)


def test_the_number_of_seeds_is_that_of_most_rows_and_the_others_are_named(finished: Board) -> None:
    linear = next(row for row in finished.rows if row.name == "linear")
    with_one_seed = [dataclasses.replace(linear, name=name, results=linear.results[:1]) for name in ("fm", "mlp")]
    failed = dataclasses.replace(linear, name="ffm", results=())
    made = dataclasses.replace(finished, rows=(linear, *with_one_seed, failed))
    assert "1 seed each (linear 2), " in table.markdown(made)
    assert "0 seeds each, " in table.markdown(dataclasses.replace(finished, rows=(failed,)))


def test_a_ranker_that_fails_is_told_in_its_row_and_stops_nobody(finished: Board) -> None:
    by_name = {row.name: row for row in finished.rows}
    assert len(by_name["linear"].results) == 2
    assert by_name["fm"].results == ()
    assert all("ConfigError: training 'fm' diverged in epoch 0" in one.reason for one in by_name["fm"].failures)
    assert "num_heads divides the last of hidden_widths" in by_name["finalmlp"].failures[0].reason
    text = table.markdown(finished)
    assert "- fm, seed 1: ConfigError: training 'fm' diverged" in text
    assert "diverged" in page.html(finished)


def test_an_unknown_ranker_is_refused_with_the_choices_before_anything_starts(
    workspace: Workspace, settings: Settings
) -> None:
    with pytest.raises(ConfigError, match=r"there is no wide_and_deep; choose among .*wide_deep"):
        run_leaderboard(workspace, settings, ["linear", "wide_and_deep"], [1], 1, 0, 0)


def test_embeddings_that_no_memory_holds_are_told_with_their_figures_and_nothing_is_trained(bench: Bench) -> None:
    wide = bench.train.ranker_params | {
        "fm": dataclasses.replace(bench.train.ranker_params["fm"], embedding_width=10**12)
    }
    too_wide = dataclasses.replace(bench, train=dataclasses.replace(bench.train, ranker_params=wide))
    before = sorted(bench.results.folder.iterdir())
    with pytest.raises(
        ConfigError, match=r"numbers in embeddings of [0-9,]+ ids.* GB.*ranker_params.fm.embedding_width"
    ):
        work(too_wide, Task("fm", 1, None, is_trial=False))
    assert sorted(bench.results.folder.iterdir()) == before


def test_the_planted_regression_needs_a_simulated_log(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="linear_planted needs a simulated log"):
        work(bench, Task(PLANTED, 1, None, is_trial=False))


def test_the_oracle_is_the_true_probability_of_each_test_row(workspace: Workspace, finished: Board) -> None:
    truth = true_scores(
        workspace.read("raw_log", RawLog), workspace.read("clean_log", CleanLog), workspace.read("splits", Splits)
    )
    clicks = np.asarray(workspace.read("encoded", Encoded).split("test").clicks)
    assert truth is not None
    assert finished.oracle is not None
    assert finished.oracle.auc.value == metrics.auc(clicks, truth)
    assert finished.oracle.auc.value > max(one.figures.auc.value for one in finished.rows[0].results)


def test_the_files_say_what_the_board_holds(finished: Board, tmp_path: Path) -> None:
    made = write_board(finished, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "leaderboard.csv",
        "leaderboard.html",
        "leaderboard.json",
        "leaderboard.md",
    ]
    assert json.loads((tmp_path / "leaderboard.json").read_text(encoding="utf-8")) == json.loads(json.dumps(made))
    aucs = [one.figures.auc.value for one in finished.rows[0].results]
    assert made["rankers"]["linear"]["auc"] == [pytest.approx(np.mean(aucs)), pytest.approx(np.std(aucs, ddof=1))]
    assert made["rankers"]["oracle"]["auc"][0] > made["rankers"]["linear"]["auc"][0]
    lines = list(csv.DictReader(io.StringIO((tmp_path / "leaderboard.csv").read_text(encoding="utf-8"))))
    assert [(line["ranker"], line["seed"], float(line["auc"])) for line in lines] == [
        ("linear", "1", aucs[0]),
        ("linear", "2", aucs[1]),
    ]
    text = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    assert f"{np.mean(aucs):.5f} ± {np.std(aucs, ddof=1):.5f}" in text
    html = (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert "http" not in html
    assert html.count("<svg") == 3


def test_tuning_begins_with_the_preset_asks_the_same_when_resumed_and_keeps_the_best(bench: Bench) -> None:
    def course() -> tuple[list[Any], Any]:
        tuning = Tuning(bench, "mlp")
        asked = []
        for auc in (0.7, None, 0.9, 0.8):
            task = tuning.next_task()
            asked.append(task.tuned)
            assert task.is_trial
            assert task.tuned is not None
            tuning.take(Trial("mlp", 1, {}, task.tuned, auc, Spent(3.0, 2.0, 100)) if auc is not None else None)
        assert tuning.spent == Spent(9.0, 6.0, 300)  # the failed one left no figures
        return asked, tuning.best

    asked, best = course()
    assert asked[0] == bench.tuned_of(Task("mlp", 1, None, is_trial=True))
    assert best == asked[2]
    assert course() == (asked, best)
    assert len({one.embedding_l2 for one in asked}) == 4
    for one in asked:
        assert 0.1 - 1e-9 <= one.embedding_l2 / asked[0].embedding_l2 <= 10 + 1e-9
        assert one.dropout in (0.0, 0.1, 0.2, 0.3)


def test_a_trial_sees_nothing_of_test(bench: Bench) -> None:
    tuned = dataclasses.replace(bench.tuned_of(Task("linear", 1, None, is_trial=True)), learning_rate=0.02)
    work(bench, Task("linear", 1, tuned, is_trial=True))
    folders = [path.parent for path in bench.results.folder.glob("*/result.json")]
    trials = [folder for folder in folders if "figures" not in json.loads((folder / "result.json").read_text())]
    assert len(trials) == 1
    assert [path.name for path in trials[0].iterdir()] == ["result.json"]


def test_the_bootstrap_resamples_what_evaluate_resamples(bench: Bench) -> None:
    clusters = clusters_of_test(bench)
    assert 1 < len(np.unique(clusters)) < len(clusters)


def some_scores(num_rows: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Clicks drawn from probabilities, and what a scorer that blurs them says."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=num_rows)
    clicks = (generator.random(num_rows) < 1 / (1 + np.exp(-logits))).astype(np.int8)
    blurred = logits + np.random.default_rng(seed).normal(size=num_rows) * noise
    return clicks, 1 / (1 + np.exp(-blurred))


def test_the_standard_error_of_a_log_loss_difference_is_that_of_the_rows_own_differences() -> None:
    clicks, good = some_scores(2_000, 0.0, 1)
    _, bad = some_scores(2_000, 0.3, 2)
    found = differences(clicks, {"good": [good], "bad": [bad]}, np.arange(2_000), 400, 1)["log_loss"]
    losses = [-np.log(np.where(clicks != 0, scores, 1 - scores)) for scores in (bad, good)]
    by_row = losses[0] - losses[1]
    assert sorted(found) == ["bad"]
    assert found["bad"].value == pytest.approx(by_row.mean())
    # The standard error of a standard error from 400 resamples is 3.5 %; four of them.
    assert found["bad"].standard_error == pytest.approx(by_row.std(ddof=1) / math.sqrt(2_000), rel=0.14)
    z = found["bad"].value / found["bad"].standard_error
    assert found["bad"].p_value == pytest.approx(math.erfc(z / math.sqrt(2)))


def test_a_clear_difference_is_beyond_noise_and_equal_scorers_are_not() -> None:
    clicks, good = some_scores(3_000, 0.0, 1)
    _, nearly = some_scores(3_000, 0.02, 2)
    _, bad = some_scores(3_000, 1.0, 3)
    found = differences(
        clicks, {"good": [good], "same": [good], "nearly": [nearly], "bad": [bad]}, np.arange(3_000), 200, 1
    )
    for metric in ("auc", "log_loss"):
        assert found[metric]["bad"].holm_p_value < 0.001
        level = [one for name, one in found[metric].items() if name != "bad"]
        assert len(level) == 2  # one of the three is the best
        assert all(one.holm_p_value > 0.05 for one in level)
    _, worse = some_scores(3_000, 1.0, 3)
    (same,) = differences(clicks, {"one": [worse], "other": [worse]}, np.arange(3_000), 200, 1)["auc"].values()
    assert (same.value, same.p_value) == (0.0, 1.0)


def test_the_seeds_spread_counts_among_the_noise() -> None:
    """With the same rows, a ranker whose seeds differ widely is less surely worse than one whose seeds agree."""
    clicks, good = some_scores(2_000, 0.0, 1)
    seeds = {noise: [some_scores(2_000, noise, seed)[1] for seed in (2, 3)] for noise in (0.2, 1.2)}
    apart = {"good": [good, good], "other": [seeds[0.2][0], seeds[1.2][0]]}
    alike = {"good": [good, good], "other": [seeds[1.2][0], seeds[1.2][1]]}
    errors = [
        differences(clicks, one, np.arange(2_000), 200, 1)["auc"]["other"].standard_error for one in (apart, alike)
    ]
    assert errors[0] > 2 * errors[1]


def test_holms_correction_is_that_of_a_worked_example() -> None:
    # Holm 1979 by hand: .01 * 4, .02 * 3 (above .04), .03 * 2 (raised to the one before), .5 * 1.
    corrected = holm({"a": 0.03, "b": 0.01, "c": 0.5, "d": 0.02})
    assert corrected == {"b": pytest.approx(0.04), "d": pytest.approx(0.06), "a": pytest.approx(0.06), "c": 0.5}
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_one_value_has_no_standard_deviation() -> None:
    assert spread([0.5]) == (0.5, None)
    assert spread([1.0, 2.0, 3.0]) == (2.0, 1.0)


def test_seeds_are_paired_and_tested_as_scipy_tests_them() -> None:
    one = {1: 0.71, 2: 0.74, 3: 0.70, 5: 0.73}
    other = {3: 0.69, 1: 0.705, 2: 0.72, 4: 0.1}
    third = {1: 0.70, 2: 0.731, 3: 0.689}
    found = differences_over_seeds({"one": one, "other": other, "third": third, "lone": {1: 0.5}}, "one", 0.05)
    assert sorted(found) == ["other", "third"]
    for name, own in (("other", other), ("third", third)):
        pairs = [own[seed] for seed in (1, 2, 3)], [one[seed] for seed in (1, 2, 3)]
        law = scipy.stats.ttest_rel(*pairs)
        interval = law.confidence_interval(0.95)
        assert found[name].num_pairs == 3
        assert found[name].value == pytest.approx(np.mean(pairs[0]) - np.mean(pairs[1]))
        assert (found[name].low, found[name].high) == (pytest.approx(interval.low), pytest.approx(interval.high))
        assert found[name].p_value == pytest.approx(law.pvalue)
    assert sorted(one.holm_p_value for one in found.values())[0] == pytest.approx(
        2 * min(one.p_value for one in found.values())
    )


def test_seeds_that_differ_by_nothing_or_by_the_same_are_no_division_by_zero() -> None:
    figures = {"one": {1: 0.5, 2: 0.25}, "same": {1: 0.5, 2: 0.25}, "shifted": {1: 0.75, 2: 0.5}}
    found = differences_over_seeds(figures, "one", 0.05)
    assert (found["same"].value, found["same"].p_value) == (0.0, 1.0)
    assert (found["shifted"].value, found["shifted"].p_value) == (0.25, 0.0)


def test_a_chosen_row_takes_the_place_of_the_best(workspace: Workspace, settings: Settings, finished: Board) -> None:
    clicks, good = some_scores(1_000, 0.0, 1)
    _, bad = some_scores(1_000, 1.0, 3)
    scores = {"good": [good], "bad": [bad]}
    found = differences(clicks, scores, np.arange(1_000), 100, 1, against="bad")
    assert {metric: sorted(rows) for metric, rows in found.items()} == {"auc": ["good"], "log_loss": ["good"]}
    assert found["auc"]["good"].value > 0 > found["log_loss"]["good"].value
    text = table.markdown(dataclasses.replace(finished, against="linear"))
    assert "| AUC − linear | AUC − linear, by seeds |" in text
    with pytest.raises(ConfigError, match="--against: mlp is not among the rows of this board: linear"):
        run_leaderboard(workspace, settings, ["linear"], [1], 1, 0, 0, against="mlp")


def test_the_table_says_what_is_no_significant_difference(finished: Board) -> None:
    (row,) = [one for one in finished.rows if one.results]
    surely, perhaps, unpaired = (
        dataclasses.replace(
            row,
            name=name,
            auc_difference=Difference(-0.01, 0.001, p_value, p_value),
            auc_by_seeds=SeedsDifference(3, -0.01, -0.012, -0.008, of_seeds, of_seeds)
            if of_seeds is not None
            else None,
        )
        for name, p_value, of_seeds in (("surely", 0.001, 0.2), ("perhaps", 0.4, 0.003), ("unpaired", 0.002, None))
    )
    board = dataclasses.replace(finished, rows=(row, perhaps, surely, unpaired))
    text = table.markdown(board)
    assert (
        "No significant difference in AUC from linear: by rows and seeds perhaps; by seeds surely "
        "(not tested, fewer than two seeds in common: unpaired)."
    ) in text
    assert "| **-0.01000** | ≈ -0.01000 ± 0.00200 (p 0.20, 3 pairs) |" in text
    assert "| ≈ -0.01000 (p 0.40) | **-0.01000 ± 0.00200** (3 pairs) |" in text
    assert "| **-0.01000** | – |" in text


def test_where_nearly_all_are_level_the_few_that_are_not_are_named(finished: Board) -> None:
    (row,) = [one for one in finished.rows if one.results]

    def apart_by(p_values: list[float]) -> str:
        others = [
            dataclasses.replace(row, name=f"other{number}", auc_difference=Difference(-0.01, 0.01, p_value, p_value))
            for number, p_value in enumerate(p_values)
        ]
        text = table.markdown(dataclasses.replace(finished, rows=(row, *others)))
        return text.partition("No significant difference in AUC from linear: by rows and seeds ")[2].partition(";")[0]

    assert apart_by([0.4] * 9) == "all 9 others"
    assert apart_by([0.4] * 8 + [0.001] * 2) == "all others but other8, other9"
    assert apart_by([0.4] * 2 + [0.001]) == "other0, other1"
    assert apart_by([0.001] * 9) == "none"


def test_downsampling_and_weights_are_corrected_exactly_and_the_focal_loss_is_not(
    workspace: Workspace, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    ways = run_bench_imbalance(workspace, settings, "linear", lambda *_: None)["ways"]
    assert "| clicks count ten times | corrected, isotonic |" in capsys.readouterr().out
    for way in ("a tenth of the negatives", "clicks count ten times"):
        raw, corrected = ways[way]["as it comes out"], ways[way]["corrected"]
        assert raw["auc"] == corrected["auc"]  # a shift of the logits by log 10 changes no order
        assert raw["calibration_ratio"] > corrected["calibration_ratio"] + 0.2
    assert ways["focal loss, gamma 2"]["as it comes out"] == ways["focal loss, gamma 2"]["corrected"]
    for treated in ways.values():
        assert treated["corrected, platt"]["calibration_ratio"] == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"num_bootstraps": 1}, "num_bootstraps"),
        ({"significance": 1.0}, "significance"),
        ({"embedding_l2_factors": (2.0, 1.0)}, "embedding_l2_factors"),
        ({"dropouts": ()}, "dropouts"),
    ],
)
def test_params_that_mean_nothing_are_refused(settings: Settings, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        dataclasses.replace(settings.section("leaderboard", LeaderboardParams), **changes)
