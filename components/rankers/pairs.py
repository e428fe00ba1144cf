"""Which fields make pairs: the P = F (F - 1) / 2 combinations i < j, as index tensors for one gather instead of a loop."""

from __future__ import annotations

import torch
from torch import nn


class Pairs(nn.Module):
    """Every pair of fields once: left_p < right_p, both (P,) int64, in the order (0, 1), (0, 2), ..., (F - 2, F - 1)."""

    left_p: torch.Tensor
    right_p: torch.Tensor
    flat_p: torch.Tensor

    def __init__(self, num_fields: int) -> None:
        super().__init__()
        left_p, right_p = torch.triu_indices(num_fields, num_fields, offset=1)
        # Not saved with the weights: the number of fields says it.
        self.register_buffer("left_p", left_p.clone(), persistent=False)
        self.register_buffer("right_p", right_p.clone(), persistent=False)
        self.register_buffer("flat_p", left_p * num_fields + right_p, persistent=False)
        self.count = num_fields * (num_fields - 1) // 2

    def dots(self, x_bfd: torch.Tensor) -> torch.Tensor:
        """The inner product of each pair's vectors: (B, F, D) -> (B, P)."""
        return torch.bmm(x_bfd, x_bfd.transpose(1, 2)).flatten(1).index_select(1, self.flat_p)

    def split(self, x_bfd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The vectors of the left and of the right field of each pair: (B, F, D) -> twice (B, P, D)."""
        return x_bfd.index_select(1, self.left_p), x_bfd.index_select(1, self.right_p)


def summed_pairs(x_bfd: torch.Tensor) -> torch.Tensor:
    """The sum over pairs of x_i * x_j, number by number, (B, F, D) -> (B, D): ((sum x)^2 - sum x^2) / 2."""
    return (x_bfd.sum(1).square() - x_bfd.square().sum(1)) / 2
