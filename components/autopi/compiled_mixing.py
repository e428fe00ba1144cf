"""The mixture by the compiled program: rectify, normalise, weigh and add up what several operators yield, as one step.

Stands between `kernels` and those who mix: the supernet's edges (a weight an operator) and the found network's nodes (batch
norm's own scale and shift, field by field). Letters: B rows in a batch, F fields, D embedding width, O operators, E edges,
V views (E, or 1 for all edges).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from components.autopi.kernels import Factors, Kernels
from components.autopi.normalising import EPSILON, Running, follow
from components.autopi.results import Viewed, factors_of, second_of


def mix_by_kernels(
    kernels: Kernels,
    viewed: Sequence[Viewed],
    is_rectified: Sequence[bool],
    running: Running,
    strength_eof: torch.Tensor,
    shift_ef: torch.Tensor,
    is_training: bool,
) -> tuple[torch.Tensor, ...]:
    """E times (F, D, B): shift + sum of strength * normalised y over O results.

    In training by the batch's own figures, which `running` follows; else by `running`, and without gradients.
    """
    seconds = tuple(second_of(result) for result in viewed)
    factors = [factor for result in viewed for factor in factors_of(result)]
    if is_training:
        parts: tuple[torch.Tensor, ...] = _MixByKernels.apply(  # type: ignore[no-untyped-call]
            kernels, strength_eof, shift_ef, tuple(is_rectified), seconds, running, *factors
        )
        return parts
    means, scales = [mean for mean, _ in running], [(var + EPSILON).rsqrt() for _, var in running]
    factors = [factor.contiguous() for factor in factors]
    results = _put_together(seconds, factors, [None] * len(factors), is_rectified, means, scales)
    return kernels.mix(results, strength_eof.contiguous(), shift_ef, EPSILON, measures=False).unbind(0)


class _MixByKernels(torch.autograd.Function):
    """Forwards and backwards of `mix_by_kernels` in training.

    `seconds` names each result's second factor, "bias" or "gates", if it has one.
    """

    @staticmethod
    def forward(
        ctx: Any,
        kernels: Kernels,
        strength_eof: torch.Tensor,
        shift_ef: torch.Tensor,
        is_rectified: tuple[bool, ...],
        seconds: tuple[str | None, ...],
        running: Running,
        *factors: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        strength_eof = strength_eof.contiguous()
        factors = tuple(factor.contiguous() for factor in factors)
        means = [torch.empty_like(mean_vf) for mean_vf, _ in running]
        scales = [torch.empty_like(mean_vf) for mean_vf, _ in running]
        results = _put_together(seconds, factors, [None] * len(factors), is_rectified, means, scales)
        parts_efdb = kernels.mix(results, strength_eof, shift_ef.contiguous(), EPSILON, measures=True)
        follow(running, means, scales, factors[0].shape[-2] * factors[0].shape[-1])
        ctx.save_for_backward(strength_eof, *means, *scales, *factors)
        ctx.kernels, ctx.is_rectified, ctx.seconds = kernels, is_rectified, seconds
        return parts_efdb.unbind(0)

    @staticmethod
    def backward(ctx: Any, *grads_fdb: torch.Tensor) -> tuple[Any, ...]:
        strength_eof, *saved = ctx.saved_tensors
        count = len(ctx.seconds)
        means, scales, factors = saved[:count], saved[count : 2 * count], saved[2 * count :]
        is_asked = iter(ctx.needs_input_grad[6:])
        wanted: list[bool] = []
        for second in ctx.seconds:
            # Of two factors both gradients or none: each needs most of the other's work.
            own = [next(is_asked) for _ in range(1 if second is None else 2)]
            wanted += [any(own)] * len(own)
        grads = [torch.empty_like(one) if wants else None for one, wants in zip(factors, wanted, strict=True)]
        results = _put_together(ctx.seconds, factors, grads, ctx.is_rectified, means, scales)
        of_edges = [grad.contiguous() for grad in grads_fdb]
        strength_grad, shift_grad = ctx.kernels.mix_backward(results, strength_eof, of_edges)
        return None, strength_grad, shift_grad, None, None, None, *grads


def _put_together(
    seconds: Sequence[str | None],
    factors: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor | None],
    is_rectified: Sequence[bool],
    means: Sequence[torch.Tensor],
    scales: Sequence[torch.Tensor],
) -> list[Factors]:
    """Each operator's factors and their gradients, given one after another."""
    pairs = iter(zip(factors, grads, strict=True))
    found = []
    for second, rectified, mean_vf, scale_vf in zip(seconds, is_rectified, means, scales, strict=True):
        y, y_grad = next(pairs)
        other, other_grad = (None, None) if second is None else next(pairs)
        bias, bias_grad = (other, other_grad) if second == "bias" else (None, None)
        gates, gates_grad = (other, other_grad) if second == "gates" else (None, None)
        found.append(Factors(rectified, mean_vf, scale_vf, y, bias, gates, y_grad, bias_grad, gates_grad))
    return found
