"""The core of self-attention among the fields for all edges that leave a node; see operators.py for its place.

Letters: B rows in a batch, F fields, D embedding width, E edges. The batch is the last axis outside; inside, the small
matrix products of each row want it first. Softmax is carried as exponentials and their sums: the sums come out of the
same product as the weighted vectors, through a column of ones, and the division waits until the batch is last again,
because softmax over a last axis of ten costs more than everything else here together.
"""

from __future__ import annotations

from typing import Any

import torch

# exp(80) is near float32's end and exp(-80) near its beginning; beyond, a score is as good as the limit itself.
SCORE_LIMIT = 80.0


def attend(x_fdb: torch.Tensor, pairing_edd: torch.Tensor) -> torch.Tensor:
    """Average the fields as each field sees them: sum_g softmax_g(x_f' M_e x_g) x_g, (F, D, B), (E, D, D) -> (F, E, D, B)."""
    if torch.compiler.is_exporting():
        asked_fedb = torch.matmul(pairing_edd.transpose(1, 2), x_fdb.unsqueeze(1))
        scores_fegb = (asked_fedb.unsqueeze(2) * x_fdb).sum(3).clamp(-SCORE_LIMIT, SCORE_LIMIT)
        return (scores_fegb.softmax(2).unsqueeze(3) * x_fdb).sum(2)
    attended: torch.Tensor = _Attend.apply(x_fdb, pairing_edd)  # type: ignore[no-untyped-call]
    return attended


class _Attend(torch.autograd.Function):
    """Forwards and backwards of `attend`; the comments name shapes, `1` at the end stands for D + 1."""

    @staticmethod
    def forward(ctx: Any, x_fdb: torch.Tensor, pairing_edd: torch.Tensor) -> torch.Tensor:
        num_fields, width, rows = x_fdb.shape
        num_edges = len(pairing_edd)
        x_bf1 = x_fdb.new_empty(rows, num_fields, width + 1)
        x_bf1[..., :width] = x_fdb.permute(2, 0, 1)
        x_bf1[..., width] = 1
        x_bfd = x_bf1[..., :width]
        pairing_ded = pairing_edd.transpose(0, 1).reshape(width, num_edges * width)
        asked_bxd = torch.mm(x_bf1.view(-1, width + 1)[:, :width], pairing_ded).view(
            rows, num_fields * num_edges, width
        )
        weights_bxf = torch.bmm(asked_bxd, x_bfd.transpose(1, 2)).clamp_(-SCORE_LIMIT, SCORE_LIMIT).exp_()
        sums_x1b = _batch_last(torch.bmm(weights_bxf, x_bf1)).view(num_fields, num_edges, width + 1, rows)
        inverse_fe1b = sums_x1b[:, :, width:].reciprocal()
        attended_fedb = sums_x1b[:, :, :width] * inverse_fe1b
        ctx.save_for_backward(x_bf1, pairing_ded, asked_bxd, weights_bxf, inverse_fe1b, attended_fedb)
        return attended_fedb

    @staticmethod
    def backward(ctx: Any, grad_fedb: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        x_bf1, pairing_ded, asked_bxd, weights_bxf, inverse_fe1b, attended_fedb = ctx.saved_tensors
        num_fields, num_edges, width, rows = grad_fedb.shape
        needs_x, needs_pairing = ctx.needs_input_grad
        # The sums' gradient: of the vectors, and (the last place) of the sum of weights that divides them.
        sums_grad = grad_fedb.new_empty(num_fields, num_edges, width + 1, rows)
        torch.mul(grad_fedb, inverse_fe1b, out=sums_grad[:, :, :width])
        torch.sum(sums_grad[:, :, :width] * attended_fedb, 2, keepdim=True, out=sums_grad[:, :, width:])
        sums_grad[:, :, width:].neg_()
        grad_bx1 = _batch_first(sums_grad.view(-1, rows)).view(rows, num_fields * num_edges, width + 1)
        scores_grad_bxf = torch.bmm(grad_bx1, x_bf1.transpose(1, 2)).mul_(weights_bxf)
        x_bfd = x_bf1[..., :width]
        asked_grad = torch.bmm(scores_grad_bxf, x_bfd).view(rows * num_fields, num_edges * width)
        pairing_grad = None
        if needs_pairing:
            pairing_grad = torch.mm(x_bf1.view(-1, width + 1)[:, :width].t(), asked_grad)
            pairing_grad = pairing_grad.view(width, num_edges, width).transpose(0, 1)
        if not needs_x:
            return None, pairing_grad
        x_grad = torch.bmm(scores_grad_bxf.transpose(1, 2), asked_bxd)
        x_grad.baddbmm_(weights_bxf.transpose(1, 2), grad_bx1[..., :width])
        x_grad.view(-1, width).addmm_(asked_grad, pairing_ded.t())
        return x_grad.permute(1, 2, 0).contiguous(), pairing_grad


def _batch_last(y_bxd: torch.Tensor) -> torch.Tensor:
    return y_bxd.flatten(1).t().contiguous()


def _batch_first(y_xb: torch.Tensor) -> torch.Tensor:
    return y_xb.t().contiguous()
