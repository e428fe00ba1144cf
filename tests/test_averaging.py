"""The average of weights: held to a loop by hand, and to what averaging does to noise by law."""

from __future__ import annotations

import math

import pytest
import torch

from components.averaging import averaged
from components.rankers import RANKERS, Ranker, RankerParams


def ranker_of(width: int) -> Ranker:
    """A small perceptron with batch norm: weights, running statistics and counters."""
    torch.manual_seed(1)
    shape = RankerParams(embedding_width=width, hidden_widths=(3,), dropout=0.0, use_batch_norm=True)
    return RANKERS["mlp"]((4, 5), shape)


def disturb(ranker: Ranker, generator: torch.Generator) -> None:
    """Set every number of it anew, as a step might."""
    with torch.no_grad():
        for tensor in ranker.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            else:
                tensor.add_(1)


def test_the_average_is_what_a_loop_by_hand_gives_for_weights_and_running_statistics() -> None:
    ranker, generator = ranker_of(2), torch.Generator().manual_seed(2)
    follower = averaged(ranker, 0.6)
    by_hand: dict[str, list[float]] = {}
    for step in range(12):
        disturb(ranker, generator)
        follower.update_parameters(ranker)
        kept = min(0.6, (1 + step) / (10 + step))
        for name, tensor in ranker.state_dict().items():
            numbers = tensor.double().flatten().tolist()
            if step == 0 or not tensor.is_floating_point():
                by_hand[name] = numbers
            else:
                by_hand[name] = [kept * old + (1 - kept) * new for old, new in zip(by_hand[name], numbers, strict=True)]
    state = follower.module.state_dict()
    assert any("running_var" in name for name in state)
    assert any("num_batches" in name for name in state)
    for name, numbers in by_hand.items():
        assert state[name].flatten().tolist() == pytest.approx(numbers, rel=1e-5, abs=1e-6), name


def test_without_averaging_it_is_the_ranker_itself_bit_for_bit() -> None:
    ranker, generator = ranker_of(2), torch.Generator().manual_seed(3)
    follower = averaged(ranker, 0.0)
    for _ in range(4):
        disturb(ranker, generator)
        follower.update_parameters(ranker)
    for name, tensor in follower.module.state_dict().items():
        assert torch.equal(tensor, ranker.state_dict()[name]), name


def test_the_noise_of_independent_steps_shrinks_by_the_law_of_geometric_weights() -> None:
    ranker, generator = ranker_of(2000), torch.Generator().manual_seed(4)
    follower = averaged(ranker, 0.8)
    for _ in range(120):
        disturb(ranker, generator)
        follower.update_parameters(ranker)
    numbers = torch.cat([tensor.detach().flatten() for tensor in follower.module.parameters()])
    # The variance of sum (1 - d) d^k x_k is (1 - d) / (1 + d) of that of x, which is 1 here.
    expected = (1 - 0.8) / (1 + 0.8)
    spread = 6 * expected * math.sqrt(2 / len(numbers))
    assert len(numbers) > 18_000
    assert abs(float(numbers.var()) - expected) < spread
