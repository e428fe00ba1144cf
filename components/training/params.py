"""What people decide about a training; every value stands in params.yaml or logs/<name>.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from components.rankers import RankerParams
from components.strict import Strict


@dataclass(frozen=True)
class TrainParams(Strict):
    """How a ranker's weights are fitted.

    ranker                    "autopi" (the found architecture) or a name in `components.rankers.RANKERS`
    ranker_params             by ranker's name: its shape, see RankerParams
    embedding_l2              by ranker's name: the penalty on its embedding tables E is L2/2 * ||E||^2 a batch
    max_epochs                epochs, at most
    batch_rows                rows a step, also when scoring tune
    learning_rate             by ranker's name: Adam's, at the start
    learning_rate_factor      the learning rate is multiplied by it (0 < factor < 1) when tune stops improving
    num_learning_rate_drops   so many times; the next time the training ends
    patience_epochs           epochs without a better tune figure before that happens
    monitor                   the tune figure that decides: "auc" or "log_loss" (of scores corrected for downsampling)
    negative_keep_rate        share w of train's rows without a click that are kept, 0 < w <= 1
    seed                      of initial weights, dropout, the order of rows and the kept negatives
    """

    ranker: str
    ranker_params: dict[str, RankerParams]
    embedding_l2: dict[str, float]
    max_epochs: int
    batch_rows: int
    learning_rate: dict[str, float]
    learning_rate_factor: float
    num_learning_rate_drops: int
    patience_epochs: int
    monitor: Literal["auc", "log_loss"]
    negative_keep_rate: float
    seed: int
