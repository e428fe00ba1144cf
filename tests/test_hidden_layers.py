"""What learning does in one piece on a CPU, against torch's own modules one after another."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from components.averaging import averaged
from components.compiling import learn_by_kernels
from components.rankers import RANKERS, FieldEmbedding, Ranker
from components.rankers.hidden import CompiledPasses, HiddenLayers, Passes, TorchPasses, hidden_layers
from components.rankers.ranker import RankerParams
from components.stepping import adam, keep_freed_memory, take_step, threads
from components.training import TrainParams
from components.training.losses import loss_of
from pipeline.params import read_settings
from tests.rankers_by_hand import SIZES, params_of
from tests.search_world import WAYS, needs_compiler

ROWS = 2200  # more than two blocks, or pieces of kernels, the last one partial


class OneAfterAnother(nn.Sequential):
    """The same modules, each left to torch."""


def plain_copy(ranker: nn.Module) -> nn.Module:
    """A copy whose hidden layers run one after another."""
    plain = copy.deepcopy(ranker)
    for module in plain.modules():
        if isinstance(module, HiddenLayers):
            module.__class__ = OneAfterAnother
    return plain


def layers_of(share: float, use_batch_norm: bool = True, way: str = "torch") -> HiddenLayers:
    torch.manual_seed(1)
    params = RankerParams(embedding_width=2, hidden_widths=(), dropout=share, use_batch_norm=use_batch_norm)
    layers = hidden_layers(7, (6, 5), params).double()
    for parameter in layers.parameters():
        nn.init.uniform_(parameter, -1, 1)
    if way == "compiled":
        learn_by_kernels(layers)
    return layers.train()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize(("share", "use_batch_norm"), [(0.0, True), (0.3, True), (0.3, False)])
def test_hidden_layers_learn_what_their_modules_one_after_another_do(
    share: float, use_batch_norm: bool, num_threads: int, way: str
) -> None:
    fast = layers_of(share, use_batch_norm, way)
    plain = plain_copy(fast)
    x = torch.randn(ROWS, 7, dtype=torch.float64) + 3
    towards = torch.randn(ROWS, 5, dtype=torch.float64)
    results = []
    for layers in (fast, plain):
        torch.manual_seed(2)
        own = x.clone().requires_grad_()
        with threads(num_threads):
            y = layers(own)
            torch.autograd.backward((y * towards).sum())
        assert own.grad is not None
        results.append(
            [y.detach(), own.grad, *(parameter.grad for parameter in layers.parameters()), *layers.buffers()]
        )
    assert 0.2 < float((results[0][0] == 0).double().mean()) < 0.9
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)
    assert torch.allclose(fast.eval()(x), plain.eval()(x), rtol=1e-9)


@pytest.mark.parametrize("way", WAYS)
def test_slopes_are_those_of_finite_differences(way: str) -> None:
    layers = layers_of(0.0, way=way)
    x = torch.randn(9, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layers, (x,))


def drawn_layer(rows: int, width: int, far: float) -> tuple[torch.Tensor, torch.Tensor, nn.BatchNorm1d]:
    """z, of which `far` is the mean and 1 the deviation, a slope, and a batch norm, all in float32."""
    generator = torch.Generator().manual_seed(6)
    norm = nn.BatchNorm1d(width)
    nn.init.uniform_(norm.weight, 0.5, 2, generator)
    nn.init.uniform_(norm.bias, -1, 1, generator)
    return torch.randn(rows, width, generator=generator) + far, torch.randn(rows, width, generator=generator), norm


def passed(passes: Passes, z: torch.Tensor, slope: torch.Tensor, norm: nn.BatchNorm1d) -> list[torch.Tensor]:
    """All that a layer asks of its passes, and the running figures."""
    norm = copy.deepcopy(norm).to(z.dtype)
    with torch.no_grad():
        kept = torch.arange(z.numel()).reshape(z.shape) % 7 > 0
        y, normed = passes.activate(z, norm, kept, 1.25)
        found = [y, normed.passed_bh > 0, *normed[2:], *passes.slopes(slope, normed)]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return [*found, norm.running_mean, norm.running_var]


@needs_compiler
@pytest.mark.parametrize("rows", [2, 63, 1024, 3001])
def test_kernels_give_the_same_bits_whatever_the_number_of_threads(rows: int) -> None:
    case = drawn_layer(rows, 37, 2.0)
    by_count = []
    for num_threads in (1, 2, 3):
        with threads(num_threads):
            by_count.append(passed(CompiledPasses(), *case))
    for others in by_count[1:]:
        assert all(torch.equal(one, other) for one, other in zip(by_count[0], others, strict=True))


@needs_compiler
@pytest.mark.parametrize("far", [0.0, 10.0, 3000.0])
def test_in_float32_kernels_are_as_near_to_float64_as_torch(far: float) -> None:
    z, slope, norm = drawn_layer(4096, 16, far)
    exact = passed(TorchPasses(), z.double(), slope.double(), norm)
    for own, torchs, right in zip(
        *(passed(way, z, slope, norm) for way in (CompiledPasses(), TorchPasses())), exact, strict=True
    ):
        errors = [float((found.double() - right.double()).abs().max()) for found in (own, torchs)]
        assert errors[0] <= 2 * errors[1] + 1e-6 * float(right.double().abs().max())


@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_number_stays_none(way: str) -> None:
    layers = layers_of(0.3, way=way)
    x = torch.randn(ROWS, 7, dtype=torch.float64)
    x[1234, 2] = math.nan
    assert bool(layers(x).isnan().any(0).all()), "no column that hides it"


def test_batch_norm_learns_nothing_from_one_row() -> None:
    with pytest.raises(ValueError, match="one row"):
        layers_of(0.0)(torch.randn(1, 7, dtype=torch.float64))


@pytest.mark.parametrize("width", [1, 4])
def test_slopes_of_embeddings_are_torchs_bit_for_bit(width: int) -> None:
    torch.manual_seed(1)
    embedding = FieldEmbedding(SIZES, width, None)
    ids = torch.stack([torch.randint(0, size, (ROWS,), dtype=torch.int32) for size in SIZES], dim=1)
    towards = torch.randn(ROWS, len(SIZES), width)
    (own,) = torch.autograd.grad((embedding(ids) * towards).sum(), embedding.table)
    looked_up = nn.functional.embedding(ids + embedding.offsets_f, embedding.table)
    (torchs,) = torch.autograd.grad((looked_up * towards).sum(), embedding.table)
    assert torch.equal(own, torchs)


def steps_of(ranker: nn.Module, params: TrainParams) -> list[torch.Tensor]:
    """The losses of twenty steps, each on rows of its own, and then the average's numbers."""
    assert isinstance(ranker, Ranker)
    generator = torch.Generator().manual_seed(4)
    optimizer = adam(ranker, params.own_learning_rate, params.own_embedding_l2, params.terms)
    average = averaged(ranker, params.weight_averaging)
    torch.manual_seed(5)
    losses = []
    for _ in range(20):
        ids = torch.stack([torch.randint(0, size, (300,), generator=generator) for size in SIZES], dim=1)
        clicks = ((ids[:, 0] + ids[:, 1]) % 2).to(next(ranker.parameters()).dtype)
        losses.append(take_step(ranker, optimizer, average, ids, clicks, loss_of(params)))
    return [torch.stack(losses), *(tensor for tensor in average.module.state_dict().values())]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["mlp", "deepfm", "dcnv2", "finalmlp"])
def test_twenty_steps_of_training_end_where_plain_ones_do(name: str, way: str) -> None:
    keep_freed_memory()
    preset = read_settings(Path(__file__).parents[1]).section("train", TrainParams)
    params = dataclasses.replace(preset, ranker=name, embedding_l2={name: 0.1}, learning_rate={name: 0.01})
    torch.manual_seed(3)
    fast = RANKERS[name](SIZES, params_of(name, dropout=0.2)).train()
    plain = plain_copy(fast)
    if way == "compiled":
        learn_by_kernels(fast)
    for one, other in zip(steps_of(copy.deepcopy(fast), params), steps_of(copy.deepcopy(plain), params), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5)
    exact = zip(steps_of(fast.double(), params), steps_of(plain.double(), params), strict=True)
    for place, (one, other) in enumerate(exact):
        assert torch.allclose(one, other, rtol=1e-8, atol=1e-10)
        if place == 0:
            assert float(one[-1]) < 0.9 * float(one[0])
