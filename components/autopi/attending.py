"""The core of self-attention among the fields for all edges that leave a node; see operators.py for its place.

Letters: B rows in a batch, F fields, D embedding width, E edges. The batch is the last axis outside; inside, the small
matrix products of each row want it first. Softmax is carried as exponentials and their sums: the sums come out of the
same product as the weighted vectors, through a column of ones, and the division waits until the batch is last again,
because softmax over a last axis of ten costs more than everything else here together.
"""

from __future__ import annotations

from typing import Any

import torch

from components.autopi.kernels import Kernels

# exp(80) is near float32's end and exp(-80) near its beginning; beyond, the largest score is subtracted first.
SCORE_LIMIT = 80.0

# Rows times edges worked on at once on a CPU: with ten fields most of it stays in a core's own cache (1 to 2 MB).
SLICE_ROWS = 1024


def attend(x_fdb: torch.Tensor, pairing_edd: torch.Tensor) -> torch.Tensor:
    """Average the fields as each field sees them: sum_g softmax_g(x_f' M_e x_g) x_g, (F, D, B), (E, D, D) -> (F, E, D, B)."""
    if torch.compiler.is_exporting():
        asked_fedb = torch.matmul(pairing_edd.transpose(1, 2), x_fdb.unsqueeze(1))
        scores_fegb = (asked_fedb.unsqueeze(2) * x_fdb).sum(3)
        return (scores_fegb.softmax(2).unsqueeze(3) * x_fdb).sum(2)
    attended: torch.Tensor = _Attend.apply(x_fdb, pairing_edd)  # type: ignore[no-untyped-call]
    return attended


def attend_by_kernels(
    kernels: Kernels, x_fdb: torch.Tensor, pairing_edd: torch.Tensor, value_edd: torch.Tensor
) -> torch.Tensor:
    """What `attend` gives times V, by the compiled program: (F, D, B), M and V (E, D, D) -> (E, F, D, B)."""
    attended: torch.Tensor = _AttendByKernels.apply(kernels, x_fdb, pairing_edd, value_edd)  # type: ignore[no-untyped-call]
    return attended


class _AttendByKernels(torch.autograd.Function):
    """Forwards and backwards of `attend_by_kernels`."""

    @staticmethod
    def forward(ctx: Any, kernels: Kernels, *tensors: torch.Tensor) -> torch.Tensor:
        x_fdb, pairing_edd, value_edd = (tensor.contiguous() for tensor in tensors)
        ctx.kernels = kernels
        ctx.save_for_backward(x_fdb, pairing_edd, value_edd)
        return kernels.attend(x_fdb, pairing_edd, value_edd)

    @staticmethod
    def backward(ctx: Any, y_grad_efdb: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        _, needs_x, *needs_weights = ctx.needs_input_grad
        x_fdb, pairing_edd, value_edd = ctx.saved_tensors
        kernels: Kernels = ctx.kernels
        grads = kernels.attend_backward(
            x_fdb, pairing_edd, value_edd, y_grad_efdb.contiguous(), needs_x, any(needs_weights)
        )
        return None, *grads


class _Attend(torch.autograd.Function):
    """Forwards and backwards of `attend`, a slice of rows at a time; `1` at a shape's end stands for D + 1, x for F * E."""

    @staticmethod
    def forward(ctx: Any, x_fdb: torch.Tensor, pairing_edd: torch.Tensor) -> torch.Tensor:
        num_fields, width, rows = x_fdb.shape
        num_edges = len(pairing_edd)
        pairing_ded = pairing_edd.transpose(0, 1).reshape(width, num_edges * width)
        attended_fedb = x_fdb.new_empty(num_fields, num_edges, width, rows)
        inverse_fe1b = x_fdb.new_empty(num_fields, num_edges, 1, rows)
        kept: list[torch.Tensor] = []
        for part in _slices(x_fdb, num_edges):
            x_bf1, x_b1f, asked_bxd, weights_bxf = _weigh(x_fdb[:, :, part], pairing_ded)
            kept += [x_bf1, x_b1f, asked_bxd, weights_bxf]
            sums_x1b = torch.bmm(weights_bxf, x_bf1).flatten(1).t().contiguous()
            sums_fe1b = sums_x1b.view(num_fields, num_edges, width + 1, -1)
            inverse = torch.reciprocal(sums_fe1b[:, :, width:], out=inverse_fe1b[..., part])
            torch.mul(sums_fe1b[:, :, :width], inverse, out=attended_fedb[..., part])
        ctx.save_for_backward(pairing_ded, inverse_fe1b, attended_fedb, *kept)
        return attended_fedb

    @staticmethod
    def backward(ctx: Any, grad_fedb: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        pairing_ded, inverse_fe1b, attended_fedb, *kept = ctx.saved_tensors
        num_fields, num_edges, width, rows = grad_fedb.shape
        needs_x, needs_pairing = ctx.needs_input_grad
        x_grad = grad_fedb.new_empty(num_fields, width, rows) if needs_x else None
        pairing_grad = torch.zeros_like(pairing_ded) if needs_pairing else None
        for number, part in enumerate(_slices(grad_fedb, num_edges)):
            x_bf1, x_b1f, asked_bxd, weights_bxf = kept[4 * number : 4 * number + 4]
            # The sums' gradient: of the vectors, and (the last place) of the sum of weights that divides them.
            sums_grad = grad_fedb.new_empty(num_fields, num_edges, width + 1, len(x_bf1))
            vectors_grad = torch.mul(grad_fedb[..., part], inverse_fe1b[..., part], out=sums_grad[:, :, :width])
            torch.sum(vectors_grad * attended_fedb[..., part], 2, keepdim=True, out=sums_grad[:, :, width:])
            sums_grad[:, :, width:].neg_()
            grad_bx1 = sums_grad.view(-1, len(x_bf1)).t().contiguous().view(len(x_bf1), -1, width + 1)
            scores_grad_bxf = torch.bmm(grad_bx1, x_b1f).mul_(weights_bxf)
            asked_grad = torch.bmm(scores_grad_bxf, x_bf1[..., :width]).view(-1, num_edges * width)
            if pairing_grad is not None:
                pairing_grad.addmm_(x_bf1.view(-1, width + 1)[:, :width].t(), asked_grad)
            if x_grad is not None:
                own_bfd = torch.bmm(scores_grad_bxf.transpose(1, 2), asked_bxd)
                own_bfd.baddbmm_(weights_bxf.transpose(1, 2), grad_bx1[..., :width])
                own_bfd.view(-1, width).addmm_(asked_grad, pairing_ded.t())
                x_grad[..., part] = own_bfd.permute(1, 2, 0)
        if pairing_grad is not None:
            pairing_grad = pairing_grad.view(width, num_edges, width).transpose(0, 1)
        return x_grad, pairing_grad


def _weigh(
    x_fdb: torch.Tensor, pairing_ded: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The rows in both orders (see `_batch_first`), what each field asks for (B, F * E, D), and exp(scores) (B, F * E, F)."""
    x_bf1, x_b1f = _batch_first(x_fdb)
    rows, width = len(x_bf1), len(pairing_ded)
    asked_bxd = torch.mm(x_bf1.view(-1, width + 1)[:, :width], pairing_ded).view(rows, -1, width)
    scores_bxf = torch.bmm(asked_bxd, x_b1f[:, :width])
    # Softmax is the same whatever is subtracted from a row of scores. The largest is slow to find on a CPU, and needed
    # by few; on a GPU the question would cost more than the answer.
    if scores_bxf.device.type != "cpu" or not _all_are_moderate(scores_bxf):
        scores_bxf -= scores_bxf.amax(2, keepdim=True)
    return x_bf1, x_b1f, asked_bxd, scores_bxf.exp_()


def _all_are_moderate(scores: torch.Tensor) -> bool:
    lowest, highest = torch.aminmax(scores)
    return bool(lowest > -SCORE_LIMIT) and bool(highest < SCORE_LIMIT)


def _slices(tensor: torch.Tensor, num_edges: int) -> list[slice]:
    """The last axis in slices whose work fits into a core's cache; on a GPU in one."""
    rows = tensor.shape[-1]
    step = max(1, SLICE_ROWS // num_edges) if tensor.device.type == "cpu" else rows
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _batch_first(x_fdb: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(F, D, B) -> (B, F, D + 1) and (B, D + 1, F), with ones in the last place of D + 1: both orders, because small
    products are half as fast again when neither factor has to be read across its rows.
    """
    num_fields, width, rows = x_fdb.shape
    x_bf1 = x_fdb.new_ones(rows, num_fields, width + 1)
    x_bf1[..., :width] = x_fdb.permute(2, 0, 1)
    return x_bf1, x_bf1.transpose(1, 2).contiguous()
