"""Rectify, normalise and add up what all operators yield on all edges that leave a node, as one step.

Batch norm (per field, over rows and embedding, without scale and shift) is never carried out: y is only read for its mean
and variance, and the weighted sum of normalised tensors becomes a weighted sum of y and a constant. The backward pass is
written by hand for the same reason. Letters: B rows in a batch, F fields, D embedding width, E edges, L = D * B.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

# Torch's own choices for batch norm, kept in the search and in the found network.
EPSILON = 1e-5
MOMENTUM = 0.1


class Mixture(nn.Module):
    """sum over operators of strength * batch_norm(relu(y)), for each edge; the running statistics live here."""

    def __init__(self, is_rectified: Sequence[bool], num_views: Sequence[int], num_fields: int) -> None:
        """`num_views` says for each operator how many different y it yields: one for each edge, or 1 for all of them."""
        super().__init__()
        self.is_rectified = tuple(is_rectified)
        for number, views in enumerate(num_views):
            self.register_buffer(f"running_mean_{number}", torch.zeros(views, num_fields))
            self.register_buffer(f"running_var_{number}", torch.ones(views, num_fields))

    def forward(self, viewed: Sequence[torch.Tensor], strength_eo: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """E times (F, D, B) from O tensors (E or 1, F, D, B), which are fresh (they are rectified in place).

        Normalises by the batch while training (and lets the running statistics follow), by those statistics else.
        """
        numbers = range(len(viewed))
        running = [(self.get_buffer(f"running_mean_{n}"), self.get_buffer(f"running_var_{n}")) for n in numbers]
        if self.training:
            parts: tuple[torch.Tensor, ...] = _Mix.apply(strength_eo, self.is_rectified, running, *viewed)  # type: ignore[no-untyped-call]
            return parts
        total: torch.Tensor | float = 0.0
        for y, rectified, (mean, var), strength_e in zip(
            viewed, self.is_rectified, running, strength_eo.unbind(1), strict=True
        ):
            normed = ((y.relu() if rectified else y) - mean[..., None, None]) * (var + EPSILON).rsqrt()[..., None, None]
            total = total + normed * strength_e[:, None, None, None]
        assert isinstance(total, torch.Tensor)
        return total.unbind(0)


class _Mix(torch.autograd.Function):
    """Forwards and backwards of Mixture while training."""

    @staticmethod
    def forward(
        ctx: Any,
        strength_eo: torch.Tensor,
        is_rectified: tuple[bool, ...],
        running: list[tuple[torch.Tensor, torch.Tensor]],
        *viewed: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        num_edges = len(strength_eo)
        shape = viewed[0].shape[1:]
        flat = [y.flatten(2) for y in viewed]
        scales, means, shift_ef = [], [], torch.zeros_like(running[0][0])
        for number, (y_vfl, rectified) in enumerate(zip(flat, is_rectified, strict=True)):
            if rectified:
                y_vfl.relu_()
            mean_vf, var_vf = _moments(y_vfl)
            _follow(running[number], mean_vf, var_vf, y_vfl.shape[2])
            scale_ef = (var_vf + EPSILON).rsqrt().expand(num_edges, -1)
            weight_ef = strength_eo[:, number, None] * scale_ef
            shift_ef = shift_ef - weight_ef * mean_vf
            scales.append(weight_ef)
            means.append(mean_vf)
        parts = []
        for edge in range(num_edges):
            part = shift_ef[edge].unsqueeze(1)
            for y_vfl, weight_ef in zip(flat, scales, strict=True):
                part = _fused(part, y_vfl[_view(y_vfl, edge)], weight_ef[edge].unsqueeze(1))
            parts.append(part.view(shape))
        ctx.save_for_backward(strength_eo, *scales, *means, *viewed)
        ctx.is_rectified = is_rectified
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Any, ...]:
        strength_eo, *saved = ctx.saved_tensors
        count = len(ctx.is_rectified)
        weights, means, viewed = saved[:count], saved[count : 2 * count], saved[2 * count :]
        grads_fl = [grad.flatten(1) for grad in grads]
        length = grads_fl[0].shape[1]
        sum_ef = torch.stack([grad_fl.sum(1) for grad_fl in grads_fl])
        strength_grads: list[torch.Tensor] = []
        viewed_grads: list[torch.Tensor | None] = []
        for number, (weight_ef, mean_vf, y) in enumerate(zip(weights, means, viewed, strict=True)):
            y_vfl = y.flatten(2)
            dot_ef = torch.stack([_dot(grad_fl, y_vfl[_view(y_vfl, edge)]) for edge, grad_fl in enumerate(grads_fl)])
            strength_e = strength_eo[:, number, None]
            scale_ef = weight_ef / strength_e
            normed_dot_ef = (dot_ef - mean_vf * sum_ef) * scale_ef
            strength_grads.append(normed_dot_ef.sum(1))
            if not ctx.needs_input_grad[3 + number]:
                viewed_grads.append(None)
                continue
            # d y = weight * (grad - mean(grad) - y_hat * mean(grad * y_hat)), y_hat = (y - mean) * scale
            of_y_ef = -weight_ef * scale_ef * normed_dot_ef / length
            constant_ef = -weight_ef * sum_ef / length - of_y_ef * mean_vf
            viewed_grads.append(_view_grad(y, grads_fl, weight_ef, of_y_ef, constant_ef, ctx.is_rectified[number]))
        strength_grad = torch.stack(strength_grads, 1) if ctx.needs_input_grad[0] else None
        return strength_grad, None, None, *viewed_grads


def _moments(y_vfl: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance over the last axis; two plain reductions beat torch's careful one twentyfold."""
    length = y_vfl.shape[2]
    mean_vf = y_vfl.sum(2) / length
    square_vf = torch.linalg.vector_norm(y_vfl, dim=2).square() / length
    return mean_vf, (square_vf - mean_vf.square()).clamp_min(0.0)


def _follow(running: tuple[torch.Tensor, torch.Tensor], mean: torch.Tensor, var: torch.Tensor, length: int) -> None:
    running[0].lerp_(mean, MOMENTUM)
    running[1].lerp_(var * (length / max(length - 1, 1)), MOMENTUM)


def _view(y_vfl: torch.Tensor, edge: int) -> int:
    return edge if len(y_vfl) > 1 else 0


def _fused(total: torch.Tensor, y_fl: torch.Tensor, weight_f1: torch.Tensor) -> torch.Tensor:
    """total + y * weight, in place where `total` is already of full size."""
    if total.shape == y_fl.shape:
        return total.addcmul_(y_fl, weight_f1)
    return torch.addcmul(total, y_fl, weight_f1)


def _dot(left_fl: torch.Tensor, right_fl: torch.Tensor) -> torch.Tensor:
    return torch.bmm(left_fl.unsqueeze(1), right_fl.unsqueeze(2)).flatten()


def _view_grad(
    y: torch.Tensor,
    grads_fl: list[torch.Tensor],
    weight_ef: torch.Tensor,
    of_y_ef: torch.Tensor,
    constant_ef: torch.Tensor,
    is_rectified: bool,
) -> torch.Tensor:
    """The gradient of one operator's y before ReLU, (V, F, D, B): weight * grad + of_y * y + constant where y > 0."""
    y_vfl = y.flatten(2)
    grad_vfl = torch.empty_like(y_vfl)
    for view in range(len(y_vfl)):
        edges = range(len(grads_fl)) if len(y_vfl) == 1 else range(view, view + 1)
        total = grad_vfl[view]
        torch.addcmul(
            constant_ef[edges].sum(0).unsqueeze(1), y_vfl[view], of_y_ef[edges].sum(0).unsqueeze(1), out=total
        )
        for edge in edges:
            total.addcmul_(grads_fl[edge], weight_ef[edge].unsqueeze(1))
        if is_rectified:
            torch.ops.aten.threshold_backward(total, y_vfl[view], 0, grad_input=total)
    return grad_vfl.view_as(y)
