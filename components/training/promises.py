"""What must hold of a training's params before it starts."""

from __future__ import annotations

from typing import Any

from components.errors import ConfigError
from components.rankers import RANKERS
from components.training.params import TrainParams
from components.training.trained import AUTOPI, unknown_ranker


def check_params(params: TrainParams) -> None:
    """Raise ConfigError naming every promise that these params break."""
    name = params.ranker
    if name not in (AUTOPI, *RANKERS):
        raise unknown_ranker(name)
    by_ranker: dict[str, dict[str, Any]] = {
        "ranker_params": dict(params.ranker_params),
        "learning_rate": dict(params.learning_rate),
        "embedding_l2": dict(params.embedding_l2),
    }
    absent = [key for key, values in by_ranker.items() if name not in values]
    if absent:
        raise ConfigError(f"params.yaml or logs/<name>.yaml [train] has no {' and no '.join(absent)} for '{name}'")
    shape, rate, l2 = params.ranker_params[name], params.learning_rate[name], params.embedding_l2[name]
    promises = {
        "0 < negative_keep_rate <= 1": 0 < params.negative_keep_rate <= 1,
        "0 < learning_rate_factor < 1": 0 < params.learning_rate_factor < 1,
        f"learning_rate.{name} > 0": rate > 0,
        "max_epochs >= 1": params.max_epochs >= 1,
        "batch_rows >= 2": params.batch_rows >= 2,
        "patience_epochs >= 1": params.patience_epochs >= 1,
        "num_learning_rate_drops >= 0": params.num_learning_rate_drops >= 0,
        "seed >= 0": params.seed >= 0,
        f"embedding_l2.{name} >= 0": l2 >= 0,
        f"ranker_params.{name}.embedding_width >= 1": shape.embedding_width >= 1,
        f"ranker_params.{name}.hidden_widths >= 1": all(width >= 1 for width in shape.hidden_widths),
        f"0 <= ranker_params.{name}.dropout < 1": 0 <= shape.dropout < 1,
    }
    broken = [promise for promise, holds in promises.items() if not holds]
    if broken:
        raise ConfigError(f"params.yaml [train] promises do not hold: {'; '.join(broken)}; got {params}")
