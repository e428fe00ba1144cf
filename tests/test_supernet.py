"""The fast supernet is the plain one: same logits, same gradients, and no gradient that is not asked for."""

from __future__ import annotations

import pytest
import torch

from components.autopi.operators import OPERATORS, PAPER_OPERATORS
from components.autopi.supernet import SkipNoise, Space, Supernet, edges_of
from tests.plain_supernet import PlainSupernet, pair_weights
from tests.search_world import WAYS, kernels_of

FIELD_SIZES = (5, 6, 7, 4)
SPACES = [
    Space(PAPER_OPERATORS, 3, 5, True),
    Space(tuple(OPERATORS), 2, 3, False),
    Space(("fm", "skip"), 2, 3, True),
    Space(("senet",), 1, 2, False),
    Space(("convolution_1d", "self_attention", "single_layer_perceptron"), 2, 4, False),
]


@pytest.fixture(autouse=True)
def _one_thread_in_double():
    torch.set_num_threads(1)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def twins(space: Space, way: str = "torch") -> tuple[Supernet, PlainSupernet, list]:
    generator = torch.Generator().manual_seed(1)
    supernet = Supernet(FIELD_SIZES, space, generator, kernels_of(way, len(FIELD_SIZES), space.width))
    for parameter in [*supernet.embedding_parameters(), *supernet.architecture_parameters()]:
        torch.nn.init.normal_(parameter, generator=generator)
    plain = PlainSupernet(FIELD_SIZES, space)
    pairs = pair_weights(supernet, plain)
    with torch.no_grad():
        for _, mine, theirs, pick in pairs:
            mine.copy_(pick(theirs))
    return supernet, plain, pairs


def rows(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.stack([torch.randint(0, size, (count,), generator=generator) for size in FIELD_SIZES], 1)


class PlannedNoise(SkipNoise):
    """Noise that remembers what it drew, so that the plain supernet can be given the same."""

    def __init__(self) -> None:
        super().__init__(0.03, torch.Generator().manual_seed(3))
        self.drawn: list[torch.Tensor] = []

    def draw(self, x_fdb: torch.Tensor) -> torch.Tensor:
        noise = super().draw(x_fdb)
        self.drawn.append(noise.permute(2, 0, 1))
        return noise


@pytest.mark.parametrize("space", SPACES, ids=lambda space: "+".join(space.operators))
@pytest.mark.parametrize("is_noisy", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_logits_and_every_gradient_equal_the_plain_supernets(space: Space, is_noisy: bool, way: str) -> None:
    supernet, plain, pairs = twins(space, way)
    ids = rows(33)
    noise = PlannedNoise() if is_noisy else None
    logits = supernet(ids, 1.3, noise)
    noises = None
    if noise is not None:
        of_interaction = space.num_nodes  # nodes with edges that leave them: the input and all inner nodes but the last
        noises = {"interaction": noise.drawn[:of_interaction], "ensemble": noise.drawn[of_interaction:]}
    expected = plain(ids, 1.3, noises)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    upstream = torch.randn(33, generator=torch.Generator().manual_seed(4))
    (logits * upstream).sum().backward()
    (expected * upstream).sum().backward()
    for name, mine, theirs, pick in pairs:
        wanted = mine.grad
        assert wanted is not None
        scale = float(wanted.abs().max()) + 1e-12
        difference = float((pick(theirs.grad) - wanted).abs().max())
        assert difference <= 1e-7 * scale + 1e-12, name


def test_both_have_as_many_parameters() -> None:
    supernet, plain, _ = twins(SPACES[0])
    assert sum(p.numel() for p in supernet.parameters()) == sum(p.numel() for p in plain.parameters())


@pytest.mark.parametrize("way", WAYS)
def test_in_use_both_normalise_by_the_same_running_statistics(way: str) -> None:
    supernet, plain, _ = twins(SPACES[0], way)
    for count in (33, 20, 40):
        supernet(rows(count), 1.0, None)
        plain(rows(count), 1.0, None)
    supernet.eval()
    plain.eval()
    torch.testing.assert_close(supernet(rows(7), 1.0, None), plain(rows(7), 1.0, None))
    torch.testing.assert_close(supernet(rows(7)[:1], 1.0, None), supernet(rows(7), 1.0, None)[:1])
    with torch.no_grad():  # what kernels then do is what torch does where gradients may be asked for
        torch.testing.assert_close(supernet(rows(7), 1.0, None), plain(rows(7), 1.0, None))
        torch.testing.assert_close(supernet(rows(7)[:1], 1.0, None), supernet(rows(7), 1.0, None)[:1])


def test_every_strength_is_softmax_of_alpha_times_softmax_of_beta_over_a_nodes_edges() -> None:
    supernet, _, _ = twins(SPACES[0])
    for cell in ("interaction", "ensemble"):
        strength_eo = supernet.strength(cell, 1.7)
        alpha, beta = supernet.get_parameter(f"alpha_{cell}"), supernet.get_parameter(f"beta_{cell}")
        edges = edges_of(cell, 3)
        for number, (target, _) in enumerate(edges):
            siblings = [other for other, (end, _) in enumerate(edges) if end == target]
            share = (beta[number] / 1.7).exp() / (beta[siblings] / 1.7).exp().sum()
            for operator in range(len(PAPER_OPERATORS)):
                of_alpha = (alpha[number, operator] / 1.7).exp() / (alpha[number] / 1.7).exp().sum()
                torch.testing.assert_close(strength_eo[number, operator], share * of_alpha)


def test_a_high_temperature_makes_all_strengths_alike_and_a_low_one_decides() -> None:
    supernet, _, _ = twins(SPACES[0])
    torch.testing.assert_close(supernet.strength("interaction", 1e9)[0], torch.full((6,), 1 / 6), atol=1e-6, rtol=0)
    assert float(supernet.strength("interaction", 1e-3)[0].detach().max()) > 0.99


@pytest.mark.parametrize("way", WAYS)
def test_no_gradient_is_computed_for_what_rests(way: str) -> None:
    supernet, _, _ = twins(SPACES[0], way)
    architecture = supernet.architecture_parameters()
    weights = [*supernet.weight_parameters(), *supernet.embedding_parameters()]
    everything = list(supernet.parameters())
    assert len(architecture) + len(weights) == len(everything)
    for moving, resting in ((architecture, weights), (weights, architecture)):
        for parameter in everything:
            parameter.grad = None
            parameter.requires_grad_(any(parameter is other for other in moving))
        supernet(rows(9), 1.0, None).sum().backward()
        assert all(parameter.grad is not None for parameter in moving)
        assert all(parameter.grad is None for parameter in resting)


def test_noise_on_skip_has_the_promised_share_of_the_nodes_spread() -> None:
    noise = SkipNoise(0.03, torch.Generator().manual_seed(1))
    x_fdb = 5 * torch.randn(10, 10, 2000)
    assert float(noise.draw(x_fdb).std() / x_fdb.std()) == pytest.approx(0.03, rel=0.02)
