"""What a training makes small: the log loss, or one of its two changes for logs with few clicks.

Shape letter: B rows in a batch.
"""

from __future__ import annotations

import functools

import torch
from torch.nn import functional

from components.stepping import Loss
from components.training.params import TrainParams


def loss_of(params: TrainParams) -> Loss:
    """`mean_loss` as params have it."""
    return functools.partial(mean_loss, click_weight=params.click_weight, focal_gamma=params.focal_gamma)


def mean_loss(logits_b: torch.Tensor, clicks_b: torch.Tensor, click_weight: float, focal_gamma: float) -> torch.Tensor:
    """The mean over rows of weight * (1 - p)^gamma * -log p, p being the probability given to what happened; in nats.

    click_weight  counts rows with a click so often; the minimum then has 1 / click_weight of its odds too few for true
                  ones, exactly (TrainParams.odds_rate)
    focal_gamma   Lin et al. 2017, eq. 4; scores at its minimum are drawn towards 1/2, which only a calibrator undoes
    """
    if focal_gamma == 0:
        weight = None if click_weight == 1 else logits_b.new_tensor(click_weight)
        return functional.binary_cross_entropy_with_logits(logits_b, clicks_b, pos_weight=weight)
    towards_b = (2 * clicks_b - 1) * logits_b
    # By logarithms, so that a row that is surely right has the slope 0 and not 0 * infinity.
    losses_b = -(focal_gamma * functional.logsigmoid(-towards_b)).exp() * functional.logsigmoid(towards_b)
    return (losses_b * (1 + (click_weight - 1) * clicks_b)).mean()
