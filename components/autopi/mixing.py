"""Rectify, normalise and add up what all operators yield on all edges that leave a node, as one step.

Batch norm (per field, over rows and embedding, without scale and shift) is never carried out: y is only read for its mean
and variance, and the weighted sum of normalised tensors becomes a weighted sum of y and a constant. The backward pass is written by hand for the same reasons.
Letters: B rows in a batch, F fields, D embedding width, O operators, E edges, V views (E, or 1 for all edges).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from components.autopi.results import Gated, results_of

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

    def forward(self, viewed: Sequence[torch.Tensor | Gated], strength_eo: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """E times (F, D, B) from O results, each (V, F, D, B) or Gated; the former must be fresh: relu works in place.

        Normalises by the batch while training (and lets the running statistics follow), by those statistics else.
        """
        numbers = range(len(viewed))
        running = [(self.get_buffer(f"running_mean_{n}"), self.get_buffer(f"running_var_{n}")) for n in numbers]
        if self.training:
            flat: list[torch.Tensor] = []
            for result, rectified in zip(viewed, self.is_rectified, strict=True):
                # Gates are not negative, so what they scale can be rectified before.
                flat += [result.base_fdb.relu(), result.gates_efb] if isinstance(result, Gated) else [result]
                assert rectified or not isinstance(result, Gated)
            gated = tuple(isinstance(result, Gated) for result in viewed)
            parts: tuple[torch.Tensor, ...] = _Mix.apply(strength_eo, self.is_rectified, gated, running, *flat)  # type: ignore[no-untyped-call]
            return parts
        total: torch.Tensor | float = 0.0
        for number, result in enumerate(viewed):
            y = result.base_fdb * result.gates_efb.unsqueeze(2) if isinstance(result, Gated) else result
            mean, var = running[number]
            normed = ((y.relu() if self.is_rectified[number] else y) - mean[..., None, None]) * (
                (var + EPSILON).rsqrt()[..., None, None]
            )
            total = total + normed * strength_eo[:, number, None, None, None]
        assert isinstance(total, torch.Tensor)
        return total.unbind(0)


class _Mix(torch.autograd.Function):
    """Forwards and backwards of Mixture while training; tensors come as each result's factors, one after another."""

    @staticmethod
    def forward(
        ctx: Any,
        strength_eo: torch.Tensor,
        is_rectified: tuple[bool, ...],
        gated: tuple[bool, ...],
        running: list[tuple[torch.Tensor, torch.Tensor]],
        *factors: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        results = results_of(factors, is_rectified, gated)
        num_edges = len(strength_eo)
        scales, means = [], []
        shift_ef = torch.zeros_like(running[0][0])
        for number, result in enumerate(results):
            mean_vf, square_vf = result.rectify_and_measure()
            var_vf = (square_vf - mean_vf.square()).clamp_min(0.0)
            _follow(running[number], mean_vf, var_vf, result.length)
            scale_ef = (var_vf + EPSILON).rsqrt().expand(num_edges, -1)
            shift_ef = shift_ef - strength_eo[:, number, None] * scale_ef * mean_vf
            scales.append(scale_ef)
            means.append(mean_vf)
        parts = []
        for edge in range(num_edges):
            part = factors[0].new_empty(results[0].shape)
            part[...] = shift_ef[edge, :, None, None]
            for number, result in enumerate(results):
                result.add_to(part, edge, strength_eo[edge, number] * scales[number][edge])
            parts.append(part)
        ctx.save_for_backward(strength_eo, *scales, *means, *factors)
        ctx.is_rectified, ctx.gated = is_rectified, gated
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *grads_fdb: torch.Tensor) -> tuple[Any, ...]:
        strength_eo, *saved = ctx.saved_tensors
        count = len(ctx.is_rectified)
        scales, means, factors = saved[:count], saved[count : 2 * count], saved[2 * count :]
        results = results_of(factors, ctx.is_rectified, ctx.gated)
        sum_ef = torch.stack([grad_fdb.sum((1, 2)) for grad_fdb in grads_fdb])
        strength_grads: list[torch.Tensor] = []
        factor_grads: list[torch.Tensor | None] = []
        for number, (result, scale_ef, mean_vf) in enumerate(zip(results, scales, means, strict=True)):
            needed = ctx.needs_input_grad[4 + len(factor_grads) :][: len(result.factors)]
            dots_ef = result.dots(grads_fdb)
            normed_dots_ef = (dots_ef - mean_vf * sum_ef) * scale_ef
            strength_grads.append(normed_dots_ef.sum(1))
            if not any(needed):
                factor_grads += [None] * len(needed)
                continue
            # d y = weight * (grad - mean(grad) - y_hat * mean(grad * y_hat)), where y_hat = (y - mean) * scale
            weight_ef = strength_eo[:, number, None] * scale_ef
            of_y_ef = -weight_ef * scale_ef * normed_dots_ef / result.length
            constant_ef = -weight_ef * sum_ef / result.length - of_y_ef * mean_vf
            factor_grads += result.backward(grads_fdb, weight_ef, of_y_ef, constant_ef)
        strength_grad = torch.stack(strength_grads, 1) if ctx.needs_input_grad[0] else None
        return strength_grad, None, None, None, *factor_grads


def _follow(running: tuple[torch.Tensor, torch.Tensor], mean: torch.Tensor, var: torch.Tensor, length: int) -> None:
    running[0].lerp_(mean, MOMENTUM)
    running[1].lerp_(var * (length / max(length - 1, 1)), MOMENTUM)
