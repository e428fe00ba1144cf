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

from components.autopi.compiled_mixing import mix_by_kernels
from components.autopi.kernels import Kernels
from components.autopi.normalising import EPSILON, follow
from components.autopi.results import Gated, Result, Viewed, factors_of, in_full, results_of

# Of one tensor worked on at once: larger ones fall out of the core's caches, smaller ones cost more calls than they save.
SLICE_BYTES = 1_700_000


class Mixture(nn.Module):
    """sum over operators of strength * batch_norm(relu(y)), for each edge; the running statistics live here."""

    def __init__(
        self, is_rectified: Sequence[bool], num_views: Sequence[int], num_fields: int, kernels: Kernels | None
    ) -> None:
        """`num_views` says for each operator how many different y it yields: one for each edge, or 1 for all of them.

        `kernels` do the work while training, and in use where no gradient is asked for; where there are none, torch does all of it.
        """
        super().__init__()
        self.is_rectified = tuple(is_rectified)
        self._kernels = kernels
        for number, views in enumerate(num_views):
            self.register_buffer(f"running_mean_{number}", torch.zeros(views, num_fields))
            self.register_buffer(f"running_var_{number}", torch.ones(views, num_fields))

    def forward(self, viewed: Sequence[Viewed], strength_eo: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """E times (F, D, B) from O results, V F D B; where torch does the work those in full must be fresh: relu works in place.

        Normalises by the batch while training (and lets the running statistics follow), by those statistics else.
        """
        numbers = range(len(viewed))
        running = [(self.get_buffer(f"running_mean_{n}"), self.get_buffer(f"running_var_{n}")) for n in numbers]
        if self._kernels is not None and (self.training or not torch.is_grad_enabled()):
            return self._by_kernels(self._kernels, viewed, strength_eo, running)
        if self.training:
            gated = tuple(isinstance(result, Gated) for result in viewed)
            # Gates are not negative, so what they scale can be rectified before.
            made = [Gated(one.base_fdb.relu(), one.gates_efb) if isinstance(one, Gated) else one for one in viewed]
            factors = [factor for result in made for factor in factors_of(result)]
            parts: tuple[torch.Tensor, ...] = _Mix.apply(  # type: ignore[no-untyped-call]
                strength_eo, self.is_rectified, gated, running, *factors
            )
            return parts
        total: torch.Tensor | float = 0.0
        for number, result in enumerate(viewed):
            y = in_full(result)
            mean, var = running[number]
            normed = ((y.relu() if self.is_rectified[number] else y) - mean[..., None, None]) * (
                (var + EPSILON).rsqrt()[..., None, None]
            )
            total = total + normed * strength_eo[:, number, None, None, None]
        assert isinstance(total, torch.Tensor)
        return total.unbind(0)

    def _by_kernels(
        self,
        kernels: Kernels,
        viewed: Sequence[Viewed],
        strength_eo: torch.Tensor,
        running: Sequence[tuple[torch.Tensor, torch.Tensor]],
    ) -> tuple[torch.Tensor, ...]:
        num_fields = running[0][0].shape[1]
        strength_eof = strength_eo.unsqueeze(2).expand(-1, -1, num_fields)
        shift_ef = strength_eo.new_zeros(len(strength_eo), num_fields)
        return mix_by_kernels(kernels, viewed, self.is_rectified, running, strength_eof, shift_ef, self.training)


class _Mix(torch.autograd.Function):
    """Forwards and backwards of Mixture while training; tensors come as each result's factors, one after another.

    The work goes edge by edge and a few fields at a time, all operators in turn: what is added to and what the gradient is
    read from stays in the core's own cache, which is several times as fast as memory.
    """

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
        num_fields, width, rows = factors[0].shape[-3:]
        length = width * rows
        # Mean and 1 / standard deviation of each operator's y, by view and field.
        means = [torch.empty_like(mean_vf) for mean_vf, _ in running]
        scales = [torch.empty_like(mean_vf) for mean_vf, _ in running]
        parts = [factors[0].new_empty(num_fields, width, rows) for _ in range(len(strength_eo))]
        for edge, part in enumerate(parts):
            for fields in _slices(part):
                total_fdb = part[fields].zero_()
                shift_f = part.new_zeros(len(total_fdb))
                for number, result in enumerate(results):
                    view = edge if result.num_views > 1 else 0
                    mean_f, scale_f = means[number][view, fields], scales[number][view, fields]
                    if view == edge:
                        sum_f, square_f = result.measure(edge, fields)
                        torch.mul(sum_f, 1 / length, out=mean_f)
                        var_f = square_f.mul_(1 / length).addcmul_(mean_f, mean_f, value=-1).clamp_min_(0.0)
                        torch.rsqrt(var_f.add_(EPSILON), out=scale_f)
                    weight_f = scale_f * strength_eo[edge, number]
                    shift_f.addcmul_(weight_f, mean_f, value=-1)
                    result.add_to(total_fdb, edge, fields, weight_f)
                total_fdb.add_(shift_f[:, None, None])
        follow(running, means, scales, length)
        ctx.save_for_backward(strength_eo, *means, *scales, *factors)
        ctx.is_rectified, ctx.gated = is_rectified, gated
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *grads_fdb: torch.Tensor) -> tuple[Any, ...]:
        strength_eo, *saved = ctx.saved_tensors
        count = len(ctx.is_rectified)
        means, scales, factors = saved[:count], saved[count : 2 * count], saved[2 * count :]
        results = results_of(factors, ctx.is_rectified, ctx.gated)
        needed = _needed(ctx.needs_input_grad[4:], results)
        length = factors[0].shape[-2] * factors[0].shape[-1]
        # The sum of grad * y_hat, where y_hat = (y - mean) * scale, on each edge for each operator in each field.
        dots_eof = strength_eo.new_empty(*strength_eo.shape, factors[0].shape[-3])
        for edge, grad_fdb in enumerate(grads_fdb):
            for fields in _slices(grad_fdb):
                block_fdb = grad_fdb[fields]
                sum_f = block_fdb.sum((1, 2))
                for number, result in enumerate(results):
                    view = edge if result.num_views > 1 else 0
                    mean_f, scale_f = means[number][view, fields], scales[number][view, fields]
                    dot_f = result.dot(block_fdb, edge, fields).addcmul_(mean_f, sum_f, value=-1).mul_(scale_f)
                    dots_eof[edge, number, fields] = dot_f
                    if needed[number]:
                        # d y = weight * (grad - mean(grad) - y_hat * mean(grad * y_hat))
                        weight_f = scale_f * strength_eo[edge, number]
                        of_y_f = (weight_f * scale_f).mul_(dot_f).mul_(-1 / length)
                        constant_f = (weight_f * sum_f).mul_(-1 / length).addcmul_(of_y_f, mean_f, value=-1)
                        result.push(block_fdb, edge, fields, weight_f, of_y_f, constant_f)
        factor_grads: list[torch.Tensor | None] = []
        for result, is_needed in zip(results, needed, strict=True):
            factor_grads += result.grads() if is_needed else [None] * len(result.factors)
        strength_grad = dots_eof.sum(2) if ctx.needs_input_grad[0] else None
        return strength_grad, None, None, None, *factor_grads


def _slices(x_fdb: torch.Tensor) -> list[slice]:
    """The fields in slices of about SLICE_BYTES; on a GPU, which has no use for that, in one."""
    num_fields = len(x_fdb)
    step = num_fields if x_fdb.device.type != "cpu" else max(1, SLICE_BYTES * num_fields // max(x_fdb.nbytes, 1))
    return [slice(start, min(start + step, num_fields)) for start in range(0, num_fields, step)]


def _needed(needs_grad: Sequence[bool], results: Sequence[Result]) -> list[bool]:
    """Whether any factor of each result wants its gradient."""
    rest = iter(needs_grad)
    return [sum(next(rest) for _ in result.factors) > 0 for result in results]
