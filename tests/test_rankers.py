"""Rankers against loops by hand, on one row alone, and on what each can learn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import onnxruntime
import pytest
import torch

from components.exporting import export_ranker
from components.rankers import RANKERS, FieldEmbedding, Ranker, RankerParams
from components.rankers.dropout import Dropout
from components.rankers.factorization import anova_kernel
from components.scoring import ONNX_IDS
from tests.rankers_by_hand import BY_HAND, SIZES, WIDTH, params_of

FIELD_SIZES = SIZES


def built(name: str, params: RankerParams | None = None) -> Ranker:
    """A ranker whose every number, batch norm's included, is away from its start, half of them below 0."""
    torch.manual_seed(3)
    ranker = RANKERS[name](FIELD_SIZES, params or params_of(name))
    for key, tensor in ranker.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(-1, 1) if not key.endswith("running_var") else tensor.uniform_(0.5, 1.5)
    return ranker.eval()


def some_ids(num_rows: int, seed: int = 1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.stack([generator.integers(0, size, num_rows) for size in FIELD_SIZES], axis=1).astype(np.int32)


def offset(field: int) -> int:
    return sum(FIELD_SIZES[:field])


def test_every_ranker_is_tested_by_hand() -> None:
    assert set(BY_HAND) == set(RANKERS)


@pytest.mark.parametrize("name", sorted(RANKERS))
def test_a_logit_is_what_a_loop_by_hand_gives(name: str) -> None:
    ranker, ids = built(name), some_ids(7)
    assert ranker(torch.from_numpy(ids)).dtype == torch.float32
    weights = {key: tensor.double().numpy() for key, tensor in ranker.state_dict().items()}
    expected = [BY_HAND[name](weights, row) for row in ids]
    assert np.std(expected) > 0.01
    assert ranker.double()(torch.from_numpy(ids)).tolist() == pytest.approx(expected, rel=1e-9)


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
        return RANKERS[name](FIELD_SIZES, params_of(name)).state_dict()

    assert all(torch.equal(one, other) for one, other in zip(weights(1).values(), weights(1).values(), strict=True))
    assert any(not torch.equal(one, other) for one, other in zip(weights(1).values(), weights(2).values(), strict=True))


@pytest.mark.parametrize("name", sorted(RANKERS))
def test_embeddings_are_the_tables_and_nothing_else(name: str) -> None:
    ranker = built(name)
    tables = ranker.embedding_parameters()
    assert {id(table) for table in tables} == {
        id(tensor) for key, tensor in ranker.named_parameters() if key.endswith("table")
    }
    assert all(len(table) == sum(FIELD_SIZES) for table in tables)
    has_main_effects = name == "linear" or any("main." in key for key in ranker.state_dict())
    numbers_per_id = {"linear": 0, "ffm": 3 * WIDTH, "hofm": 2 * WIDTH, "afn_plus": 2 * WIDTH}.get(name, WIDTH)
    assert sum(table.shape[1] for table in tables) == numbers_per_id + has_main_effects


def test_without_hidden_layers_batch_norm_and_dropout_the_perceptron_is_one_linear_layer() -> None:
    ranker = built("mlp", RankerParams(embedding_width=2, hidden_widths=(), dropout=0.0, use_batch_norm=False))
    assert sorted(ranker.state_dict()) == ["embedding.table", "output.bias", "output.weight"]
    hidden = built("mlp", RankerParams(embedding_width=2, hidden_widths=(4,), dropout=0.0, use_batch_norm=False))
    assert [type(layer).__name__ for layer in hidden.get_submodule("hidden").children()] == ["Linear", "ReLU"]


def test_an_id_is_looked_up_in_its_own_fields_part_of_the_table() -> None:
    embedding = FieldEmbedding(FIELD_SIZES, 4, torch.Generator().manual_seed(1))
    ids = torch.from_numpy(some_ids(7))
    vectors = embedding(ids)
    assert vectors.shape == (7, 4, 4)
    for row in range(7):
        for field in range(4):
            assert torch.equal(vectors[row, field], embedding.table[offset(field) + int(ids[row, field])])


def test_an_embedding_gets_the_gradient_of_the_rows_that_used_it_alone() -> None:
    embedding = FieldEmbedding((3, 5, 4), 2, None)
    embedding(torch.tensor([[1, 0, 3], [1, 4, 3]], dtype=torch.int32)).sum().backward()
    counts = torch.zeros(12)
    for place in (1, 3 + 0, 8 + 3, 1, 3 + 4, 8 + 3):
        counts[place] += 1
    assert embedding.table.grad is not None
    assert torch.equal(embedding.table.grad, counts[:, None].expand(12, 2))


# Every combination once, so that an exclusive or of two fields has no main effect, and one of three no pair.
EVERY_ROW = np.array(list(itertools.product(range(2), range(4), range(4))), dtype=np.int32)
PARITY = EVERY_ROW % 2
LOG_2 = math.log(2)


def fitted_loss(name: str, clicks: np.ndarray, embedding_std: float | None = None) -> float:
    """Train log loss after some steps on all rows at once; a product of three has no slope where all embeddings are tiny."""
    torch.manual_seed(1)
    params = params_of(name, embedding_width=4, hidden_widths=(16,), dropout=0.0)
    ranker = RANKERS[name]((2, 4, 4), params)
    if embedding_std is not None:
        for table in ranker.embedding_parameters():
            torch.nn.init.normal_(table, std=embedding_std)
    optimizer = torch.optim.Adam(ranker.parameters(), lr=0.1, fused=True)
    ids_bf, clicks_b = torch.from_numpy(EVERY_ROW), torch.from_numpy(clicks).float()
    for _ in range(100):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(ranker(ids_bf), clicks_b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def test_logistic_regression_learns_main_effects_and_nothing_else() -> None:
    assert fitted_loss("linear", PARITY[:, 0]) < 0.05
    assert fitted_loss("linear", PARITY[:, 0] ^ PARITY[:, 1]) == pytest.approx(LOG_2, abs=1e-3)


@pytest.mark.parametrize("name", sorted(set(RANKERS) - {"linear"}))
def test_every_other_ranker_learns_a_planted_pair(name: str) -> None:
    assert fitted_loss(name, PARITY[:, 0] ^ PARITY[:, 1]) < 0.1


@pytest.mark.parametrize("name", ["hofm", "crossnet", "dcnv2", "cin", "mlp"])
def test_who_goes_beyond_pairs_learns_a_planted_product_of_three(name: str) -> None:
    assert fitted_loss(name, PARITY[:, 0] ^ PARITY[:, 1] ^ PARITY[:, 2], 0.5) < 0.1


@pytest.mark.parametrize("name", ["fm", "ffm", "fwfm"])
def test_who_knows_pairs_alone_does_not(name: str) -> None:
    assert fitted_loss(name, PARITY[:, 0] ^ PARITY[:, 1] ^ PARITY[:, 2], 0.5) > LOG_2 - 0.05


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5])
def test_the_anova_kernel_is_the_sum_over_all_sets_of_fields(degree: int) -> None:
    x = torch.randn(2, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    by_sets = torch.stack([x[:, list(chosen)].prod(1) for chosen in itertools.combinations(range(6), degree)]).sum(0)
    assert torch.allclose(anova_kernel(x, degree), by_sets, rtol=1e-9)


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


# Every way of computing once; the others are made of the same parts (the leaderboard exports whatever it measures).
EXPORTED = (
    "fwfm",
    "ffm",
    "hofm",
    "afm",
    "pnn_inner",
    "pnn_outer",
    "dcnv2_mixture",
    "cin",
    "autoint",
    "afn",
    "fibinet_each",
    "finalmlp",
    "autorec",
)


class SideBySide(Ranker):
    """Rankers in one network, because an export takes seconds: ids (B, F) -> logits (B, rankers)."""

    def __init__(self, rankers: dict[str, Ranker]) -> None:
        super().__init__()
        self.rankers = torch.nn.ModuleDict(rankers)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        return torch.stack([ranker(ids_bf) for ranker in self.rankers.values()], dim=1)


@pytest.fixture(scope="module")
def exported() -> onnxruntime.InferenceSession:
    network = SideBySide({name: built(name) for name in EXPORTED}).eval()
    return onnxruntime.InferenceSession(export_ranker(network, len(FIELD_SIZES)), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", EXPORTED)
def test_the_export_is_the_ranker_for_any_number_of_rows(name: str, exported: onnxruntime.InferenceSession) -> None:
    for num_rows in (1, 2, 33):
        ids = some_ids(num_rows, 5)
        (logits,) = exported.run(None, {ONNX_IDS: ids})
        assert logits.shape == (num_rows, len(EXPORTED))
        expected = built(name).double()(torch.from_numpy(ids)).detach().numpy()
        np.testing.assert_allclose(logits[:, EXPORTED.index(name)], expected, rtol=1e-5, atol=1e-6)
