"""Programs in C, compiled by the machine's own compiler for the one process that asks, and called through ctypes with tensors.

Stands below the kernels of rankers and of the search, which bring the C files. A program is for one type of number (and what
else it is compiled for), so a matter of a second or two before work that takes minutes.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from components.errors import ConfigError

COMPILER = "cc"
_FLAGS = ("-O3", "-march=native", "-std=gnu11", "-Wno-psabi", "-fPIC", "-shared")
_WHERE = "params.yaml [search] and [train] kernels: 'compiled'"
_INSTEAD = "set them to 'torch', which gives the same but for rounding, and takes longer"
_NUMBERS = {torch.float32: "float", torch.float64: "double"}


def can_compile() -> bool:
    """Whether there is a C compiler on the PATH."""
    return shutil.which(COMPILER) is not None


def uses_kernels(choice: str, device: torch.device) -> bool:
    """Whether `kernels` in params means compiled ones on this device; a GPU has no use for them."""
    return choice == "compiled" and device.type == "cpu"


@runtime_checkable
class HasKernels(Protocol):
    """A part of a network that can let compiled kernels do its work on a CPU."""

    def learn_by_kernels(self) -> None:
        """From now on; raises ConfigError where they cannot be compiled."""
        ...


def learn_by_kernels(network: nn.Module) -> None:
    """Let every part of a network that has kernels use them; raises ConfigError where they cannot be compiled.

    They are compiled once a process and shape, so a process that will fork others does well to call this first.
    """
    for module in network.modules():
        if isinstance(module, HasKernels):
            module.learn_by_kernels()


def compile_program(sources: Sequence[Path], dtype: torch.dtype, definitions: Mapping[str, int]) -> ctypes.CDLL:
    """Compile the files as one library for this processor, and load it; REAL is the type of number, float32 or float64.

    The file is gone as soon as it is loaded: what one processor understands is not for another. Raises ConfigError where there
    is no compiler, or it fails, or programs may not be loaded from the folder for temporary files.
    """
    defined = {"REAL": _NUMBERS[dtype], **definitions}
    with tempfile.TemporaryDirectory(prefix="ctr-kernels-") as made:
        library = Path(made) / "kernels.so"
        given = [*(f"-D{name}={value}" for name, value in defined.items()), *(str(path) for path in sources)]
        try:
            subprocess.run(
                [COMPILER, *_FLAGS, *given, "-o", str(library), "-lm"], check=True, capture_output=True, text=True
            )
        except FileNotFoundError:
            raise ConfigError(
                f"{_WHERE} needs a C compiler, and there is no {COMPILER!r} on the PATH: install one "
                f"(Debian: apt-get install gcc libc6-dev), or {_INSTEAD}"
            ) from None
        except subprocess.CalledProcessError as failed:
            raise ConfigError(
                f"{_WHERE}: {COMPILER} ended with {failed.returncode}: {failed.stderr.strip()[-500:]}; {_INSTEAD}"
            ) from None
        try:
            return ctypes.CDLL(str(library))
        except OSError as failed:
            raise ConfigError(
                f"{_WHERE}: {library} was compiled and cannot be loaded: {failed}; if programs may not run from there "
                f"(noexec), let TMPDIR name another folder, or {_INSTEAD}"
            ) from None


def share(work: Callable[[int, int], int], total: int, step: int) -> None:
    """Call work(start, end) for all pieces of `step` in range(total), by as many threads as torch has.

    `work` gives 0, or 1 where memory is short; then this raises MemoryError.
    """
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
        raise MemoryError("compiled kernels: no memory for their rows in between")


def addresses(*tensors: torch.Tensor | None) -> list[ctypes.c_void_p]:
    """Where the numbers of each lie, which must be one after another; None is C's NULL."""
    assert all(tensor is None or tensor.is_contiguous() for tensor in tensors)
    return [ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in tensors]


def whole_numbers(*numbers: int) -> list[ctypes.c_long]:
    """As C's long."""
    return [ctypes.c_long(number) for number in numbers]
