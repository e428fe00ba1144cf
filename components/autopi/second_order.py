"""The gradient of alpha and beta one step of the weights ahead (DARTS, Liu et al. 2019, equations 6 to 8).

With w' = w - rate * d(w), where d is what the weights' own optimizer would take off, the gradient by a = (alpha, beta) of
the other half's loss L2(w', a) is grad_a L2(w', a) - rate * grad_a (grad_w L1(w, a) . v) with v = grad_w' L2(w', a); the
product is a difference of two gradients at w + r v and w - r v.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from components.autopi.supernet import Supernet

# r = DIFFERENCE / |v|, as the paper has it.
DIFFERENCE = 0.01


Loss = Callable[[], torch.Tensor]


def step_ahead(
    supernet: Supernet,
    noise_generator: torch.Generator,
    losses: tuple[Loss, Loss],
    optimizers: tuple[torch.optim.SGD, torch.optim.Optimizer],
) -> torch.Tensor:
    """One step of alpha and beta; gives the loss one step of the weights ahead.

    `losses` and `optimizers` are those of weights and of alpha. The noise is the same at each call for the weights' loss, and
    the running statistics only follow weights that are really taken.
    """
    architecture = supernet.architecture_parameters()
    statistics = [buffer.clone() for buffer in supernet.buffers()]
    drawn_before = noise_generator.get_state()

    def loss_of_weights() -> torch.Tensor:
        noise_generator.set_state(drawn_before)
        return losses[0]()

    gradients, loss = gradients_ahead(loss_of_weights, losses[1], optimizers[0], architecture)
    for buffer, before in zip(supernet.buffers(), statistics, strict=True):
        buffer.copy_(before)
    for parameter, gradient in zip(architecture, gradients, strict=True):
        parameter.grad = gradient
    optimizers[1].step()
    return loss


def gradients_ahead(
    loss_of_weights: Loss,
    loss_of_alpha: Loss,
    weight_optimizer: torch.optim.SGD,
    architecture: Sequence[nn.Parameter],
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The gradient for each of `architecture`, and the loss L2 at w'; weights are afterwards as they were.

    `loss_of_weights` is L1 and `loss_of_alpha` L2, at the parameters as they stand when called; L1 must be the same
    function at each call (the same noise).
    """
    groups = [(group, parameter) for group in weight_optimizer.param_groups for parameter in group["params"]]
    weights = [parameter for _, parameter in groups]
    for parameter in (*weights, *architecture):
        parameter.requires_grad_(True)
    before = [weight.detach().clone() for weight in weights]
    gradients = torch.autograd.grad(loss_of_weights(), weights)
    with torch.no_grad():
        for (group, weight), gradient in zip(groups, gradients, strict=True):
            step = gradient + group["weight_decay"] * weight
            buffer = weight_optimizer.state[weight].get("momentum_buffer")
            if buffer is not None:
                step = step + group["momentum"] * buffer
            weight.sub_(group["lr"] * step)
    loss = loss_of_alpha()
    ahead = torch.autograd.grad(loss, [*architecture, *weights])
    direct, directions = ahead[: len(architecture)], ahead[len(architecture) :]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(one) for one in directions]))
    reach = DIFFERENCE / norm.clamp_min(torch.finfo(norm.dtype).tiny)
    sides = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            for weight, start, direction in zip(weights, before, directions, strict=True):
                torch.add(start, direction * (sign * reach), out=weight)
        sides.append(torch.autograd.grad(loss_of_weights(), architecture))
    with torch.no_grad():
        for weight, start in zip(weights, before, strict=True):
            weight.copy_(start)
    rate = weight_optimizer.param_groups[0]["lr"]
    found = [
        straight - rate * (above - below) / (2 * reach) for straight, above, below in zip(direct, *sides, strict=True)
    ]
    return found, loss.detach()
