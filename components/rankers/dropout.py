"""Dropout that draws a quarter of the random numbers: 16 bits decide over a unit, where torch spends 64.

A third of a perceptron's step on a CPU was drawing (measured: 24,000 -> 28,000 rows per core-second for 3 x 400 units). On a
CPU the bits come from SFC64, at half the price of torch's own generator.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

_LEVELS = 1 << 16
_LEVELS_PER_DRAW = 4
_SEEDS = 1 << 62


class Dropout(nn.Module):
    """In learning each number is zero with probability `share`, rounded to 1/65536, and else scaled to keep the mean."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.num_levels_dropped = round(share * _LEVELS)

    @property
    def scale(self) -> float:
        """What the numbers that are kept are multiplied by."""
        return _LEVELS / (_LEVELS - self.num_levels_dropped)

    def draw_kept(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Draw which numbers are kept: booleans on the CPU.

        torch's default generator gives the seed of a faster one (SFC64), so its state decides over everything drawn.
        """
        count = math.prod(shape)
        seed = int(torch.randint(_SEEDS, ()))
        draws = np.random.SFC64(seed).random_raw(-(-count // _LEVELS_PER_DRAW))
        levels = draws.view(np.uint16)[:count].reshape(shape)
        return torch.from_numpy(levels >= self.num_levels_dropped)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give `x` with some of its numbers left out, or as it is in eval mode; any shape."""
        if not self.training or self.num_levels_dropped == 0:
            return x
        if x.device.type == "cpu":
            is_kept = self.draw_kept(tuple(x.shape))
        else:
            draws = torch.empty(-(-x.numel() // _LEVELS_PER_DRAW), dtype=torch.int64, device=x.device)
            levels = draws.random_(torch.iinfo(torch.int64).min, None).view(torch.int16)[: x.numel()].view(x.shape)
            is_kept = levels >= self.num_levels_dropped - _LEVELS // 2
        return x * is_kept.to(x.dtype).mul_(self.scale)
