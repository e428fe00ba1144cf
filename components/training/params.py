"""What people decide about a training; every value stands in params.yaml or logs/<name>.yaml."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pydantic

from components.errors import ConfigError
from components.rankers import RankerParams, parse_ranker_params
from components.stepping import TermLearning
from components.strict import Strict

OTHERS = "others"
"""The key that stands for every ranker without an entry of its own."""

SEEDS_APART = 1000
"""Between the seeds of two members, so that those of neighbouring seeds have none in common."""


def _typed_by_name(content: Any) -> dict[str, RankerParams]:
    where = "params.yaml [train] ranker_params"
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected a mapping of rankers to their params, got {content!r}")
    return {name: parse_ranker_params(name, own, f"{where}.{name}", ConfigError) for name, own in content.items()}


@dataclass(frozen=True)
class TrainParams(Strict):
    """How a ranker's weights are fitted.

    ranker                    "autopi" (the found architecture) or a name in `components.rankers.RANKERS`
    ranker_params             by ranker's name: its shape, RankerParams or what its family makes of them
    embedding_l2              by ranker's name, or "others": the penalty on its embedding tables E is L2/2 * ||E||^2 a batch
    terms                     of the terms beside a found network; the other rankers have none
    max_epochs                epochs, at most
    batch_rows                rows a step, also when scoring tune
    num_threads               torch's on the CPU; what is learned depends on it, so it is not the machine's
    kernels                   what does the work between matrix products on a CPU, of hidden layers and a found network's cells: "torch",
                              or "compiled", programs in C made as the training begins (needs `cc`); both the same but for rounding
    learning_rate             by ranker's name, or "others": Adam's, at the start
    learning_rate_factor      the learning rate is multiplied by it (0 < factor < 1) when tune stops improving
    num_learning_rate_drops   so many times; the next time the training ends
    patience_epochs           epochs without a better tune figure before that happens
    monitor                   the tune figure that decides: "auc" or "log_loss" (of scores corrected for downsampling and weight)
    negative_keep_rate        share w of train's rows without a click that are kept, 0 < w <= 1
    click_weight              how often a row with a click counts in the loss, at least 1
    focal_gamma               a row's loss is multiplied by (1 - p)^gamma, p being what is promised to what happened; 0: not
    weight_averaging          d: the weights judged on tune and kept are an average that forgets at the rate 1 - d a step
                              (`components.averaging`), 0 <= d < 1; 0: the last weights
    num_members               networks that learn apart from one another, whose logits are averaged (`components.rankers.ensemble`)
    seed                      of initial weights, dropout, the order of rows and the kept negatives; a member's is SEEDS_APART
                              above that of the one before
    """

    ranker: str
    ranker_params: Annotated[dict[str, RankerParams], pydantic.PlainValidator(_typed_by_name)]
    embedding_l2: dict[str, float]
    terms: TermLearning
    max_epochs: int
    batch_rows: int
    num_threads: int
    kernels: Literal["torch", "compiled"]
    learning_rate: dict[str, float]
    learning_rate_factor: float
    num_learning_rate_drops: int
    patience_epochs: int
    monitor: Literal["auc", "log_loss"]
    negative_keep_rate: float
    click_weight: float
    focal_gamma: float
    weight_averaging: float
    num_members: int
    seed: int

    def of_member(self, number: int) -> TrainParams:
        """What member `number`, from 0, learns by: these params for it alone."""
        return dataclasses.replace(self, num_members=1, seed=self.seed + number * SEEDS_APART)

    @property
    def own_learning_rate(self) -> float:
        """That of the chosen ranker."""
        return _own(self.learning_rate, self.ranker)

    @property
    def own_embedding_l2(self) -> float:
        """That of the chosen ranker."""
        return _own(self.embedding_l2, self.ranker)

    @property
    def odds_rate(self) -> float:
        """How much smaller true odds are than those learned: keeping w of the negatives or counting clicks 1 / w times alike.

        Scores p then stand for q = p / (p + (1 - p) / w): exact, for the minimum of the log loss (not of the focal loss).
        """
        return self.negative_keep_rate / self.click_weight


def _own(values: dict[str, float], name: str) -> float:
    return values[name] if name in values else values[OTHERS]
