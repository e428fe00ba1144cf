"""Training: what is learned, when it stops, what is kept, and that a stop leaves no trace in the result."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from scipy.special import expit

from components import compiling, metrics
from components.artifact import read_json, write_json
from components.autopi.architecture import Architecture, FoundArchitecture
from components.checkpoint import load_checkpoint
from components.encoding import Encoded, Encoder
from components.encoding.codes import Vocabulary
from components.errors import ConfigError, DataError, IntegrityError, Stopped
from components.log import Field, LogSchema
from components.rankers import RankerParams
from components.stepping import TermLearning
from components.training import Course, EpochRecord, Member, TrainedRanker, TrainParams, build_ranker, train_ranker
from components.training.fitting import keep_rows
from components.training.losses import mean_loss
from components.training.promises import check_fields, check_memory
from components.workbench import Workbench
from tests.search_world import WAYS, forget_programs, needs_compiler

NUM_VALUES = (6, 8)
OPERATORS = ("skip", "fm", "single_layer_perceptron")
LINE = (
    "2 fields | interaction fm(0) single_layer_perceptron(0)+skip(1) "
    "| ensemble skip(0)+single_layer_perceptron(1) fm(0)+skip(2)"
)

SHAPE = RankerParams(embedding_width=4, hidden_widths=(16,), dropout=0.1, use_batch_norm=True)
PARAMS = TrainParams(
    ranker="mlp",
    ranker_params=dict.fromkeys(("mlp", "linear", "autopi"), SHAPE),
    embedding_l2={"mlp": 1e-4, "linear": 0.0, "autopi": 1e-4},
    terms=TermLearning(1.0, 1e-4),
    max_epochs=4,
    num_threads=1,
    kernels="torch",
    batch_rows=128,
    learning_rate={"mlp": 0.02, "linear": 0.02, "autopi": 0.02},
    learning_rate_factor=0.1,
    num_learning_rate_drops=1,
    patience_epochs=1,
    monitor="auc",
    negative_keep_rate=1.0,
    click_weight=1.0,
    focal_gamma=0.0,
    weight_averaging=0.5,
    num_members=1,
    seed=3,
)


def kept_epoch(ranker: TrainedRanker) -> EpochRecord:
    """The record of the epoch whose weights the only member has."""
    (member,) = ranker.members
    return member.history[member.best_epoch]


def true_logits(ids: np.ndarray) -> np.ndarray:
    """An interaction of both fields that no main effect shows."""
    return -1.0 + 2.5 * np.where((ids[:, 0] % 2) == (ids[:, 1] % 2), 1.0, -1.0)


def encoded_rows(folder: Path, num_rows: dict[str, int]) -> Encoded:
    """Rows whose clicks are drawn from `true_logits`."""
    fields = tuple(Field(name, "categorical", None, 0.0, None, None) for name in ("user", "item"))
    codes = tuple(
        Vocabulary(field.name, pl.Series(field.name, [str(value) for value in range(size)], dtype=pl.String), 0)
        for field, size in zip(fields, NUM_VALUES, strict=True)
    )
    generator = np.random.default_rng(7)
    folder.mkdir()
    for name, rows in num_rows.items():
        ids = np.stack([generator.integers(2, 2 + size, rows) for size in NUM_VALUES], axis=1).astype(np.int32)
        np.save(folder / f"ids_{name}.npy", ids)
        np.save(folder / f"clicks_{name}.npy", (generator.random(rows) < expit(true_logits(ids))).astype(np.int8))
        np.save(folder / f"times_{name}.npy", np.arange(rows, dtype=np.int64))
    schema = LogSchema("click", None, None, "user", "item", fields)
    return Encoded(Encoder(schema, codes), (), num_rows, folder)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    folder = tmp_path_factory.mktemp("encoded") / "rows"
    return encoded_rows(folder, {"train": 2001, "tune": 1000, "calibrate": 500, "test": 500})


@pytest.fixture(scope="module")
def found() -> FoundArchitecture:
    architecture = Architecture.from_text(LINE, "test")
    return FoundArchitecture(architecture, "fixed", OPERATORS, (), None, None, 0, None)


def with_params(**changes: object) -> TrainParams:
    return dataclasses.replace(PARAMS, **changes)  # type: ignore[arg-type]


def fresh(workbench: Workbench, **changes: object) -> Workbench:
    """The same workplace, ready to start anew unless told otherwise."""
    return dataclasses.replace(workbench, **{"resume": "never", **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(encoded: Encoded, found: FoundArchitecture, tmp_path_factory: pytest.TempPathFactory) -> TrainedRanker:
    folder = tmp_path_factory.mktemp("trained")
    bench = Workbench(folder, folder / "checkpoints", lambda *_: None, "cpu", "never", None, lambda: None, 1)
    return train_ranker(encoded, found, PARAMS, bench)


def test_the_perceptron_nears_the_true_probability_and_logistic_regression_cannot(
    encoded: Encoded, found: FoundArchitecture, trained: TrainedRanker, workbench: Workbench
) -> None:
    test = encoded.split("test")
    oracle = metrics.auc(test.clicks, true_logits(test.ids))
    linear = train_ranker(encoded, found, with_params(ranker="linear"), fresh(workbench))
    assert metrics.auc(test.clicks, trained.logits(test.ids)) > oracle - 0.01
    assert metrics.auc(test.clicks, linear.logits(test.ids)) < 0.6


def test_the_threads_are_those_of_the_params_and_the_process_gets_its_own_back(
    encoded: Encoded, found: FoundArchitecture, workbench: Workbench
) -> None:
    before = torch.get_num_threads()
    seen = set[int]()
    torch.set_num_threads(3)
    try:
        bench = fresh(workbench, progress=lambda *_: seen.add(torch.get_num_threads()))
        train_ranker(encoded, found, with_params(num_threads=2, max_epochs=1), bench)
        assert (seen, torch.get_num_threads()) == ({2}, 3)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("way", WAYS)
def test_the_found_network_is_trained_by_the_same_loop(
    encoded: Encoded, found: FoundArchitecture, workbench: Workbench, way: str
) -> None:
    ranker = train_ranker(encoded, found, with_params(ranker="autopi", kernels=way), fresh(workbench))
    test = encoded.split("test")
    assert ranker.architecture == found.architecture
    assert metrics.auc(test.clicks, ranker.logits(test.ids)) > metrics.auc(test.clicks, true_logits(test.ids)) - 0.02


@needs_compiler
@pytest.mark.parametrize("ranker", ["mlp", "autopi"])
def test_kernels_take_the_course_of_torch_and_are_not_torch(
    encoded: Encoded, found: FoundArchitecture, workbench: Workbench, ranker: str
) -> None:
    one, other = (
        train_ranker(encoded, found, with_params(ranker=ranker, kernels=way, max_epochs=1), fresh(workbench))
        for way in ("torch", "compiled")
    )
    assert one != other, "kernels were asked for and torch did the work"
    assert kept_epoch(one).train_loss == pytest.approx(kept_epoch(other).train_loss, rel=1e-4)
    assert one.tune_auc == pytest.approx(other.tune_auc, abs=1e-3)


def test_without_a_compiler_a_training_by_kernels_says_so_before_it_begins(
    encoded: Encoded, found: FoundArchitecture, workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "COMPILER", "no-such-compiler")
    forget_programs()
    params = with_params(kernels="compiled", num_members=2)
    with pytest.raises(ConfigError, match=r"\[train\] kernels.* needs a C compiler.*set them to 'torch'"):
        train_ranker(encoded, found, params, fresh(workbench))
    assert not list(workbench.checkpoints.glob("**/*.safetensors"))


def test_a_trained_ranker_is_saved_and_loaded_equal(trained: TrainedRanker, encoded: Encoded, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        trained.save(tmp_path / name)
    loaded = TrainedRanker.load(tmp_path / "one")
    assert loaded == trained
    ids = encoded.split("test").ids
    assert np.array_equal(loaded.logits(ids), trained.logits(ids))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_found_networks_artifact_is_saved_and_loaded_equal(found: FoundArchitecture, tmp_path: Path) -> None:
    import safetensors.torch

    ranker = build_ranker("autopi", (5, 6), SHAPE, found.architecture)
    weights = safetensors.torch.save({name: tensor.contiguous() for name, tensor in ranker.state_dict().items()})
    record = EpochRecord(0, 0.001, 0.5, 0.7, 0.4)
    saved = TrainedRanker(
        "autopi", (5, 6), SHAPE, found.architecture, 0.5, 0.7, 0.4, None, (Member(3, 10, 0, (record,)),), weights
    )
    saved.save(tmp_path)
    assert TrainedRanker.load(tmp_path) == saved
    assert TrainedRanker.load(tmp_path).build().training is False


@pytest.mark.parametrize("damage", ["cut weights", "other weights", "no weights", "no facts", "unknown fact"])
def test_a_damaged_artifact_is_refused(trained: TrainedRanker, tmp_path: Path, damage: str) -> None:
    trained.save(tmp_path)
    weights, facts = tmp_path / "weights.safetensors", tmp_path / "ranker.json"
    if damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-5])
    elif damage == "other weights":
        write_json(facts, read_json(facts) | {"field_sizes": [3, 3]})
    elif damage == "no weights":
        weights.unlink()
    elif damage == "no facts":
        facts.unlink()
    else:
        write_json(facts, read_json(facts) | {"colour": "blue"})
    with pytest.raises(IntegrityError):
        TrainedRanker.load(tmp_path).build()


def test_logits_do_not_depend_on_how_many_rows_are_scored_at_once(trained: TrainedRanker, encoded: Encoded) -> None:
    ids = encoded.split("test").ids[:40]
    together = trained.logits(ids)
    assert together.dtype == np.float64
    alone = np.concatenate([trained.logits(ids[row : row + 1]) for row in range(40)])
    assert np.allclose(alone, together, rtol=1e-5, atol=1e-5)
    assert trained.logits(ids[:0]).shape == (0,)


def test_the_weights_kept_are_those_of_the_best_epoch(trained: TrainedRanker, encoded: Encoded) -> None:
    tune = encoded.split("tune")
    best = max(trained.members[0].history, key=lambda record: record.tune_auc)
    assert kept_epoch(trained) == best
    assert (trained.tune_auc, trained.tune_log_loss) == (best.tune_auc, best.tune_log_loss)
    logits = trained.logits(tune.ids)
    assert metrics.auc(tune.clicks, logits) == pytest.approx(best.tune_auc, abs=1e-6)
    assert metrics.log_loss(tune.clicks, expit(logits)) == pytest.approx(best.tune_log_loss, abs=1e-6)


def test_members_learn_as_if_alone_and_the_rankers_logit_is_the_mean_of_theirs(
    encoded: Encoded, found: FoundArchitecture, workbench: Workbench, tmp_path: Path
) -> None:
    params = with_params(negative_keep_rate=0.5, num_members=3, max_epochs=2)
    together = train_ranker(encoded, found, params, fresh(workbench))
    alone = [
        train_ranker(encoded, found, dataclasses.replace(params, num_members=1, seed=seed), fresh(workbench))
        for seed in (3, 1003, 2003)
    ]
    assert together.members == tuple(one.members[0] for one in alone)
    assert together.num_epochs == 6
    assert together.num_rows_seen == sum(one.num_rows_seen for one in alone)
    tune = encoded.split("tune")
    logits = np.mean([one.logits(tune.ids) for one in alone], axis=0)
    assert np.allclose(together.logits(tune.ids), logits, rtol=1e-6, atol=1e-6)
    # With half of the negatives in train, the odds of a click are twice too large: the same shift for the mean as for each.
    odds = np.exp(logits) / 2
    assert together.negative_keep_rate == 0.5
    assert together.tune_auc == pytest.approx(metrics.auc(tune.clicks, logits), abs=1e-6)
    assert together.tune_log_loss == pytest.approx(metrics.log_loss(tune.clicks, odds / (1 + odds)), abs=1e-6)
    together.save(tmp_path)
    assert TrainedRanker.load(tmp_path) == together


def test_a_member_that_had_learned_is_not_learned_again(
    encoded: Encoded, found: FoundArchitecture, workbench: Workbench
) -> None:
    notes: list[str] = []
    params = with_params(num_members=2, max_epochs=1)
    bench = dataclasses.replace(workbench, progress=lambda _done, _total, note: notes.append(note))
    looks_of_one_member = len(encoded.split("train").clicks) // params.batch_rows
    with pytest.raises(Stopped):
        train_ranker(encoded, found, params, dataclasses.replace(bench, stop_signal=StopAt(looks_of_one_member + 3)))
    assert notes[-2].startswith("1/2 mlp: epoch 1")
    assert notes[-1].startswith("2/2 mlp: at most 16 steps"), "the other had just begun"
    notes.clear()
    train_ranker(encoded, found, params, bench)
    assert notes
    assert all(note.startswith("2/2 ") for note in notes)


@pytest.mark.parametrize(("max_epochs", "is_told"), [(2, True), (500, False)])
def test_a_training_of_few_steps_says_how_many_and_what_to_change(
    encoded: Encoded, found: FoundArchitecture, workbench: Workbench, max_epochs: int, is_told: bool
) -> None:
    notes: list[str] = []
    params = with_params(max_epochs=max_epochs)
    bench = dataclasses.replace(
        workbench,
        checkpoints=workbench.checkpoints / str(max_epochs),
        progress=lambda _done, _total, note: notes.append(note),
        stop_signal=StopAt(1),
    )
    with pytest.raises(Stopped):
        train_ranker(encoded, found, params, bench)
    num_steps = -(-len(encoded.split("train").clicks) // params.batch_rows)
    words = f"mlp: at most {2 * num_steps} steps (2 epoch(s) of {num_steps}): a smaller train.batch_rows may learn more"
    assert (words in notes) == is_told
    assert any("smaller" in note for note in notes) == is_told


def test_building_a_ranker_leaves_the_callers_random_numbers_alone(trained: TrainedRanker) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    trained.build()
    assert torch.equal(torch.rand(3), expected)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    trained: TrainedRanker, encoded: Encoded, found: FoundArchitecture, workbench: Workbench
) -> None:
    torch.manual_seed(99)
    assert train_ranker(encoded, found, PARAMS, fresh(workbench)) == trained
    assert train_ranker(encoded, found, with_params(seed=4), fresh(workbench)).weights != trained.weights


class StopAt:
    """Asks to stop when it was looked at for the n-th time, and goes on asking."""

    def __init__(self, look: int) -> None:
        self.left = look

    def __call__(self) -> int | None:
        self.left -= 1
        return 15 if self.left < 0 else None


@pytest.mark.parametrize(
    "params",
    [
        PARAMS,
        with_params(ranker="autopi"),
        with_params(negative_keep_rate=0.5),
        with_params(num_members=2),
        pytest.param(with_params(ranker="autopi", kernels="compiled"), marks=needs_compiler),
    ],
)
def test_stopped_at_random_batches_and_resumed_the_bytes_are_those_of_an_uninterrupted_run(
    encoded: Encoded, found: FoundArchitecture, workbench: Workbench, params: TrainParams
) -> None:
    expected = train_ranker(encoded, found, params, fresh(workbench))
    generator = np.random.default_rng(1)
    resumed = None
    exit_codes: list[int] = []
    bench = fresh(workbench)
    while resumed is None:
        torch.manual_seed(len(exit_codes))
        try:
            resumed = train_ranker(
                encoded, found, params, dataclasses.replace(bench, stop_signal=StopAt(int(generator.integers(0, 9))))
            )
        except Stopped as stop:
            exit_codes.append(stop.exit_code)
        bench = dataclasses.replace(bench, resume="always")
    assert len(exit_codes) >= 8
    assert set(exit_codes) == {128 + 15}
    assert resumed == expected


def test_a_run_that_had_ended_is_not_run_again(
    trained: TrainedRanker, encoded: Encoded, found: FoundArchitecture, workbench: Workbench
) -> None:
    train_ranker(encoded, found, PARAMS, workbench)
    looks = StopAt(0)
    assert train_ranker(encoded, found, PARAMS, dataclasses.replace(workbench, stop_signal=looks)) == trained


@pytest.mark.parametrize(
    ("changed", "word"),
    [({"seed": 4}, "params"), ({"learning_rate": {"mlp": 0.01}}, "params"), ({"ranker": "linear"}, "params")],
)
def test_a_checkpoint_of_other_params_is_refused_or_discarded_aloud(
    trained: TrainedRanker,
    encoded: Encoded,
    found: FoundArchitecture,
    workbench: Workbench,
    changed: dict[str, object],
    word: str,
) -> None:
    notes: list[str] = []
    bench = dataclasses.replace(workbench, progress=lambda _done, _total, note: notes.append(note))
    with pytest.raises(Stopped):
        train_ranker(encoded, found, with_params(**changed), dataclasses.replace(bench, stop_signal=StopAt(2)))
    with pytest.raises(ConfigError, match=word):
        train_ranker(encoded, found, PARAMS, dataclasses.replace(bench, resume="always"))
    assert train_ranker(encoded, found, PARAMS, bench) == trained
    assert any("discarded" in note and word in note for note in notes)


def test_a_checkpoint_of_other_data_is_not_gone_on_with(
    trained: TrainedRanker, encoded: Encoded, found: FoundArchitecture, workbench: Workbench, tmp_path: Path
) -> None:
    other = encoded_rows(tmp_path / "other", {"train": 2001, "tune": 999, "calibrate": 5, "test": 5})
    with pytest.raises(Stopped):
        train_ranker(other, found, PARAMS, dataclasses.replace(workbench, stop_signal=StopAt(2)))
    with pytest.raises(ConfigError, match="data"):
        train_ranker(encoded, found, PARAMS, dataclasses.replace(workbench, resume="always"))
    assert train_ranker(encoded, found, PARAMS, workbench) == trained


def test_the_checkpoint_is_written_each_epoch(encoded: Encoded, found: FoundArchitecture, workbench: Workbench) -> None:
    seen: list[bool] = []
    path = workbench.checkpoints / "checkpoint.safetensors"
    bench = dataclasses.replace(workbench, progress=lambda *_: seen.append(path.exists()))
    train_ranker(encoded, found, with_params(max_epochs=1), bench)
    assert seen[-1] is True
    assert load_checkpoint(workbench.checkpoints, {}, "auto", lambda _: None) is None


def test_the_penalty_is_half_l2_times_the_squared_norm_of_the_embeddings(
    encoded: Encoded, found: FoundArchitecture, workbench: Workbench
) -> None:
    """One step by hand: Adam's first step is learning rate * g / (|g| + 1e-8) whatever the gradient's size."""
    l2 = 50.0
    params = with_params(
        ranker="linear", embedding_l2={"linear": l2}, batch_rows=2001, max_epochs=1, monitor="log_loss"
    )
    trained = train_ranker(encoded, found, params, fresh(workbench))
    torch.manual_seed(params.seed)
    ranker = build_ranker("linear", encoded.field_sizes, SHAPE, None)
    (table,) = ranker.embedding_parameters()
    split = encoded.split("train")
    ids, clicks = torch.from_numpy(np.array(split.ids)), torch.from_numpy(np.array(split.clicks)).float()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(ranker(ids), clicks) + l2 / 2 * table.square().sum()
    loss.backward()
    learned = dict(trained.build().named_parameters())
    for name, parameter in ranker.named_parameters():
        assert parameter.grad is not None
        step = params.learning_rate["linear"] * parameter.grad / (parameter.grad.abs() + 1e-8)
        assert torch.allclose(learned[name], parameter.detach() - step, rtol=1e-4, atol=1e-6)


def test_a_strong_penalty_shrinks_the_embeddings(
    encoded: Encoded, found: FoundArchitecture, workbench: Workbench
) -> None:
    def norm(l2: float) -> float:
        params = with_params(embedding_l2={"mlp": l2}, max_epochs=2)
        (table,) = train_ranker(encoded, found, params, fresh(workbench)).build().embedding_parameters()
        return float(table.norm())

    assert norm(1.0) < 0.3 * norm(0.0)


def test_downsampling_keeps_every_click_and_the_promised_share_of_the_others() -> None:
    clicks = (np.random.default_rng(1).random(100_000) < 0.03).astype(np.int8)
    rows = keep_rows(clicks, 0.1, 5)
    assert rows is not None
    assert clicks[rows].sum() == clicks.sum()
    kept = (clicks[rows] == 0).sum() / (clicks == 0).sum()
    # Five deviations of a binomial share.
    assert abs(kept - 0.1) < 5 * math.sqrt(0.1 * 0.9 / 97_000)
    assert np.array_equal(rows, keep_rows(clicks, 0.1, 5))
    assert not np.array_equal(rows, keep_rows(clicks, 0.1, 6))
    assert keep_rows(clicks, 1.0, 5) is None


def test_after_downsampling_the_corrected_scores_are_calibrated(
    encoded: Encoded, found: FoundArchitecture, workbench: Workbench
) -> None:
    keep_rate = 0.3
    params = with_params(negative_keep_rate=keep_rate, monitor="log_loss", max_epochs=6)
    ranker = train_ranker(encoded, found, params, fresh(workbench))
    tune = encoded.split("tune")
    sampled = expit(ranker.logits(tune.ids))
    corrected = sampled / (sampled + (1 - sampled) / keep_rate)
    assert ranker.members[0].num_train_rows < 2001
    truth = expit(true_logits(tune.ids) - math.log(keep_rate))
    expected = metrics.calibration_ratio(tune.clicks, truth)
    assert metrics.calibration_ratio(tune.clicks, sampled) == pytest.approx(expected, abs=0.12)
    assert expected > 1.2
    assert metrics.calibration_ratio(tune.clicks, corrected) == pytest.approx(1.0, abs=0.12)
    best = kept_epoch(ranker)
    assert metrics.log_loss(tune.clicks, corrected) == pytest.approx(best.tune_log_loss, abs=1e-6)
    assert best.tune_log_loss == min(record.tune_log_loss for record in ranker.members[0].history)


@pytest.mark.parametrize("click_weight", [1.0, 4.0])
@pytest.mark.parametrize("focal_gamma", [0.0, 0.5, 2.0])
def test_the_loss_of_each_row_is_what_a_loop_by_hand_gives(click_weight: float, focal_gamma: float) -> None:
    logits, clicks = [-40.0, -1.0, 0.3, 2.0, 40.0, 0.0], [0.0, 1.0, 1.0, 0.0, 1.0, 0.0]
    total = 0.0
    for logit, click in zip(logits, clicks, strict=True):
        given = 1 / (1 + math.exp(-logit if click else logit))
        total += (click_weight if click else 1.0) * (1 - given) ** focal_gamma * -math.log(given)
    tensor = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    loss = mean_loss(tensor, torch.tensor(clicks, dtype=torch.float64), click_weight, focal_gamma)
    assert float(loss.detach()) == pytest.approx(total / 6, rel=1e-9)
    loss.backward()
    assert tensor.grad is not None
    assert torch.isfinite(tensor.grad).all()


def test_a_click_that_counts_four_times_is_corrected_exactly_like_keeping_a_quarter_of_the_others(
    encoded: Encoded, found: FoundArchitecture, workbench: Workbench
) -> None:
    params = with_params(click_weight=4.0, monitor="log_loss", max_epochs=6)
    ranker = train_ranker(encoded, found, params, fresh(workbench))
    tune = encoded.split("tune")
    weighted = expit(ranker.logits(tune.ids))
    corrected = weighted / (weighted + (1 - weighted) * 4)
    assert ranker.negative_keep_rate == 0.25
    assert metrics.calibration_ratio(tune.clicks, weighted) > 1.2
    assert metrics.calibration_ratio(tune.clicks, corrected) == pytest.approx(1.0, abs=0.12)
    best = kept_epoch(ranker)
    assert metrics.log_loss(tune.clicks, corrected) == pytest.approx(best.tune_log_loss, abs=1e-6)


def test_the_minimum_of_the_focal_loss_lies_nearer_to_one_half_than_the_truth() -> None:
    """One row of each class, weighted by a true rate of 0.1: where the loss is smallest is the score that is learned."""
    logits = torch.linspace(-5, 5, 1001, dtype=torch.float64)

    def smallest(gamma: float) -> float:
        clicked, other = (
            torch.stack([mean_loss(z, torch.tensor(click).double(), 1.0, gamma) for z in logits]) for click in (1, 0)
        )
        return 1 / (1 + math.exp(-float(logits[int((0.1 * clicked + 0.9 * other).argmin())])))

    assert smallest(0.0) == pytest.approx(0.1, abs=0.002)
    assert 0.2 < smallest(2.0) < 0.5


@pytest.mark.parametrize(("name", "num_fields"), [("ffm", 1), ("fm", 1), ("autoint_plus", 1)])
def test_a_ranker_that_combines_fields_is_refused_where_there_is_one(name: str, num_fields: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"'{name}' combines fields and needs at least 2, this log has 1; choose one of .*mlp"
    ):
        check_fields(with_params(ranker=name), (5,) * num_fields)


def test_a_table_that_no_memory_holds_is_refused_with_its_figures_before_it_is_made() -> None:
    params = with_params(ranker="mlp")
    check_memory(params, (1000, 2000), None, torch.device("cpu"))
    with pytest.raises(
        ConfigError,
        match=r"4,000,000,000,000 numbers in embeddings of 1,000,000,000,000 ids.*96,000.0 GB.*embedding_width \(now 4\)",
    ):
        check_memory(params, (500_000_000_000, 500_000_000_000), None, torch.device("cpu"))


def test_a_quick_look_sees_so_many_batches_and_says_so(
    encoded: Encoded, found: FoundArchitecture, workbench: Workbench
) -> None:
    looks = StopAt(10_000)
    bench = fresh(workbench, limit_batches=2, stop_signal=looks)
    ranker = train_ranker(encoded, found, with_params(max_epochs=1), bench)
    assert ranker.limit_batches == 2
    assert 10_000 - looks.left == 1


def record_of(epoch: int, tune_auc: float, learning_rate: float = 1.0) -> EpochRecord:
    return EpochRecord(epoch, learning_rate, 0.5, tune_auc, 1 - tune_auc)


@pytest.mark.parametrize("monitor", ["auc", "log_loss"])
def test_the_learning_rate_drops_when_tune_stops_improving_and_then_the_training_ends(monitor: str) -> None:
    params = with_params(
        monitor=monitor, patience_epochs=2, num_learning_rate_drops=1, max_epochs=99, learning_rate={"mlp": 1.0}
    )
    course = Course.start(params)
    #         better  worse worse:drop better worse worse: end
    figures = [0.6, 0.7, 0.69, 0.7, 0.75, 0.74, 0.75]
    rates, bests = [], []
    for epoch, figure in enumerate(figures):
        assert not course.has_ended
        rates.append(course.learning_rate)
        bests.append(course.take(record_of(epoch, figure), params))
    assert course.has_ended
    assert rates == pytest.approx([1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1])
    assert bests == [True, True, False, False, True, False, False]
    assert course.best_epoch == 4


def test_the_training_ends_after_its_last_epoch_however_well_it_goes() -> None:
    params = with_params(max_epochs=3)
    course = Course.start(params)
    for epoch in range(3):
        assert not course.has_ended
        course.take(record_of(epoch, 0.6 + 0.01 * epoch), params)
    assert course.has_ended


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"ranker": "deep"}, "deep"),
        ({"negative_keep_rate": 0.0}, "negative_keep_rate"),
        ({"negative_keep_rate": 1.5}, "negative_keep_rate"),
        ({"click_weight": 0.5}, "click_weight"),
        ({"focal_gamma": -1.0}, "focal_gamma"),
        ({"weight_averaging": 1.0}, "weight_averaging"),
        ({"num_members": 0}, "num_members"),
        ({"learning_rate_factor": 1.0}, "learning_rate_factor"),
        ({"learning_rate": {"mlp": 0.0}}, "learning_rate.mlp > 0"),
        ({"max_epochs": 0}, "max_epochs"),
        ({"batch_rows": 1}, "batch_rows"),
        ({"patience_epochs": 0}, "patience_epochs"),
        ({"embedding_l2": {"linear": 0.1}}, "no embedding_l2 for 'mlp'"),
        ({"ranker_params": {"linear": SHAPE}}, "no ranker_params for 'mlp'"),
        ({"ranker_params": {"mlp": dataclasses.replace(SHAPE, dropout=1.0)}}, "dropout"),
        ({"learning_rate": {"mlp": 1e30}}, "diverged"),
        ({"learning_rate": {}}, "no learning_rate for 'mlp'"),
    ],
)
def test_params_that_make_no_sense_are_refused_by_name(
    encoded: Encoded, found: FoundArchitecture, workbench: Workbench, changes: dict[str, object], word: str
) -> None:
    params = with_params(**changes)
    with pytest.raises(ConfigError, match=word):
        train_ranker(encoded, found, params, fresh(workbench))


def test_too_few_rows_are_a_data_error(found: FoundArchitecture, workbench: Workbench, tmp_path: Path) -> None:
    tiny = encoded_rows(tmp_path / "tiny", {"train": 1, "tune": 9, "calibrate": 5, "test": 5})
    with pytest.raises(DataError, match="at least two"):
        train_ranker(tiny, found, PARAMS, fresh(workbench))
