"""Each field times all the others, by the compiled program: the core of the factorization machine on an edge.

Stands between `kernels` and the operators. Letters: B rows in a batch, F fields, D embedding width.
"""

from __future__ import annotations

from typing import Any

import torch

from components.autopi.kernels import Kernels


def multiply_others(kernels: Kernels, x_fdb: torch.Tensor) -> torch.Tensor:
    """x_f times the sum of x_g over g != f: (F, D, B) -> (F, D, B)."""
    y_fdb: torch.Tensor = _MultiplyOthers.apply(kernels, x_fdb)  # type: ignore[no-untyped-call]
    return y_fdb


class _MultiplyOthers(torch.autograd.Function):
    """Forwards and backwards of `multiply_others`."""

    @staticmethod
    def forward(ctx: Any, kernels: Kernels, x_fdb: torch.Tensor) -> torch.Tensor:
        x_fdb = x_fdb.contiguous()
        ctx.kernels = kernels
        ctx.save_for_backward(x_fdb)
        return kernels.multiply_others(x_fdb)

    @staticmethod
    def backward(ctx: Any, y_grad_fdb: torch.Tensor) -> tuple[None, torch.Tensor]:
        (x_fdb,) = ctx.saved_tensors
        x_grad_fdb: torch.Tensor = ctx.kernels.multiply_others_backward(x_fdb, y_grad_fdb.contiguous())
        return None, x_grad_fdb
