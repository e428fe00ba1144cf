"""Rankers against loops by hand, on one row alone, and on what each can learn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from components.rankers import RANKERS, FieldEmbedding, Ranker, RankerParams
from components.rankers.dropout import Dropout

FIELD_SIZES = (3, 5, 4)
PARAMS = RankerParams(embedding_width=2, hidden_widths=(6, 4), dropout=0.5, use_batch_norm=True)


def built(name: str, params: RankerParams = PARAMS) -> Ranker:
    """A ranker whose every number, batch norm's included, is away from its start."""
    torch.manual_seed(3)
    ranker = RANKERS[name](FIELD_SIZES, params)
    for tensor in ranker.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape) + 0.1)
    return ranker.eval()


def some_ids(num_rows: int, seed: int = 1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.stack([generator.integers(0, size, num_rows) for size in FIELD_SIZES], axis=1).astype(np.int32)


def numbers(ranker: Ranker) -> dict[str, list]:
    return {name: tensor.double().tolist() for name, tensor in ranker.state_dict().items()}


def offset(field: int) -> int:
    return sum(FIELD_SIZES[:field])


def linear_by_hand(ranker: Ranker, row: np.ndarray) -> float:
    weights = numbers(ranker)
    total = weights["bias"][0]
    for field, id_ in enumerate(row):
        total += weights["weights.table"][offset(field) + id_][0]
    return total


def perceptron_by_hand(ranker: Ranker, row: np.ndarray) -> float:
    weights = numbers(ranker)
    values: list[float] = []
    for field, id_ in enumerate(row):
        values += weights["embedding.table"][offset(field) + id_]
    for linear, norm in ((0, 1), (4, 5)):
        following = []
        for unit, (row_of_weights, bias) in enumerate(
            zip(weights[f"hidden.{linear}.weight"], weights[f"hidden.{linear}.bias"], strict=True)
        ):
            z = bias + sum(weight * value for weight, value in zip(row_of_weights, values, strict=True))
            mean, variance = (weights[f"hidden.{norm}.running_{kind}"][unit] for kind in ("mean", "var"))
            scale, shift = (weights[f"hidden.{norm}.{kind}"][unit] for kind in ("weight", "bias"))
            following.append(max(0.0, (z - mean) / math.sqrt(variance + 1e-5) * scale + shift))
        values = following
    return weights["output.bias"][0] + sum(
        weight * value for weight, value in zip(weights["output.weight"][0], values, strict=True)
    )


BY_HAND = {"linear": linear_by_hand, "mlp": perceptron_by_hand}


def test_every_ranker_is_tested_by_hand() -> None:
    assert set(BY_HAND) == set(RANKERS)


@pytest.mark.parametrize("name", sorted(RANKERS))
def test_a_logit_is_what_a_loop_by_hand_gives(name: str) -> None:
    ranker, ids = built(name), some_ids(20)
    logits = ranker(torch.from_numpy(ids))
    assert logits.dtype == torch.float32
    expected = [BY_HAND[name](ranker, row) for row in ids]
    assert logits.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", sorted(RANKERS))
def test_one_row_alone_gets_its_logit(name: str) -> None:
    ranker, ids = built(name), torch.from_numpy(some_ids(9))
    alone = torch.cat([ranker(ids[row : row + 1]) for row in range(9)])
    assert ranker(ids[:1]).shape == (1,)
    assert torch.allclose(alone, ranker(ids), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", sorted(RANKERS))
def test_int32_and_int64_ids_are_the_same(name: str) -> None:
    ranker, ids = built(name), torch.from_numpy(some_ids(9))
    assert torch.equal(ranker(ids), ranker(ids.long()))


@pytest.mark.parametrize("name", sorted(RANKERS))
def test_the_seed_alone_decides_the_initial_weights(name: str) -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return RANKERS[name](FIELD_SIZES, PARAMS).state_dict()

    assert all(torch.equal(one, other) for one, other in zip(weights(1).values(), weights(1).values(), strict=True))
    assert any(not torch.equal(one, other) for one, other in zip(weights(1).values(), weights(2).values(), strict=True))


@pytest.mark.parametrize("name", sorted(RANKERS))
def test_embeddings_are_the_tables_and_nothing_else(name: str) -> None:
    (table,) = built(name).embedding_parameters()
    assert table.shape == (sum(FIELD_SIZES), 1 if name == "linear" else 2)
    assert isinstance(table, torch.nn.Parameter)


def test_without_hidden_layers_batch_norm_and_dropout_the_perceptron_is_one_linear_layer() -> None:
    ranker = built("mlp", RankerParams(embedding_width=2, hidden_widths=(), dropout=0.0, use_batch_norm=False))
    assert sorted(ranker.state_dict()) == ["embedding.table", "output.bias", "output.weight"]
    hidden = built("mlp", RankerParams(embedding_width=2, hidden_widths=(4,), dropout=0.0, use_batch_norm=False))
    assert [type(layer).__name__ for layer in hidden.get_submodule("hidden").children()] == ["Linear", "ReLU"]


def test_an_id_is_looked_up_in_its_own_fields_part_of_the_table() -> None:
    embedding = FieldEmbedding(FIELD_SIZES, 4, torch.Generator().manual_seed(1))
    ids = torch.from_numpy(some_ids(7))
    vectors = embedding(ids)
    assert vectors.shape == (7, 3, 4)
    for row in range(7):
        for field in range(3):
            assert torch.equal(vectors[row, field], embedding.table[offset(field) + int(ids[row, field])])


def test_an_embedding_gets_the_gradient_of_the_rows_that_used_it_alone() -> None:
    embedding = FieldEmbedding(FIELD_SIZES, 2, None)
    embedding(torch.tensor([[1, 0, 3], [1, 4, 3]], dtype=torch.int32)).sum().backward()
    counts = torch.zeros(12)
    for place in (1, 3 + 0, 8 + 3, 1, 3 + 4, 8 + 3):
        counts[place] += 1
    assert embedding.table.grad is not None
    assert torch.equal(embedding.table.grad, counts[:, None].expand(12, 2))


def fitted_loss(name: str, clicks: np.ndarray, ids: np.ndarray) -> float:
    """Train log loss after a few hundred steps on all rows at once."""
    torch.manual_seed(1)
    ranker = RANKERS[name](FIELD_SIZES, RankerParams(4, (16,), 0.0, True))
    optimizer = torch.optim.Adam(ranker.parameters(), lr=0.2, fused=True)
    ids_bf, clicks_b = torch.from_numpy(ids), torch.from_numpy(clicks).float()
    for _ in range(100):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(ranker(ids_bf), clicks_b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def test_logistic_regression_learns_main_effects_but_no_interaction_and_the_perceptron_both() -> None:
    # Every combination once, so that an exclusive or of two fields has no main effect at all.
    ids = np.array(list(itertools.product(range(2), range(4), range(4))), dtype=np.int32)
    main = (ids[:, 0] == 1).astype(np.int8)
    interaction = (ids[:, 0] ^ (ids[:, 1] % 2)).astype(np.int8)
    assert fitted_loss("linear", main, ids) < 0.05
    assert fitted_loss("linear", interaction, ids) == pytest.approx(math.log(2), abs=1e-3)
    assert fitted_loss("mlp", main, ids) < 0.05
    assert fitted_loss("mlp", interaction, ids) < 0.05


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_dropout_leaves_out_its_share_and_keeps_the_mean(share: float) -> None:
    torch.manual_seed(1)
    dropout = Dropout(share)
    x = torch.ones(1001, 999, requires_grad=True)
    y = dropout(x)
    y.sum().backward()
    num = x.numel()
    # Five deviations of a binomial share.
    assert abs(float((y == 0).double().mean()) - share) < 5 * math.sqrt(share * (1 - share) / num)
    assert torch.allclose(y[y != 0], torch.tensor(1 / (1 - share)), rtol=1e-4)
    # Neighbours share a draw of 64 bits and must still be independent of each other.
    pairs = (y.flatten()[:-1] == 0) & (y.flatten()[1:] == 0)
    assert abs(float(pairs.double().mean()) - share**2) < 6 * share / math.sqrt(num)
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())
    assert torch.equal(dropout.eval()(x), x)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", sorted(RANKERS))
def test_a_ranker_exports_with_any_number_of_rows(name: str) -> None:
    ranker = built(name)
    program = torch.export.export(
        ranker, (torch.from_numpy(some_ids(5)),), dynamic_shapes=({0: torch.export.Dim("rows")},)
    )
    for num_rows in (1, 2, 33):
        ids = torch.from_numpy(some_ids(num_rows, 5))
        assert torch.allclose(program.module()(ids), ranker(ids), rtol=1e-6, atol=1e-6)
