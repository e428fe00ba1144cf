"""What a run left behind, artifact by artifact; one that is absent is None, and its section says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from components.artifact import Artifact
from components.autopi.architecture import FoundArchitecture
from components.autopi.cost import SearchCost, read_cost
from components.champion import Champion
from components.encoding import Encoded
from components.evaluating.evaluation import Evaluation
from components.judging import Verdict
from components.log import CleanLog
from components.packing import Bundle
from components.splitting import Splits
from components.training import TrainedRanker
from components.watching import Drift
from pipeline.report.planted_use import TermUse, planted_use

A = TypeVar("A", bound=Artifact)

# As pipeline.run has it, from the workspace's root.
_SEARCH_CHECKPOINTS = Path(".ctr", "checkpoints", "search")


@dataclass(frozen=True)
class Run:
    """The artifacts of one workspace; `drift` may come from another one, which watched later rows.

    `search_cost` is no artifact: the search leaves it beside its checkpoints, and another machine's run has none. `planted` is
    worked out from the others where the log is a simulated one.
    """

    folder: Path
    clean_log: CleanLog | None
    splits: Splits | None
    encoded: Encoded | None
    architecture: FoundArchitecture | None
    ranker: TrainedRanker | None
    evaluation: Evaluation | None
    verdict: Verdict | None
    bundle: Bundle | None
    champion: Champion | None
    drift: Drift | None
    search_cost: SearchCost | None
    planted: tuple[TermUse, ...] | None


def read_run(artifacts: Path, drift_artifacts: Path | None) -> Run:
    """Load every artifact that is there; raises IntegrityError for one that is damaged."""
    architecture = _read(artifacts / "architecture", FoundArchitecture)
    clean_log, splits = _read(artifacts / "clean_log", CleanLog), _read(artifacts / "splits", Splits)
    encoded, ranker = _read(artifacts / "encoded", Encoded), _read(artifacts / "ranker", TrainedRanker)
    return Run(
        folder=artifacts,
        clean_log=clean_log,
        splits=splits,
        encoded=encoded,
        architecture=architecture,
        ranker=ranker,
        evaluation=_read(artifacts / "evaluation", Evaluation),
        verdict=_read(artifacts / "verdict", Verdict),
        bundle=_read(artifacts / "bundle", Bundle),
        champion=_read(artifacts / "champion", Champion),
        drift=_read((drift_artifacts or artifacts) / "drift", Drift),
        search_cost=None if architecture is None else read_cost(artifacts.parent / _SEARCH_CHECKPOINTS, architecture),
        planted=_planted(clean_log, splits, encoded, ranker),
    )


def _planted(
    clean_log: CleanLog | None, splits: Splits | None, encoded: Encoded | None, ranker: TrainedRanker | None
) -> tuple[TermUse, ...] | None:
    if clean_log is None or splits is None or encoded is None or ranker is None:
        return None
    return planted_use(clean_log, splits, encoded, ranker)


def _read(folder: Path, kind: type[A]) -> A | None:
    return kind.load(folder) if folder.is_dir() else None
