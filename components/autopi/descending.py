"""One step of one half of the search's parameters, at no cost for the other half; used by the search and by its benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn


def descend(
    optimizer: torch.optim.Optimizer,
    moving: Sequence[nn.Parameter],
    resting: Sequence[nn.Parameter],
    loss_of: Callable[[], torch.Tensor],
) -> torch.Tensor:
    """One step of `optimizer`, which holds `moving`; no gradient is computed for `resting`. Gives the loss before the step."""
    for parameter in moving:
        parameter.requires_grad_(True)
        parameter.grad = None
    for parameter in resting:
        parameter.requires_grad_(False)
    loss = loss_of()
    torch.autograd.backward(loss)
    optimizer.step()
    return loss.detach()
