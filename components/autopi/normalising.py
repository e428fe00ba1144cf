"""Batch norm's figures, wherever a node's edges are normalised: the same in the search and in the found network.

Letters: F fields, V views (see `results`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

# Torch's own choices.
EPSILON = 1e-5
MOMENTUM = 0.1

Running = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""By result: running mean and variance, (V, F) each."""


def follow(running: Running, means: Sequence[torch.Tensor], scales: Sequence[torch.Tensor], length: int) -> None:
    """Let the running statistics follow means and 1 / standard deviations (V, F) of a batch of `length` numbers a field."""
    for (running_mean, running_var), mean_vf, scale_vf in zip(running, means, scales, strict=True):
        running_mean.lerp_(mean_vf, MOMENTUM)
        running_var.lerp_((scale_vf.pow(-2) - EPSILON) * (length / max(length - 1, 1)), MOMENTUM)
