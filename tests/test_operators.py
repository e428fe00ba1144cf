"""Each operator does what its formula says, number by number, and its gradient is that of finite differences."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from components.autopi.kernels import Kernels
from components.autopi.mixing import Mixture
from components.autopi.normalising import EPSILON
from components.autopi.operators import OPERATORS, Operator
from tests.search_world import WAYS, kernels_of

FIELDS, WIDTH, EDGES, ROWS = 4, 3, 2, 5

WITH_WEIGHTS = sorted(set(OPERATORS) - {"skip", "fm"})


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def make(name: str, num_edges: int = EDGES) -> Operator:
    return OPERATORS[name](FIELDS, WIDTH, num_edges, torch.Generator().manual_seed(1)).double()


def node(rows: int = ROWS) -> torch.Tensor:
    return torch.randn(FIELDS, WIDTH, rows, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def skip_by_hand(operator: Operator, edge: int, x: list[list[float]]) -> list[list[float]]:
    return [[x[f][d] for d in range(WIDTH)] for f in range(FIELDS)]


def senet_by_hand(operator: Operator, edge: int, x: list[list[float]]) -> list[list[float]]:
    squeeze, excite = operator.squeeze_ehf[edge].tolist(), operator.excite_efh[edge].tolist()
    means = [sum(x[f]) / WIDTH for f in range(FIELDS)]
    hidden = [max(0.0, sum(row[f] * means[f] for f in range(FIELDS))) for row in squeeze]
    gates = [max(0.0, sum(weight * h for weight, h in zip(row, hidden, strict=True))) for row in excite]
    return [[x[f][d] * gates[f] for d in range(WIDTH)] for f in range(FIELDS)]


def self_attention_by_hand(operator: Operator, edge: int, x: list[list[float]]) -> list[list[float]]:
    def project(weight: list[list[float]], vector: list[float]) -> list[float]:
        return [sum(row[d] * vector[d] for d in range(WIDTH)) for row in weight]

    queries = [project(operator.query_edd[edge].tolist(), x[f]) for f in range(FIELDS)]
    keys = [project(operator.key_edd[edge].tolist(), x[f]) for f in range(FIELDS)]
    values = [project(operator.value_edd[edge].tolist(), x[f]) for f in range(FIELDS)]
    result = []
    for f in range(FIELDS):
        scores = [sum(queries[f][d] * keys[g][d] for d in range(WIDTH)) / math.sqrt(WIDTH) for g in range(FIELDS)]
        total = sum(math.exp(score) for score in scores)
        shares = [math.exp(score) / total for score in scores]
        result.append([sum(shares[g] * values[g][d] for g in range(FIELDS)) for d in range(WIDTH)])
    return result


def fm_by_hand(operator: Operator, edge: int, x: list[list[float]]) -> list[list[float]]:
    return [[sum(x[f][d] * x[g][d] for g in range(FIELDS) if g != f) for d in range(WIDTH)] for f in range(FIELDS)]


def single_layer_perceptron_by_hand(operator: Operator, edge: int, x: list[list[float]]) -> list[list[float]]:
    weight, bias = operator.weight[edge].tolist(), operator.bias[edge].tolist()
    flat = [number for vector in x for number in vector]
    out = [
        sum(w * number for w, number in zip(row, flat, strict=True)) + b for row, b in zip(weight, bias, strict=True)
    ]
    return [out[f * WIDTH : (f + 1) * WIDTH] for f in range(FIELDS)]


def convolution_1d_by_hand(operator: Operator, edge: int, x: list[list[float]]) -> list[list[float]]:
    weight, bias = operator.weight_eff[edge].tolist(), operator.bias_ef[edge].tolist()
    return [[sum(weight[f][g] * x[g][d] for g in range(FIELDS)) + bias[f] for d in range(WIDTH)] for f in range(FIELDS)]


def hadamard_product_by_hand(operator: Operator, edge: int, x: list[list[float]]) -> list[list[float]]:
    weight = operator.weight_eff[edge].tolist()
    return [[x[f][d] * sum(weight[f][g] * x[g][d] for g in range(FIELDS)) for d in range(WIDTH)] for f in range(FIELDS)]


def outer_product_by_hand(operator: Operator, edge: int, x: list[list[float]]) -> list[list[float]]:
    sums = [sum(x[f][d] for f in range(FIELDS)) for d in range(WIDTH)]
    pairs = [sums[i] * sums[j] for i in range(WIDTH) for j in range(WIDTH)]
    out = [sum(w * pair for w, pair in zip(row, pairs, strict=True)) for row in operator.weight[edge].tolist()]
    return [out[f * WIDTH : (f + 1) * WIDTH] for f in range(FIELDS)]


def cross_layer_by_hand(operator: Operator, edge: int, x: list[list[float]]) -> list[list[float]]:
    mixed = single_layer_perceptron_by_hand(operator, edge, x)
    return [[x[f][d] * mixed[f][d] + x[f][d] for d in range(WIDTH)] for f in range(FIELDS)]


def gate_by_hand(operator: Operator, edge: int, x: list[list[float]]) -> list[list[float]]:
    mixed = single_layer_perceptron_by_hand(operator, edge, x)
    return [[x[f][d] / (1 + math.exp(-mixed[f][d])) for d in range(WIDTH)] for f in range(FIELDS)]


def two_layer_perceptron_by_hand(operator: Operator, edge: int, x: list[list[float]]) -> list[list[float]]:
    numbers = [number for vector in x for number in vector]
    for weight, bias, is_hidden in (
        (operator.widen_ehn, operator.widen_bias_eh, True),
        (operator.narrow_enh, operator.narrow_bias_en, False),
    ):
        sums = [
            sum(w * number for w, number in zip(row, numbers, strict=True)) + b
            for row, b in zip(weight[edge].tolist(), bias[edge].tolist(), strict=True)
        ]
        numbers = [max(0.0, number) for number in sums] if is_hidden else sums
    return [numbers[f * WIDTH : (f + 1) * WIDTH] for f in range(FIELDS)]


def logarithmic_layer_by_hand(operator: Operator, edge: int, x: list[list[float]]) -> list[list[float]]:
    weight, bias = operator.weight_eff[edge].tolist(), operator.bias_ef[edge].tolist()
    return [
        [math.exp(bias[f]) * math.prod(abs(x[g][d]) ** weight[f][g] for g in range(FIELDS)) for d in range(WIDTH)]
        for f in range(FIELDS)
    ]


def convolution_2d_by_hand(operator: Operator, edge: int, x: list[list[float]]) -> list[list[float]]:
    kernel, bias = operator.kernel_ek[edge].view(3, 3).tolist(), operator.bias_e[edge].item()
    result = [[bias] * WIDTH for _ in range(FIELDS)]
    for f in range(FIELDS):
        for d in range(WIDTH):
            for i, j in itertools.product((-1, 0, 1), repeat=2):
                if 0 <= f + i < FIELDS and 0 <= d + j < WIDTH:
                    result[f][d] += kernel[i + 1][j + 1] * x[f + i][d + j]
    return result


BY_HAND = {
    "skip": skip_by_hand,
    "senet": senet_by_hand,
    "self_attention": self_attention_by_hand,
    "fm": fm_by_hand,
    "single_layer_perceptron": single_layer_perceptron_by_hand,
    "convolution_1d": convolution_1d_by_hand,
    "hadamard_product": hadamard_product_by_hand,
    "outer_product": outer_product_by_hand,
    "cross_layer": cross_layer_by_hand,
    "gate": gate_by_hand,
    "two_layer_perceptron": two_layer_perceptron_by_hand,
    "logarithmic_layer": logarithmic_layer_by_hand,
    "convolution_2d": convolution_2d_by_hand,
}


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_is_its_formula(name: str) -> None:
    operator, x_fdb = make(name), node()
    y_efdb = operator(x_fdb)
    assert y_efdb.shape == (EDGES if name in WITH_WEIGHTS else 1, FIELDS, WIDTH, ROWS)
    assert len(y_efdb) == operator.num_views
    for edge in range(len(y_efdb)):
        for row in range(ROWS):
            expected = torch.tensor(BY_HAND[name](operator, edge, x_fdb[:, :, row].tolist()), dtype=torch.float64)
            torch.testing.assert_close(y_efdb[edge, :, :, row].detach(), expected)


def test_fm_adds_up_to_the_second_order_term_of_a_factorization_machine() -> None:
    x_fdb = node()
    pairs = sum((x_fdb[f] * x_fdb[g]).sum(0) for f in range(FIELDS) for g in range(f))
    torch.testing.assert_close(make("fm")(x_fdb).sum((0, 1, 2)) / 2, pairs)


def test_a_hadamard_product_with_ones_beside_the_diagonal_is_fm() -> None:
    operator, x_fdb = make("hadamard_product"), node()
    with torch.no_grad():
        operator.weight_eff.copy_(1 - torch.eye(FIELDS))
    torch.testing.assert_close(operator(x_fdb)[:1], make("fm")(x_fdb))


def test_a_wide_open_gate_is_a_skip_and_a_cross_without_weights_too() -> None:
    gate, cross, x_fdb = make("gate"), make("cross_layer"), node()
    with torch.no_grad():
        for parameter in (gate.weight, cross.weight, cross.bias):
            parameter.zero_()
        gate.bias.fill_(50.0)
    for operator in (gate, cross):
        torch.testing.assert_close(operator(x_fdb)[1:], make("skip")(x_fdb))
        assert not operator.is_rectified


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_treats_one_row_alone_as_among_others(name: str) -> None:
    operator, x_fdb = make(name), node()
    for row in range(ROWS):
        alone = operator(x_fdb[:, :, row : row + 1].contiguous())
        torch.testing.assert_close(alone, operator(x_fdb)[..., row : row + 1])


@pytest.mark.parametrize("name", OPERATORS)
def test_every_gradient_is_that_of_finite_differences(name: str) -> None:
    operator, x_fdb = make(name), node(3).requires_grad_()
    names, weights = zip(*operator.named_parameters(), strict=True) if name in WITH_WEIGHTS else ((), ())

    def run(x_fdb: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(operator, dict(zip(names, weights, strict=True)), (x_fdb,))

    # Along drawn directions: one for each number of a wide operator would take seconds and show no more.
    assert torch.autograd.gradcheck(run, (x_fdb, *weights), fast_mode=True)


def test_the_kinks_of_senet_do_not_hide_its_gradient() -> None:
    operator, x_fdb = make("senet"), node()
    assert bool((operator.gates(x_fdb) > 0).any())


def test_a_logarithmic_layer_stays_finite_at_zero_and_where_powers_are_huge() -> None:
    operator = make("logarithmic_layer")
    with torch.no_grad():
        operator.weight_eff.fill_(40.0)
    for x_fdb in (torch.zeros_like(node()), node() * 1e4):
        y_efdb = operator(x_fdb.requires_grad_())
        y_efdb.sum().backward()
        assert bool(torch.isfinite(y_efdb).all())
        assert bool(torch.isfinite(x_fdb.grad).all())


def test_attention_stays_finite_where_scores_are_huge() -> None:
    operator, x_fdb = make("self_attention"), (node() * 1e4).requires_grad_()
    y_efdb = operator(x_fdb)
    y_efdb.sum().backward()
    assert bool(torch.isfinite(y_efdb).all())
    assert bool(torch.isfinite(x_fdb.grad).all())


@pytest.mark.parametrize(
    ("name", "flops"),
    [
        ("skip", 0),
        # 4 means of 3 numbers (12), 1 x 4 and 4 x 1 products (8 + 8), 12 scalings
        ("senet", 12 + 8 + 8 + 12),
        # 3 projections of 4 vectors by 3 x 3 (216), 16 scores and 4 sums of 4 vectors (96 + 96), softmax (48)
        ("self_attention", 216 + 96 + 96 + 48),
        # sums, differences, products of 12 numbers
        ("fm", 36),
        ("single_layer_perceptron", 2 * 12 * 12 + 12),
        # 4 x 4 weights for each of 3 dimensions, biases
        ("convolution_1d", 2 * 16 * 3 + 12),
        # 4 x 4 weights for each of 3 dimensions, 12 products
        ("hadamard_product", 2 * 16 * 3 + 12),
        # the sum of 4 vectors, 9 products, 12 x 9 weights
        ("outer_product", 12 + 9 + 2 * 12 * 9),
        # as the perceptron, then a product and a sum of 12 numbers
        ("cross_layer", 2 * 12 * 12 + 12 + 12 + 12),
        # as the perceptron, then exp, sum, division and a product of 12 numbers
        ("gate", 2 * 12 * 12 + 12 + 4 * 12),
        # 12 to 48 and back, with biases
        ("two_layer_perceptron", 2 * 12 * 48 + 48 + 2 * 48 * 12 + 12),
        # 12 logarithms and exponentials, 4 x 4 weights for each of 3 dimensions, biases
        ("logarithmic_layer", 24 + 2 * 16 * 3 + 12),
        # 9 products and sums and a bias for each of 12 numbers
        ("convolution_2d", 12 * 9 * 2 + 12),
    ],
)
def test_flops_are_those_counted_by_hand(name: str, flops: int) -> None:
    assert make(name).count_flops() == flops


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("skip", 0),
        ("fm", 0),
        ("hadamard_product", 16),
        ("outer_product", 12 * 9),
        ("cross_layer", 12 * 12 + 12),
        ("gate", 12 * 12 + 12),
        ("two_layer_perceptron", 12 * 48 + 48 + 48 * 12 + 12),
        ("logarithmic_layer", 16 + 4),
        ("convolution_2d", 9 + 1),
    ],
)
def test_parameters_are_those_counted_by_hand(name: str, parameters: int) -> None:
    assert sum(parameter.numel() for parameter in make(name, 1).parameters()) == parameters


def test_initial_weights_depend_on_the_seed_alone() -> None:
    first, second = make("self_attention"), make("self_attention")
    assert torch.equal(first.query_edd, second.query_edd)
    assert not torch.equal(first.query_edd[0], first.query_edd[1])


def mixed_by_hand(
    viewed: list[torch.Tensor], rectified: list[bool], strength_eo: torch.Tensor, edge: int
) -> torch.Tensor:
    total = torch.zeros_like(viewed[0][0])
    for number, y in enumerate(viewed):
        own = y[edge if len(y) > 1 else 0]
        own = own.clamp_min(0) if rectified[number] else own
        for field in range(FIELDS):
            numbers = own[field]
            mean = sum(numbers.flatten()) / numbers.numel()
            var = sum((numbers.flatten() - mean) ** 2) / numbers.numel()
            total[field] = total[field] + strength_eo[edge, number] * (numbers - mean) / (var + EPSILON).sqrt()
    return total


@pytest.fixture(params=WAYS)
def kernels(request: pytest.FixtureRequest) -> Kernels | None:
    return kernels_of(request.param, FIELDS, WIDTH)


def mixture_case(kernels: Kernels | None) -> tuple[Mixture, list[torch.Tensor], list[bool], torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = [(1, FIELDS, WIDTH, ROWS), (EDGES, FIELDS, WIDTH, ROWS), (1, FIELDS, WIDTH, ROWS)]
    viewed = [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]
    strength_eo = torch.rand(EDGES, 3, dtype=torch.float64, generator=generator)
    rectified = [False, True, True]
    return Mixture(rectified, [1, EDGES, 1], FIELDS, kernels).double(), viewed, rectified, strength_eo


def test_a_mixture_is_the_weighted_sum_of_what_batch_norm_makes_of_each_operator(kernels: Kernels | None) -> None:
    mixture, viewed, rectified, strength_eo = mixture_case(kernels)
    parts = mixture([y.clone() for y in viewed], strength_eo)
    for edge in range(EDGES):
        torch.testing.assert_close(parts[edge], mixed_by_hand(viewed, rectified, strength_eo, edge))


def test_the_gradient_of_a_mixture_is_that_of_finite_differences(kernels: Kernels | None) -> None:
    mixture, viewed, _, strength_eo = mixture_case(kernels)

    def run(strength_eo: torch.Tensor, *viewed: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return mixture([y.clone() for y in viewed], strength_eo)

    inputs = tuple(tensor.requires_grad_() for tensor in (strength_eo, *viewed))
    assert torch.autograd.gradcheck(run, inputs)


def test_a_mixture_in_use_normalises_by_what_it_has_seen(kernels: Kernels | None) -> None:
    mixture, viewed, _, strength_eo = mixture_case(kernels)
    for _ in range(300):
        mixture([y.clone() for y in viewed], strength_eo)
    learned = mixture([y.clone() for y in viewed], strength_eo)
    mixture.eval()
    used = mixture([y.clone() for y in viewed], strength_eo)
    numbers = WIDTH * ROWS
    # The running variance is the unbiased one, as in torch's batch norm.
    torch.testing.assert_close(used[0], learned[0] * math.sqrt((numbers - 1) / numbers), atol=1e-3, rtol=1e-3)
    alone = mixture([y[..., :1].clone() for y in viewed], strength_eo)
    torch.testing.assert_close(alone[1], used[1][..., :1])
