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
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import torch

from components.errors import ConfigError

COMPILER = "cc"
_FLAGS = ("-O3", "-march=native", "-std=gnu11", "-Wno-psabi", "-fPIC", "-shared")
_SOURCES = ("attending.c", "multiplying.c", "mixing.c")
_TENSORS = ("y", "bias", "gates", "mean", "scale", "y_grad", "bias_grad", "gates_grad")  # of `struct result`
_NUMBERS = {torch.float32: "float", torch.float64: "double"}

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


def can_compile() -> bool:
    """Whether there is a C compiler on the PATH."""
    return shutil.which(COMPILER) is not None


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
        tensors = _addresses(x_fdb, pairing_edd, value_edd, y_efdb)
        attend = self._program(x_fdb.dtype).attend
        _share(lambda start, end: attend(*tensors, *_numbers(num_edges, num_rows, start, end)), num_rows, _ROWS_AT_ONCE)
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
        tensors = _addresses(x_fdb, pairing_edd, value_edd, y_grad_efdb, x_grad_fdb)
        attend_backward = self._program(x_fdb.dtype).attend_backward

        def work(start: int, end: int) -> int:
            own = weights_grad[start // _ROWS_AT_ONCE] if needs_weights else None
            status: int = attend_backward(*tensors, *_addresses(own), *_numbers(num_edges, num_rows, start, end))
            return status

        _share(work, num_rows, _ROWS_AT_ONCE)
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
        self, results: Sequence[Factors], strength_eo: torch.Tensor, epsilon: float, measures: bool
    ) -> torch.Tensor:
        """The weighted sums of normalised y, rectified where it must be, (E, F, D, B).

        `measures`: by y's own mean and scale, which are written; else by those that the results bring.
        """
        num_edges, num_rows = len(strength_eo), results[0].y.shape[-1]
        parts_efdb = strength_eo.new_empty(num_edges, self._num_fields, self._width, num_rows)
        mix = self._program(strength_eo.dtype).mix
        given = (_results(results), *_numbers(len(results)), *_addresses(strength_eo), ctypes.c_double(epsilon))
        numbers = (*_addresses(parts_efdb), *_numbers(int(measures), num_edges, num_rows))
        _share(lambda start, end: mix(*given, *numbers, *_numbers(start, end)), self._num_fields, 1)
        return parts_efdb

    def mix_backward(
        self, results: Sequence[Factors], strength_eo: torch.Tensor, grads_fdb: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """From the gradients of each edge's sum (F, D, B): that of every strength (E, O); writes the results' that are asked for."""
        num_rows = results[0].y.shape[-1]
        dots_eof = strength_eo.new_empty(*strength_eo.shape, self._num_fields)
        grads = (ctypes.c_void_p * len(grads_fdb))(*(grad.data_ptr() for grad in grads_fdb))
        given = (_results(results), *_numbers(len(results)), *_addresses(strength_eo), grads, *_addresses(dots_eof))
        mix_backward = self._program(strength_eo.dtype).mix_backward
        _share(
            lambda start, end: mix_backward(*given, *_numbers(len(strength_eo), num_rows, start, end)),
            self._num_fields,
            1,
        )
        return dots_eof.sum(2)

    def _multiply(self, name: str, *tensors: torch.Tensor) -> None:
        function = getattr(self._program(tensors[0].dtype), name)
        given = (*_addresses(*tensors), *_numbers(tensors[0].shape[-1]))
        _share(lambda start, end: function(*given, *_numbers(start, end)), tensors[0][0].numel(), 4 * _ROWS_AT_ONCE)

    def _program(self, dtype: torch.dtype) -> _Program:
        return _compile(self._num_fields, self._width, _NUMBERS[dtype])


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
def _compile(num_fields: int, width: int, number: str) -> _Program:
    """About two seconds. The file is gone as soon as it is loaded: what a processor understands is not for another one."""
    folder = Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory(prefix="ctr-kernels-") as made:
        library = Path(made) / "kernels.so"
        shape = (f"-DFIELDS={num_fields}", f"-DWIDTH={width}", f"-DREAL={number}")
        command = [COMPILER, *_FLAGS, *shape, *(str(folder / name) for name in _SOURCES), "-o", str(library), "-lm"]
        where = "params.yaml [search] kernels: 'compiled'"
        instead = (
            "set search.kernels to 'torch', which gives the same but for rounding, and takes more than twice the time"
        )
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise ConfigError(
                f"{where} needs a C compiler, and there is no {COMPILER!r} on the PATH: install one "
                f"(Debian: apt-get install gcc libc6-dev), or {instead}"
            ) from None
        except subprocess.CalledProcessError as failed:
            raise ConfigError(
                f"{where}: {COMPILER} ended with {failed.returncode}: {failed.stderr.strip()[-500:]}; {instead}"
            ) from None
        try:
            loaded = ctypes.CDLL(str(library))
        except OSError as failed:
            raise ConfigError(
                f"{where}: {library} was compiled and cannot be loaded: {failed}; if programs may not run from there "
                f"(noexec), let TMPDIR name another folder, or {instead}"
            ) from None
    return _Program(**{field.name: getattr(loaded, field.name) for field in dataclasses.fields(_Program)})


def _share(work: Callable[[int, int], int], total: int, step: int) -> None:
    """Call work(start, end) for all pieces of `step` in range(total), by as many threads as torch has."""
    pieces = [(start, min(start + step, total)) for start in range(0, total, step)]
    statuses: list[int] = []

    def take(own: Sequence[tuple[int, int]]) -> None:
        statuses.extend(work(start, end) for start, end in own)

    count = min(torch.get_num_threads(), len(pieces))
    threads = [Thread(target=take, args=(pieces[number::count],)) for number in range(1, count)]
    for thread in threads:
        thread.start()
    take(pieces[::count])
    for thread in threads:
        thread.join()
    if any(statuses):
        raise MemoryError("the search's kernels: no memory for their rows in between")


def _results(results: Sequence[Factors]) -> ctypes.Array[_Result]:
    given = (
        _Result(
            *_addresses(*(getattr(one, name) for name in _TENSORS)),
            *_numbers(len(one.mean), int(one.is_rectified)),
        )
        for one in results
    )
    return (_Result * len(results))(*given)


def _addresses(*tensors: torch.Tensor | None) -> list[ctypes.c_void_p]:
    assert all(tensor is None or tensor.is_contiguous() for tensor in tensors)
    return [ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in tensors]


def _numbers(*numbers: int) -> list[ctypes.c_long]:
    return [ctypes.c_long(number) for number in numbers]
