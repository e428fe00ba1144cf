"""AutoRec's space searched at random, greedily or by Optuna: candidates trained from scratch for a few epochs, the best on tune.

All three get the same number of candidates, and these together as many epochs as `halving` and `random` of AutoPI's space get
(`search.trial`), so that search costs can be compared. Every strategy proposes from what was measured so far and its
seed alone; so a search that was stopped asks for the same candidates again and finds them measured.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from components.autopi.halving import epochs_of_halving
from components.autopi.search_params import SearchParams
from components.encoding import Encoded
from components.errors import ConfigError
from components.rankers.autorec import (
    DEEP_KINDS,
    KINDS,
    MAX_BLOCKS,
    MAX_DEPTH,
    AutoRecParams,
    Block,
    may_read,
    num_tokens,
    read_line,
    to_line,
)
from components.strict import Strict, parse
from components.training import TrainParams, train_ranker
from components.workbench import Workbench

AUTOREC = "autorec"

# What a candidate whose training failed is worth: what chance is.
_CHANCE = 0.5
# So many draws in a row that give nothing new mean that there is nothing new.
_MAX_REPEATED_DRAWS = 1000


@dataclass(frozen=True)
class Candidate(Strict):
    """A measured network; `failure` says why its training came to nothing."""

    line: str
    tune_auc: float
    rows: int
    failure: str | None


@dataclass(frozen=True)
class Ground:
    """What proposals may build on: the fields and the tokens of a perceptron."""

    num_fields: int
    mlp_tokens: int

    def sources(self, blocks: list[Block], kind: str) -> list[int]:
        """What a further block of this kind may read."""
        counts = num_tokens(blocks, self.num_fields, self.mlp_tokens)
        return [number for number, count in enumerate(counts) if may_read(kind, count)]


class Strategy(Protocol):
    """Proposes the next network, given all that were measured."""

    def __call__(self, measured: list[Candidate]) -> str: ...


def search_autorec(
    encoded: Encoded, train: TrainParams, search: SearchParams, strategy: str, num_epochs: int, workbench: Workbench
) -> tuple[str, int]:
    """Give the best network's line and the rows that all candidates saw; `search.seed` decides the draws, `train.seed` the trainings.

    Raises Stopped after a checkpoint when asked to stop, and ConfigError where no candidate could be trained.
    """
    shape = train.ranker_params[AUTOREC]
    assert isinstance(shape, AutoRecParams)
    count = max(1, int(epochs_of_halving(search) / num_epochs + 1e-9))
    propose = STRATEGIES[strategy](Ground(len(encoded.field_sizes), shape.mlp_tokens), search.seed, count)
    workbench.checkpoints.mkdir(parents=True, exist_ok=True)
    record = workbench.checkpoints / "candidates.json"
    kept: list[Candidate] = []
    if record.is_file():
        kept = parse(list[Candidate], json.loads(record.read_text(encoding="utf-8")), str(record), ConfigError)
    measured: list[Candidate] = []
    for number in range(count):
        line = propose(measured)
        if number < len(kept):
            assert kept[number].line == line  # the folder is named after all that decides it
        else:
            twins = [dataclasses.replace(one, rows=0) for one in kept if one.line == line]
            place = dataclasses.replace(workbench, checkpoints=workbench.checkpoints / f"candidate_{number}")
            kept.append(twins[0] if twins else _measure(encoded, train, shape, line, num_epochs, place))
            unfinished = record.with_suffix(".unfinished")
            unfinished.write_text(json.dumps([dataclasses.asdict(one) for one in kept]), encoding="utf-8")
            unfinished.replace(record)
            shutil.rmtree(place.checkpoints, ignore_errors=True)
        measured.append(kept[number])
        workbench.progress(number + 1, count, f"{line} has {kept[number].tune_auc:.5f}")
        workbench.stop_if_asked(f"after candidate {number}")
    able = [one for one in measured if one.failure is None]
    if not able:
        raise ConfigError(
            f"none of {count} candidates of {strategy} search could be trained; the last: {measured[-1].failure}"
        )
    best = max(able, key=lambda one: one.tune_auc)
    return best.line, sum(one.rows for one in measured)


def _measure(
    encoded: Encoded, train: TrainParams, shape: AutoRecParams, line: str, num_epochs: int, workbench: Workbench
) -> Candidate:
    own = dataclasses.replace(shape, network=line)
    params = dataclasses.replace(
        train,
        ranker=AUTOREC,
        ranker_params=train.ranker_params | {AUTOREC: own},
        max_epochs=num_epochs,
        num_members=1,
    )
    try:
        trained = train_ranker(encoded, None, params, workbench)
    except ConfigError as error:
        return Candidate(line, _CHANCE, 0, str(error))
    return Candidate(line, trained.tune_auc, trained.num_rows_seen, None)


def random_network(ground: Ground, generator: np.random.Generator) -> str:
    """1 to MAX_BLOCKS blocks, each kind, depth and source alike."""
    blocks: list[Block] = []
    for _ in range(int(generator.integers(1, MAX_BLOCKS + 1))):
        blocks.append(_random_block(ground, blocks, generator))
    return to_line(blocks)


def _random_block(ground: Ground, before: list[Block], generator: np.random.Generator) -> Block:
    kinds = [kind for kind in KINDS if ground.sources(before, kind)]
    kind = kinds[int(generator.integers(len(kinds)))]
    depth = int(generator.integers(1, MAX_DEPTH + 1)) if kind in DEEP_KINDS else 1
    there = ground.sources(before, kind)
    sources = tuple(int(generator.choice(there)) for _ in range(2 if kind == "product" else 1))
    return Block(kind, depth, sources)


def _new(draw: Callable[[], str], measured: list[Candidate]) -> str:
    known = {one.line for one in measured}
    for _ in range(_MAX_REPEATED_DRAWS):
        line = draw()
        if line not in known:
            return line
    return line


def by_chance(ground: Ground, seed: int, count: int) -> Strategy:  # noqa: ARG001 - one signature for all
    """Every candidate drawn blindly, none twice."""
    generator = np.random.default_rng([seed, 2])
    return lambda measured: _new(lambda: random_network(ground, generator), measured)


def greedily(ground: Ground, seed: int, count: int) -> Strategy:  # noqa: ARG001
    """From one perceptron block on: the best network so far with one block more, less, or drawn anew."""
    generator = np.random.default_rng([seed, 3])

    def propose(measured: list[Candidate]) -> str:
        if not measured:
            return to_line([Block("mlp", 1, (0,))])
        best = max(measured, key=lambda one: one.tune_auc)
        return _new(lambda: _changed(ground, list(read_line(best.line)), generator), measured)

    return propose


def _changed(ground: Ground, blocks: list[Block], generator: np.random.Generator) -> str:
    """A block more at the end, one drawn anew, or the last one left out; blocks behind a changed one that then fit no more go."""
    ways = ["more"] * (len(blocks) < MAX_BLOCKS) + ["anew"] + ["less"] * (len(blocks) > 1)
    way = ways[int(generator.integers(len(ways)))]
    if way == "less":
        return to_line(blocks[:-1])
    place = len(blocks) if way == "more" else int(generator.integers(len(blocks)))
    made = [*blocks[:place], _random_block(ground, blocks[:place], generator)]
    for block in blocks[place + 1 :]:
        if not set(block.sources) <= set(ground.sources(made, block.kind)):
            break
        made.append(block)
    return to_line(made)


def by_bayes(ground: Ground, seed: int, count: int) -> Strategy:
    """Optuna's TPE over the number of blocks and each one's kind, depth and sources; a third of the candidates are drawn blindly first."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(1, count // 3))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    asked: list[Any] = []

    def propose(measured: list[Candidate]) -> str:
        for trial, one in zip(asked[-1:], measured[-1:], strict=True):
            study.tell(trial, one.tune_auc)
        trial = study.ask()
        asked.append(trial)
        blocks: list[Block] = []
        for number in range(trial.suggest_int("num_blocks", 1, MAX_BLOCKS)):
            kind = trial.suggest_categorical(f"kind_{number}", KINDS)
            kind = kind if ground.sources(blocks, kind) else "mlp"  # a single field makes no pairs
            depth = trial.suggest_int(f"depth_{number}", 1, MAX_DEPTH) if kind in DEEP_KINDS else 1
            there = ground.sources(blocks, kind)
            # As a share of what there is, since what may be read depends on the blocks before.
            shares = [
                trial.suggest_float(f"source_{number}_{n}", 0.0, 1.0) for n in range(2 if kind == "product" else 1)
            ]
            sources = tuple(there[min(int(share * len(there)), len(there) - 1)] for share in shares)
            blocks.append(Block(kind, depth, sources))
        return to_line(blocks)

    return propose


STRATEGIES: dict[str, Callable[[Ground, int, int], Strategy]] = {
    "random": by_chance,
    "greedy": greedily,
    "bayesian": by_bayes,
}
