"""What an operator yields on all edges that leave a node, and what batch norm and its gradient need of it.

Stands between the operators and `mixing`. y is either there in full (`Dense`) or, where an operator only scales the
fields, in two factors (`Scaled`) that are D times cheaper to handle. Letters: B rows in a batch, F fields, D embedding
width, E edges, V views (E, or 1 for all edges).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch


class Gated(NamedTuple):
    """An operator's result in two factors: y = base * gates, base (F, D, B), gates (E, F, B), none below 0."""

    base_fdb: torch.Tensor
    gates_efb: torch.Tensor


class Dense:
    """y (V, F, D, B), fresh, to be rectified in place."""

    def __init__(self, y_vfdb: torch.Tensor, is_rectified: bool) -> None:
        self.factors = (y_vfdb,)
        self.is_rectified = is_rectified
        self.shape = y_vfdb.shape[1:]
        self.length = y_vfdb.shape[2] * y_vfdb.shape[3]

    def rectify_and_measure(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Means of y and of its square, (V, F); two plain reductions beat torch's careful variance twentyfold."""
        y_vfl = self.factors[0].flatten(2)
        if self.is_rectified:
            y_vfl.relu_()
        return y_vfl.sum(2) / self.length, torch.linalg.vector_norm(y_vfl, dim=2).square() / self.length

    def add_to(self, total_fdb: torch.Tensor, edge: int, weight_f: torch.Tensor) -> None:
        """total += weight * y."""
        total_fdb.addcmul_(self._of(edge), weight_f[:, None, None])

    def dots(self, grads_fdb: Sequence[torch.Tensor]) -> torch.Tensor:
        """The sum of grad * y on each edge in each field, (E, F)."""
        return torch.stack([_dot(grad_fdb, self._of(edge)) for edge, grad_fdb in enumerate(grads_fdb)])

    def backward(
        self,
        grads_fdb: Sequence[torch.Tensor],
        of_grad_ef: torch.Tensor,
        of_y_ef: torch.Tensor,
        constant_ef: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """The gradient before ReLU, of_grad * grad + of_y * y + constant where y > 0, summed over a view's edges."""
        result_vfdb = torch.empty_like(self.factors[0])
        num_views = len(result_vfdb)
        for view, (total_fdb, y_fdb) in enumerate(zip(result_vfdb, self.factors[0], strict=True)):
            edges = slice(view, view + 1) if num_views > 1 else slice(None)
            torch.mul(y_fdb, of_y_ef[edges].sum(0)[:, None, None], out=total_fdb)
            total_fdb.add_(constant_ef[edges].sum(0)[:, None, None])
            for grad_fdb, of_grad_f in zip(grads_fdb[edges], of_grad_ef[edges], strict=True):
                total_fdb.addcmul_(grad_fdb, of_grad_f[:, None, None])
            if self.is_rectified:
                torch.ops.aten.threshold_backward(total_fdb, y_fdb, 0, grad_input=total_fdb)
        return (result_vfdb,)

    def _of(self, edge: int) -> torch.Tensor:
        return self.factors[0][edge if len(self.factors[0]) > 1 else 0]


class Scaled:
    """y = base * gates with base (F, D, B) rectified before and gates (E, F, B) not negative: y is never made."""

    def __init__(self, base_fdb: torch.Tensor, gates_efb: torch.Tensor) -> None:
        self.factors = (base_fdb, gates_efb)
        self.shape = base_fdb.shape
        self.length = base_fdb.shape[1] * base_fdb.shape[2]
        self._sums_fb: tuple[torch.Tensor, torch.Tensor] | None = None
        self._grad_sums_efb: torch.Tensor | None = None

    def rectify_and_measure(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Means of y and of its square, (E, F), from the sums over D alone."""
        gates_efb = self.factors[1]
        sum_fb, square_fb = self._sums()
        return _rows_dot(gates_efb, sum_fb) / self.length, _rows_dot(gates_efb.square(), square_fb) / self.length

    def add_to(self, total_fdb: torch.Tensor, edge: int, weight_f: torch.Tensor) -> None:
        """total += weight * y."""
        base_fdb, gates_efb = self.factors
        total_fdb.addcmul_(base_fdb, (gates_efb[edge] * weight_f[:, None]).unsqueeze(1))

    def dots(self, grads_fdb: Sequence[torch.Tensor]) -> torch.Tensor:
        """The sum of grad * y on each edge in each field, (E, F)."""
        base_fdb, gates_efb = self.factors
        self._grad_sums_efb = torch.stack([(grad_fdb * base_fdb).sum(1) for grad_fdb in grads_fdb])
        return (gates_efb * self._grad_sums_efb).sum(2)

    def backward(
        self,
        grads_fdb: Sequence[torch.Tensor],
        of_grad_ef: torch.Tensor,
        of_y_ef: torch.Tensor,
        constant_ef: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """The gradients of base and gates, given that of y: of_grad * grad + of_y * y + constant. After `dots`."""
        base_fdb, gates_efb = self.factors
        sum_fb, square_fb = self._sums()
        assert self._grad_sums_efb is not None
        gates_grad = self._grad_sums_efb * of_grad_ef.unsqueeze(2)
        gates_grad.addcmul_(gates_efb * square_fb, of_y_ef.unsqueeze(2)).addcmul_(sum_fb, constant_ef.unsqueeze(2))
        of_base_fb = (gates_efb.square() * of_y_ef.unsqueeze(2)).sum(0)
        base_grad = base_fdb * of_base_fb.unsqueeze(1)
        base_grad.add_((gates_efb * constant_ef.unsqueeze(2)).sum(0).unsqueeze(1))
        for grad_fdb, gates_fb, of_grad_f in zip(grads_fdb, gates_efb, of_grad_ef, strict=True):
            base_grad.addcmul_(grad_fdb, (gates_fb * of_grad_f[:, None]).unsqueeze(1))
        return base_grad, gates_grad

    def _sums(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums over D of base and of its square, (F, B)."""
        if self._sums_fb is None:
            self._sums_fb = (self.factors[0].sum(1), self.factors[0].square().sum(1))
        return self._sums_fb


def results_of(
    factors: Sequence[torch.Tensor], is_rectified: Sequence[bool], is_gated: Sequence[bool]
) -> list[Dense | Scaled]:
    """Put each operator's factors, given one after another, together again."""
    rest = iter(factors)
    return [
        Scaled(next(rest), next(rest)) if gated else Dense(next(rest), rectified)
        for rectified, gated in zip(is_rectified, is_gated, strict=True)
    ]


def _dot(left_fdb: torch.Tensor, right_fdb: torch.Tensor) -> torch.Tensor:
    """The sum of products in each field, (F,)."""
    left_fl, right_fl = left_fdb.flatten(1), right_fdb.flatten(1)
    if left_fl.device.type != "cpu":
        return (left_fl * right_fl).sum(1)
    # On a CPU ten dot products beat a batched matrix product sixfold, and they make no tensor of products.
    return torch.stack([torch.dot(left_l, right_l) for left_l, right_l in zip(left_fl, right_fl, strict=True)])


def _rows_dot(left_efb: torch.Tensor, right_fb: torch.Tensor) -> torch.Tensor:
    return (left_efb * right_fb).sum(2)
