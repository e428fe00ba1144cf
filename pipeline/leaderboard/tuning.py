"""A few trials a ranker, the same number for each, chosen on tune alone: embedding L2, learning rate and dropout."""

from __future__ import annotations

from typing import Any

from components.rankers.autorec import AutoRecParams
from pipeline.leaderboard.bench import Bench, Task
from pipeline.leaderboard.results import Spent, Trial, Tuned


class Tuning:
    """One ranker's trials so far: the first is the preset, the following are Optuna's (TPE, seeded, so a resumed board asks for the same)."""

    def __init__(self, bench: Bench, row: str) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._bench = bench
        self._row = row
        task = Task(row, bench.board.seed, None, is_trial=True)
        self._ranker = task.ranker
        self._preset = bench.tuned_of(task)
        self._spent: list[Spent] = []
        self._study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.TPESampler(seed=bench.board.seed)
        )
        self._asked: Any = None
        self._best: Trial | None = None
        self._study.enqueue_trial({"embedding_l2": 1.0, "learning_rate": 1.0, "dropout": self._preset.dropout})

    def next_task(self) -> Task:
        """What to try now."""
        board = self._bench.board
        self._asked = self._study.ask()
        l2 = self._asked.suggest_float("embedding_l2", *board.embedding_l2_factors, log=True)
        rate = self._asked.suggest_float("learning_rate", *board.learning_rate_factors, log=True)
        dropouts = sorted({*board.dropouts, self._preset.dropout})
        has_dropout = self._has_hidden_layers()
        dropout = self._asked.suggest_categorical("dropout", dropouts) if has_dropout else self._preset.dropout
        tuned = Tuned(self._preset.embedding_l2 * l2, self._preset.learning_rate * rate, dropout)
        return Task(self._row, board.seed, tuned, is_trial=True)

    def take(self, trial: Trial | None) -> None:
        """Tell how it went; None for a trial that failed."""
        import optuna

        if trial is None:
            self._study.tell(self._asked, state=optuna.trial.TrialState.FAIL)
            return
        self._study.tell(self._asked, trial.tune_auc)
        self._spent.append(trial.spent)
        if self._best is None or trial.tune_auc > self._best.tune_auc:
            self._best = trial

    @property
    def best(self) -> Tuned | None:
        """The params with the best tune AUC; None where every trial failed."""
        return self._best.tuned if self._best is not None else None

    @property
    def spent(self) -> Spent | None:
        """What the trials took, those that failed not counted; None where there was none."""
        return Spent.total(self._spent)

    def _has_hidden_layers(self) -> bool:
        shape = self._bench.train.ranker_params[self._ranker]
        return bool(shape.hidden_widths) or isinstance(shape, AutoRecParams)  # whose perceptron blocks have them
