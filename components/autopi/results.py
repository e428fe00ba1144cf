"""What an operator yields on all edges that leave a node, and what batch norm and its gradient need of it.

Stands between the operators and `mixing`. y is either there in full (`Dense`) or, where an operator only scales the
fields, in two factors (`Scaled`) that are D times cheaper to handle. Letters: B rows in a batch, F fields, D embedding
width, E edges, V views (E, or 1 for all edges).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Gated(NamedTuple):
    """An operator's result in two factors: y = base * gates, base (F, D, B), gates (E, F, B), none below 0."""

    base_fdb: torch.Tensor
    gates_efb: torch.Tensor


class Biased(NamedTuple):
    """An operator's result before its bias (V, F, D), the same for all rows, is added to y (V, F, D, B)."""

    y_vfdb: torch.Tensor
    bias_vfd: torch.Tensor


Viewed = Tensor | Biased | Gated


def in_full(result: Viewed) -> Tensor:
    """y itself, (V, F, D, B)."""
    if isinstance(result, Gated):
        return result.base_fdb * result.gates_efb.unsqueeze(2)
    return result.y_vfdb + result.bias_vfd.unsqueeze(3) if isinstance(result, Biased) else result


def second_of(result: Viewed) -> str | None:
    """What a result's second factor is, "bias" or "gates"; None: y is its only one."""
    return "gates" if isinstance(result, Gated) else "bias" if isinstance(result, Biased) else None


def factors_of(result: Viewed) -> tuple[Tensor, ...]:
    """y, and its second factor where there is one."""
    return (result,) if isinstance(result, Tensor) else tuple(result)


class Result(Protocol):
    """One operator's y on the way to batch norm and back, handled for one edge and a few fields at a time."""

    @property
    def num_views(self) -> int:
        """E, or 1 where all edges share one y."""
        ...

    @property
    def factors(self) -> tuple[torch.Tensor, ...]:
        """The tensors that autograd knows."""
        ...

    def measure(self, edge: int, fields: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Rectify y and give the sums of y and of its square, (F',); once for each view."""
        ...

    def add_to(self, total_fdb: torch.Tensor, edge: int, fields: slice, weight_f: torch.Tensor) -> None:
        """total += weight * y."""
        ...

    def dot(self, grad_fdb: torch.Tensor, edge: int, fields: slice) -> torch.Tensor:
        """The sum of grad * y in each field, (F',)."""
        ...

    def push(
        self, grad_fdb: torch.Tensor, edge: int, fields: slice, of_grad_f: Tensor, of_y_f: Tensor, constant_f: Tensor
    ) -> None:
        """Add of_grad * grad + of_y * y + constant to the gradient of y. After `dot` of the same edge and fields."""
        ...

    def grads(self) -> tuple[torch.Tensor, ...]:
        """The factors' gradients, after all pushes."""
        ...


class Dense:
    """y (V, F, D, B), fresh, to be rectified in place."""

    def __init__(self, y_vfdb: torch.Tensor, is_rectified: bool) -> None:
        self.num_views = len(y_vfdb)
        self.factors = (y_vfdb,)
        self._is_rectified = is_rectified
        self._grad_vfdb: torch.Tensor | None = None
        # Where edges share y, of_y and constant are summed up over the edges first, (F,) each.
        self._shared: tuple[torch.Tensor, torch.Tensor] | None = None

    def measure(self, edge: int, fields: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """See Result; two plain reductions beat torch's careful variance twentyfold."""
        y_fl = self._of(edge, fields).flatten(1)
        if self._is_rectified:
            y_fl.relu_()
        return y_fl.sum(1), torch.linalg.vector_norm(y_fl, dim=1).square_()

    def add_to(self, total_fdb: torch.Tensor, edge: int, fields: slice, weight_f: torch.Tensor) -> None:
        """See Result."""
        total_fdb.addcmul_(self._of(edge, fields), weight_f[:, None, None])

    def dot(self, grad_fdb: torch.Tensor, edge: int, fields: slice) -> torch.Tensor:
        """See Result."""
        grad_fl, y_fl = grad_fdb.flatten(1), self._of(edge, fields).flatten(1)
        if grad_fl.device.type != "cpu":
            return (grad_fl * y_fl).sum(1)
        # On a CPU a dot product a field beats a batched matrix product sixfold, and it makes no tensor of products.
        return torch.stack([torch.dot(grad_l, y_l) for grad_l, y_l in zip(grad_fl, y_fl, strict=True)])

    def push(
        self, grad_fdb: torch.Tensor, edge: int, fields: slice, of_grad_f: Tensor, of_y_f: Tensor, constant_f: Tensor
    ) -> None:
        """See Result."""
        y_vfdb = self.factors[0]
        if self._grad_vfdb is None:
            self._grad_vfdb = torch.empty_like(y_vfdb) if self.num_views > 1 else torch.zeros_like(y_vfdb)
        if self.num_views > 1:
            total_fdb = self._grad_vfdb[edge, fields]
            torch.mul(self._of(edge, fields), of_y_f[:, None, None], out=total_fdb)
            total_fdb.add_(constant_f[:, None, None]).addcmul_(grad_fdb, of_grad_f[:, None, None])
            self._mask(total_fdb, self._of(edge, fields))
            return
        if self._shared is None:
            self._shared = (y_vfdb.new_zeros(y_vfdb.shape[1]), y_vfdb.new_zeros(y_vfdb.shape[1]))
        self._grad_vfdb[0, fields].addcmul_(grad_fdb, of_grad_f[:, None, None])
        for total_f, more_f in zip(self._shared, (of_y_f, constant_f), strict=True):
            total_f[fields] += more_f

    def grads(self) -> tuple[torch.Tensor, ...]:
        """See Result."""
        assert self._grad_vfdb is not None
        if self._shared is not None:
            of_y_f, constant_f = self._shared
            self._grad_vfdb[0].addcmul_(self.factors[0][0], of_y_f[:, None, None]).add_(constant_f[:, None, None])
            self._mask(self._grad_vfdb[0], self.factors[0][0])
        return (self._grad_vfdb,)

    def _of(self, edge: int, fields: slice) -> torch.Tensor:
        return self.factors[0][edge if self.num_views > 1 else 0, fields]

    def _mask(self, total_fdb: torch.Tensor, y_fdb: torch.Tensor) -> None:
        if self._is_rectified:
            torch.ops.aten.threshold_backward(total_fdb, y_fdb, 0, grad_input=total_fdb)


class Scaled:
    """y = base * gates with base (F, D, B) rectified before and gates (E, F, B) not negative: y is never made."""

    def __init__(self, base_fdb: torch.Tensor, gates_efb: torch.Tensor) -> None:
        self.num_views = len(gates_efb)
        self.factors = (base_fdb, gates_efb)
        self._sums_fb: tuple[torch.Tensor, torch.Tensor] | None = None
        self._grad_sums: dict[tuple[int, int], torch.Tensor] = {}
        self._base_grad: torch.Tensor | None = None
        self._gates_grad: torch.Tensor | None = None

    def measure(self, edge: int, fields: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """See Result; the sums over D alone are enough."""
        gates_fb = self.factors[1][edge, fields]
        sum_fb, square_fb = self._sums()
        return (gates_fb * sum_fb[fields]).sum(1), (gates_fb.square() * square_fb[fields]).sum(1)

    def add_to(self, total_fdb: torch.Tensor, edge: int, fields: slice, weight_f: torch.Tensor) -> None:
        """See Result."""
        base_fdb, gates_efb = self.factors
        total_fdb.addcmul_(base_fdb[fields], (gates_efb[edge, fields] * weight_f[:, None]).unsqueeze(1))

    def dot(self, grad_fdb: torch.Tensor, edge: int, fields: slice) -> torch.Tensor:
        """See Result."""
        base_fdb, gates_efb = self.factors
        grad_sum_fb = (grad_fdb * base_fdb[fields]).sum(1)
        self._grad_sums[edge, fields.start] = grad_sum_fb
        return (gates_efb[edge, fields] * grad_sum_fb).sum(1)

    def push(
        self, grad_fdb: torch.Tensor, edge: int, fields: slice, of_grad_f: Tensor, of_y_f: Tensor, constant_f: Tensor
    ) -> None:
        """See Result; dy = of_grad * grad + of_y * y + constant, handed on to both factors."""
        base_fdb, gates_efb = self.factors
        if self._base_grad is None or self._gates_grad is None:
            self._base_grad, self._gates_grad = torch.zeros_like(base_fdb), torch.empty_like(gates_efb)
        gates_fb = gates_efb[edge, fields]
        sum_fb, square_fb = (sums[fields] for sums in self._sums())
        gate_grad = torch.mul(
            self._grad_sums.pop((edge, fields.start)), of_grad_f[:, None], out=self._gates_grad[edge, fields]
        )
        gate_grad.addcmul_(gates_fb * square_fb, of_y_f[:, None]).addcmul_(sum_fb, constant_f[:, None])
        base_grad = self._base_grad[fields]
        base_grad.addcmul_(grad_fdb, (gates_fb * of_grad_f[:, None]).unsqueeze(1))
        base_grad.addcmul_(base_fdb[fields], (gates_fb.square() * of_y_f[:, None]).unsqueeze(1))
        base_grad.add_((gates_fb * constant_f[:, None]).unsqueeze(1))

    def grads(self) -> tuple[torch.Tensor, ...]:
        """See Result."""
        assert self._base_grad is not None
        assert self._gates_grad is not None
        return self._base_grad, self._gates_grad

    def _sums(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums over D of base and of its square, (F, B)."""
        if self._sums_fb is None:
            self._sums_fb = (self.factors[0].sum(1), self.factors[0].square().sum(1))
        return self._sums_fb


def results_of(factors: Sequence[torch.Tensor], is_rectified: Sequence[bool], is_gated: Sequence[bool]) -> list[Result]:
    """Put each operator's factors, given one after another, together again."""
    rest = iter(factors)
    results: list[Result] = []
    for rectified, gated in zip(is_rectified, is_gated, strict=True):
        results.append(Scaled(next(rest), next(rest)) if gated else Dense(next(rest), rectified))
    return results
