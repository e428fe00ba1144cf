"""What must hold of a training's params before it starts."""

from __future__ import annotations

from components.errors import ConfigError
from components.rankers import RANKERS
from components.training.params import TrainParams
from components.training.trained import AUTOPI, unknown_ranker


def check_params(params: TrainParams) -> None:
    """Raise ConfigError naming every promise that these params break."""
    name = params.ranker
    if name not in (AUTOPI, *RANKERS):
        raise unknown_ranker(name)
    if name not in params.ranker_params or name not in params.embedding_l2:
        raise ConfigError(f"params.yaml and logs/<name>.yaml [train] need ranker_params and embedding_l2 for '{name}'")
    shape, l2 = params.ranker_params[name], params.embedding_l2[name]
    promises = {
        "0 < negative_keep_rate <= 1": 0 < params.negative_keep_rate <= 1,
        "0 < learning_rate_factor < 1": 0 < params.learning_rate_factor < 1,
        "learning_rate > 0": params.learning_rate > 0,
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
