"""The running average of a ranker's weights over its training, which is judged and kept in place of the last ones.

A step of Adam at a constant rate leaves weights that wander about a minimum; their average lies nearer to it (Polyak and
Juditsky 1992, "Acceleration of stochastic approximation by averaging"). It costs one pass over the weights a step and
nothing in serving.
"""

from __future__ import annotations

import torch
from torch.optim.swa_utils import AveragedModel

from components.rankers import Ranker

_Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]


def averaged(ranker: Ranker, decay: float) -> AveragedModel:
    """Follow a ranker's weights and running statistics; its `update_parameters(ranker)` belongs after each step.

    After step n (counted from 0), average += (1 - d) * (weight - average), with d = min(decay, (1 + n) / (10 + n)): the
    first steps, far from where the training ends, are soon forgotten. A decay of 0 gives the ranker's own weights.
    """

    def go_towards(averages: _Tensors, weights: _Tensors, num_averaged: torch.Tensor | int) -> None:
        if not averages[0].is_floating_point():  # the counters of batch norm
            torch._foreach_copy_(averages, weights)
            return
        num_steps = int(num_averaged)  # on the CPU, so that no step waits for a GPU
        torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + num_steps) / (10 + num_steps)))

    return AveragedModel(ranker, multi_avg_fn=go_towards, use_buffers=True)
