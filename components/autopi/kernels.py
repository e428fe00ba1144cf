"""The supernet's dearest pieces of work as a program in C, compiled for one log's shape when a search begins.

Stands beside `attending`, `multiplying` and `mixing`, whose C files it compiles with the machine's own compiler and calls through ctypes.
Torch does the same work in many passes over memory; the program goes through it once, in vectors of rows. It computes on a CPU,
in float32 or float64, and gives the same bits whatever the number of torch's threads, which it shares its work among.
Letters: B rows in a batch, F fields, D embedding width, O operators, E edges, V views (E, or 1 for all edges).
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from components.compiling import addresses, compile_program, share, whole_numbers

_SOURCES = ("attending.c", "multiplying.c", "mixing.c")
_TENSORS = ("y", "bias", "gates", "mean", "scale", "y_grad", "bias_grad", "gates_grad")  # of `struct result`

# Rows, or places of a field, that one thread takes at a time; attention's gradients of weights are summed up within them first.
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Factors:
    """One operator's y on the way to batch norm and back: y (V, F, D, B), perhaps with a bias (V, F, D) that is still to be added,
    or base (F, D, B) and gates (E, F, B), whose product it is.

    mean, scale   (V, F), y's mean and 1 / standard deviation, written by `mix` that measures and read by `mix_backward`
    y_grad, bias_grad, gates_grad   like y, bias and gates, written by `mix_backward`; None: not asked for
    """

    is_rectified: bool
    mean: torch.Tensor
    scale: torch.Tensor
    y: torch.Tensor
    bias: torch.Tensor | None
    gates: torch.Tensor | None
    y_grad: torch.Tensor | None
    bias_grad: torch.Tensor | None
    gates_grad: torch.Tensor | None


class _Result(ctypes.Structure):
    """`struct result` in mixing.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _TENSORS),
        *((name, ctypes.c_long) for name in ("num_views", "is_rectified")),
    )


class Kernels:
    """The program for F fields of width D. All tensors are contiguous, of one type, on the CPU."""

    def __init__(self, num_fields: int, width: int) -> None:
        """Compile for float32 at once, so that a missing compiler is known before a search begins; raises ConfigError."""
        self._num_fields, self._width = num_fields, width
        self._program(torch.float32)

    def attend(self, x_fdb: torch.Tensor, pairing_edd: torch.Tensor, value_edd: torch.Tensor) -> torch.Tensor:
        """V sum_g softmax_g(x_f' M x_g) x_g: (F, D, B), M and V (E, D, D) -> (E, F, D, B)."""
        num_edges, num_rows = len(pairing_edd), x_fdb.shape[-1]
        y_efdb = x_fdb.new_empty(num_edges, *x_fdb.shape)
        tensors = addresses(x_fdb, pairing_edd, value_edd, y_efdb)
        attend = self._program(x_fdb.dtype).attend
        share(
            lambda start, end: attend(*tensors, *whole_numbers(num_edges, num_rows, start, end)),
            num_rows,
            _ROWS_AT_ONCE,
        )
        return y_efdb

    def attend_backward(
        self,
        x_fdb: torch.Tensor,
        pairing_edd: torch.Tensor,
        value_edd: torch.Tensor,
        y_grad_efdb: torch.Tensor,
        needs_x: bool,
        needs_weights: bool,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """The gradients of x, M and V, each None where it is not needed."""
        num_edges, num_rows = len(pairing_edd), x_fdb.shape[-1]
        x_grad_fdb = torch.empty_like(x_fdb) if needs_x else None
        num_pieces = -(-num_rows // _ROWS_AT_ONCE) if needs_weights else 0
        weights_grad = x_fdb.new_empty(num_pieces, 2, *pairing_edd.shape)
        tensors = addresses(x_fdb, pairing_edd, value_edd, y_grad_efdb, x_grad_fdb)
        attend_backward = self._program(x_fdb.dtype).attend_backward

        def work(start: int, end: int) -> int:
            own = weights_grad[start // _ROWS_AT_ONCE] if needs_weights else None
            status: int = attend_backward(*tensors, *addresses(own), *whole_numbers(num_edges, num_rows, start, end))
            return status

        share(work, num_rows, _ROWS_AT_ONCE)
        if not needs_weights:
            return x_grad_fdb, None, None
        pairing_grad, value_grad = weights_grad.sum(0).unbind(0)
        return x_grad_fdb, pairing_grad, value_grad

    def multiply_others(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """Each field times the sum of all the others: (F, D, B) -> (F, D, B)."""
        y_fdb = torch.empty_like(x_fdb)
        self._multiply("multiply_others", x_fdb, y_fdb)
        return y_fdb

    def multiply_others_backward(self, x_fdb: torch.Tensor, y_grad_fdb: torch.Tensor) -> torch.Tensor:
        """The gradient of x."""
        x_grad_fdb = torch.empty_like(x_fdb)
        self._multiply("multiply_others_backward", x_fdb, y_grad_fdb, x_grad_fdb)
        return x_grad_fdb

    def mix(
        self,
        results: Sequence[Factors],
        strength_eof: torch.Tensor,
        shift_ef: torch.Tensor,
        epsilon: float,
        measures: bool,
    ) -> torch.Tensor:
        """The weighted sums of normalised y, rectified where it must be, and the shifts: (E, F, D, B).

        `measures`: by y's own mean and scale, which are written; else by those that the results bring.
        """
        num_edges, num_rows = len(strength_eof), results[0].y.shape[-1]
        parts_efdb = strength_eof.new_empty(num_edges, self._num_fields, self._width, num_rows)
        mix = self._program(strength_eof.dtype).mix
        given = (_results(results), *whole_numbers(len(results)), *addresses(strength_eof, shift_ef))
        more = (ctypes.c_double(epsilon), *addresses(parts_efdb), *whole_numbers(int(measures), num_edges, num_rows))
        share(lambda start, end: mix(*given, *more, *whole_numbers(start, end)), self._num_fields, 1)
        return parts_efdb

    def mix_backward(
        self, results: Sequence[Factors], strength_eof: torch.Tensor, grads_fdb: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """From the gradients of each edge's sum (F, D, B): those of strengths (E, O, F) and shifts (E, F); writes the results' that
        are asked for.
        """
        num_edges, num_rows = len(strength_eof), results[0].y.shape[-1]
        dots_eof, sums_ef = torch.empty_like(strength_eof), strength_eof.new_empty(num_edges, self._num_fields)
        grads = (ctypes.c_void_p * len(grads_fdb))(*(grad.data_ptr() for grad in grads_fdb))
        given = (_results(results), *whole_numbers(len(results)), *addresses(strength_eof), grads)
        more = (*addresses(dots_eof, sums_ef), *whole_numbers(num_edges, num_rows))
        mix_backward = self._program(strength_eof.dtype).mix_backward
        share(lambda start, end: mix_backward(*given, *more, *whole_numbers(start, end)), self._num_fields, 1)
        return dots_eof, sums_ef

    def _multiply(self, name: str, *tensors: torch.Tensor) -> None:
        function = getattr(self._program(tensors[0].dtype), name)
        given = (*addresses(*tensors), *whole_numbers(tensors[0].shape[-1]))
        share(lambda start, end: function(*given, *whole_numbers(start, end)), tensors[0][0].numel(), 4 * _ROWS_AT_ONCE)

    def _program(self, dtype: torch.dtype) -> _Program:
        return _compile(self._num_fields, self._width, dtype)


@dataclass(frozen=True)
class _Program:
    """The C functions; each gives 0, or 1 where memory is short."""

    attend: Callable[..., int]
    attend_backward: Callable[..., int]
    multiply_others: Callable[..., int]
    multiply_others_backward: Callable[..., int]
    mix: Callable[..., int]
    mix_backward: Callable[..., int]


@functools.lru_cache(maxsize=8)
def _compile(num_fields: int, width: int, dtype: torch.dtype) -> _Program:
    """About two seconds."""
    folder = Path(__file__).resolve().parent
    paths = [folder / name for name in _SOURCES]
    loaded = compile_program(paths, dtype, {"FIELDS": num_fields, "WIDTH": width})
    return _Program(**{field.name: getattr(loaded, field.name) for field in dataclasses.fields(_Program)})


def _results(results: Sequence[Factors]) -> ctypes.Array[_Result]:
    given = (
        _Result(
            *addresses(*(getattr(one, name) for name in _TENSORS)),
            *whole_numbers(len(one.mean), int(one.is_rectified)),
        )
        for one in results
    )
    return (_Result * len(results))(*given)
