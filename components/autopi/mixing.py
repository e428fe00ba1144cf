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

from components.autopi.kernels import Factors, Kernels
from components.autopi.results import Gated, Result, Viewed, in_full, results_of, second_of

# Torch's own choices for batch norm, kept in the search and in the found network.
EPSILON = 1e-5
MOMENTUM = 0.1

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
        if self.training:
            seconds = tuple(second_of(result) for result in viewed)
            factors = [factor for result in viewed for factor in self._factors(result)]
            mix = _Mix if self._kernels is None else _MixByKernels
            parts: tuple[torch.Tensor, ...] = mix.apply(  # type: ignore[no-untyped-call]
                self._kernels, strength_eo, self.is_rectified, seconds, running, *factors
            )
            return parts
        if self._kernels is not None and not torch.is_grad_enabled():
            return self._use(self._kernels, viewed, strength_eo, running)
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

    def _use(
        self,
        kernels: Kernels,
        viewed: Sequence[Viewed],
        strength_eo: torch.Tensor,
        running: Sequence[tuple[torch.Tensor, torch.Tensor]],
    ) -> tuple[torch.Tensor, ...]:
        factors = [factor.contiguous() for result in viewed for factor in self._factors(result)]
        means, scales = [mean for mean, _ in running], [(var + EPSILON).rsqrt() for _, var in running]
        seconds = [second_of(result) for result in viewed]
        results = _factors_of(seconds, factors, [None] * len(factors), self.is_rectified, means, scales)
        return kernels.mix(results, strength_eo.contiguous(), EPSILON, measures=False).unbind(0)

    def _factors(self, result: Viewed) -> tuple[torch.Tensor, ...]:
        if isinstance(result, torch.Tensor):
            return (result,)
        if isinstance(result, Gated) and self._kernels is None:
            # Gates are not negative, so what they scale can be rectified before; kernels do it while they read.
            return result.base_fdb.relu(), result.gates_efb
        return tuple(result)


class _Mix(torch.autograd.Function):
    """Forwards and backwards of Mixture while training; tensors come as each result's factors, one after another.

    The work goes edge by edge and a few fields at a time, all operators in turn: what is added to and what the gradient is
    read from stays in the core's own cache, which is several times as fast as memory.
    """

    @staticmethod
    def forward(
        ctx: Any,
        _: None,
        strength_eo: torch.Tensor,
        is_rectified: tuple[bool, ...],
        seconds: tuple[str | None, ...],
        running: list[tuple[torch.Tensor, torch.Tensor]],
        *factors: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        gated = tuple(second == "gates" for second in seconds)
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
        _follow(running, means, scales, length)
        ctx.save_for_backward(strength_eo, *means, *scales, *factors)
        ctx.is_rectified, ctx.gated = is_rectified, gated
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *grads_fdb: torch.Tensor) -> tuple[Any, ...]:
        strength_eo, *saved = ctx.saved_tensors
        count = len(ctx.is_rectified)
        means, scales, factors = saved[:count], saved[count : 2 * count], saved[2 * count :]
        results = results_of(factors, ctx.is_rectified, ctx.gated)
        needed = _needed(ctx.needs_input_grad[5:], results)
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
        strength_grad = dots_eof.sum(2) if ctx.needs_input_grad[1] else None
        return None, strength_grad, None, None, None, *factor_grads


class _MixByKernels(torch.autograd.Function):
    """The same by the compiled program; `seconds` names each result's second factor, "bias" or "gates", if it has one."""

    @staticmethod
    def forward(
        ctx: Any,
        kernels: Kernels,
        strength_eo: torch.Tensor,
        is_rectified: tuple[bool, ...],
        seconds: tuple[str | None, ...],
        running: list[tuple[torch.Tensor, torch.Tensor]],
        *factors: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        strength_eo = strength_eo.contiguous()
        factors = tuple(factor.contiguous() for factor in factors)
        means = [torch.empty_like(mean_vf) for mean_vf, _ in running]
        scales = [torch.empty_like(mean_vf) for mean_vf, _ in running]
        results = _factors_of(seconds, factors, [None] * len(factors), is_rectified, means, scales)
        parts_efdb = kernels.mix(results, strength_eo, EPSILON, measures=True)
        _follow(running, means, scales, factors[0].shape[-2] * factors[0].shape[-1])
        ctx.save_for_backward(strength_eo, *means, *scales, *factors)
        ctx.kernels, ctx.is_rectified, ctx.seconds = kernels, is_rectified, seconds
        return parts_efdb.unbind(0)

    @staticmethod
    def backward(ctx: Any, *grads_fdb: torch.Tensor) -> tuple[Any, ...]:
        strength_eo, *saved = ctx.saved_tensors
        count = len(ctx.seconds)
        means, scales, factors = saved[:count], saved[count : 2 * count], saved[2 * count :]
        is_asked = iter(ctx.needs_input_grad[5:])
        wanted: list[bool] = []
        for second in ctx.seconds:
            # Of two factors both gradients or none: each needs most of the other's work.
            own = [next(is_asked) for _ in range(1 if second is None else 2)]
            wanted += [any(own)] * len(own)
        grads = [torch.empty_like(one) if wants else None for one, wants in zip(factors, wanted, strict=True)]
        results = _factors_of(ctx.seconds, factors, grads, ctx.is_rectified, means, scales)
        strength_grad = ctx.kernels.mix_backward(results, strength_eo, [grad.contiguous() for grad in grads_fdb])
        return None, strength_grad, None, None, None, *grads


def _factors_of(
    seconds: Sequence[str | None],
    factors: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor | None],
    is_rectified: Sequence[bool],
    means: Sequence[torch.Tensor],
    scales: Sequence[torch.Tensor],
) -> list[Factors]:
    """Put each operator's factors and their gradients, given one after another, together again."""
    pairs = iter(zip(factors, grads, strict=True))
    found = []
    for second, rectified, mean_vf, scale_vf in zip(seconds, is_rectified, means, scales, strict=True):
        y, y_grad = next(pairs)
        other, other_grad = (None, None) if second is None else next(pairs)
        bias, bias_grad = (other, other_grad) if second == "bias" else (None, None)
        gates, gates_grad = (other, other_grad) if second == "gates" else (None, None)
        found.append(Factors(rectified, mean_vf, scale_vf, y, bias, gates, y_grad, bias_grad, gates_grad))
    return found


def _follow(
    running: Sequence[tuple[torch.Tensor, torch.Tensor]],
    means: Sequence[torch.Tensor],
    scales: Sequence[torch.Tensor],
    length: int,
) -> None:
    """Let the running statistics (V, F) follow those of a batch of `length` numbers a field."""
    for (running_mean, running_var), mean_vf, scale_vf in zip(running, means, scales, strict=True):
        running_mean.lerp_(mean_vf, MOMENTUM)
        running_var.lerp_((scale_vf.pow(-2) - EPSILON) * (length / max(length - 1, 1)), MOMENTUM)


def _slices(x_fdb: torch.Tensor) -> list[slice]:
    """The fields in slices of about SLICE_BYTES; on a GPU, which has no use for that, in one."""
    num_fields = len(x_fdb)
    step = num_fields if x_fdb.device.type != "cpu" else max(1, SLICE_BYTES * num_fields // max(x_fdb.nbytes, 1))
    return [slice(start, min(start + step, num_fields)) for start in range(0, num_fields, step)]


def _needed(needs_grad: Sequence[bool], results: Sequence[Result]) -> list[bool]:
    """Whether any factor of each result wants its gradient."""
    rest = iter(needs_grad)
    return [sum(next(rest) for _ in result.factors) > 0 for result in results]
