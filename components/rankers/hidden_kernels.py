"""What a hidden layer does between its matrix products as a program in C: one pass over memory where torch takes several.

Stands below `hidden`, whose passes by torch compute the same but for rounding. It works on a CPU, in float32 or float64, and
gives the same bits whatever the number of torch's threads, which share its rows. Letters: B rows in a batch, H hidden units.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from components.compiling import addresses, compile_program, share, whole_numbers

_SOURCE = Path(__file__).resolve().with_name("hidden.c")

# Rows that one thread takes at a time; what is added up over rows is added up within them first.
_ROWS_AT_ONCE = 1024


class Normed(NamedTuple):
    """What a layer keeps of batch norm, ReLU and dropout for their slopes.

    passed_bh   (B, H), above 0 where what dropout yields is
    z_bh        (B, H), what batch norm was given
    mean_h      (H,), of z's columns
    gain_h      (H,), what z - mean is multiplied by in all
    rate_h      (H,), 1 / the standard deviation of z's columns
    """

    passed_bh: torch.Tensor
    z_bh: torch.Tensor
    mean_h: torch.Tensor
    gain_h: torch.Tensor
    rate_h: torch.Tensor


class CompiledPasses:
    """See `hidden.Passes`. All tensors are contiguous, of one type, on the CPU."""

    def __init__(self) -> None:
        """Compile for float32 at once, so that a missing compiler is known before a training begins; raises ConfigError."""
        _compile(torch.float32)

    def activate(
        self, z_bh: torch.Tensor, norm: nn.BatchNorm1d, kept_bh: torch.Tensor | None, scale: float
    ) -> tuple[torch.Tensor, Normed]:
        """Through batch norm (whose running figures follow), ReLU and dropout; what passed is a byte each."""
        mean_h, squares_h = self._measure(z_bh)
        self._follow(norm, mean_h, squares_h / (len(z_bh) - 1))
        rate_h = (squares_h / len(z_bh) + norm.eps).rsqrt().to(z_bh.dtype)
        mean_h, gain_h, shift_h = mean_h.to(z_bh.dtype), norm.weight * rate_h * scale, norm.bias * scale
        y_bh, passed_bh = (
            torch.empty_like(z_bh),
            torch.ones_like(z_bh, dtype=torch.bool) if kept_bh is None else kept_bh,
        )
        _go_through("activate", y_bh, z_bh, mean_h, gain_h, shift_h, passed_bh, y_bh)
        return y_bh, Normed(passed_bh, z_bh, mean_h, gain_h, rate_h)

    def slopes(self, slope_bh: torch.Tensor, normed: Normed) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Back through the three."""
        passed_bh, z_bh, mean_h, gain_h, rate_h = normed
        slope_bh = slope_bh.contiguous()
        sums_2h = _pieces_of(z_bh)
        _go_through("sum_slopes", z_bh, slope_bh, passed_bh, z_bh, mean_h, pieces=sums_2h)
        sum_h, sum_centred_h = sums_2h.sum(0).to(z_bh.dtype).unbind(0)
        of_z_h, constant_h = gain_h * rate_h.square() * sum_centred_h / len(z_bh), gain_h * sum_h / len(z_bh)
        slope_z_bh = torch.empty_like(z_bh)
        _go_through("slopes_of_z", z_bh, slope_bh, passed_bh, z_bh, mean_h, gain_h, of_z_h, constant_h, slope_z_bh)
        return slope_z_bh, sum_h, sum_centred_h

    def _measure(self, z_bh: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each column's mean, and its sum of squared distances from it, in float64."""
        moments = _pieces_of(z_bh)
        _go_through("measure", z_bh, z_bh, pieces=moments)
        means_ph, squares_ph = moments.unbind(1)
        starts = torch.arange(0, len(z_bh), _ROWS_AT_ONCE)
        rows_p1 = (len(z_bh) - starts).clamp(max=_ROWS_AT_ONCE)[:, None]
        mean_h = (rows_p1 * means_ph).sum(0) / len(z_bh)
        return mean_h, squares_ph.sum(0) + (rows_p1 * (means_ph - mean_h).square()).sum(0)

    def _follow(self, norm: nn.BatchNorm1d, mean_h: torch.Tensor, variance_h: torch.Tensor) -> None:
        assert norm.momentum is not None
        for running_h, now_h in ((norm.running_mean, mean_h), (norm.running_var, variance_h)):
            assert running_h is not None
            running_h.lerp_(now_h.to(running_h.dtype), norm.momentum)


def _pieces_of(z_bh: torch.Tensor) -> torch.Tensor:
    """Two numbers a column for each piece of rows, to be written."""
    return z_bh.new_empty(-(-len(z_bh) // _ROWS_AT_ONCE), 2, z_bh.shape[1], dtype=torch.float64)


def _go_through(
    name: str, like_bh: torch.Tensor, *tensors: torch.Tensor | None, pieces: torch.Tensor | None = None
) -> None:
    """Let a C function go through all rows; it writes one of the tensors, or its own part of `pieces`."""
    function = getattr(_compile(like_bh.dtype), name)
    given = addresses(*tensors)

    def work(start: int, end: int) -> int:
        own = [] if pieces is None else addresses(pieces[start // _ROWS_AT_ONCE])
        status: int = function(*given, *own, *whole_numbers(like_bh.shape[1], start, end))
        return status

    share(work, len(like_bh), _ROWS_AT_ONCE)


@functools.cache
def _compile(dtype: torch.dtype) -> ctypes.CDLL:
    """Half a second."""
    return compile_program([_SOURCE], dtype, {})
