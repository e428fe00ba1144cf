"""What a run left behind, artifact by artifact; one that is absent is None, and its section says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from components.artifact import Artifact
from components.autopi.architecture import FoundArchitecture
from components.champion import Champion
from components.encoding import Encoded
from components.evaluating.evaluation import Evaluation
from components.judging import Verdict
from components.log import CleanLog
from components.packing import Bundle
from components.splitting import Splits
from components.training import TrainedRanker
from components.watching import Drift

A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True)
class Run:
    """The artifacts of one workspace; `drift` may come from another one, which watched later rows."""

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


def read_run(artifacts: Path, drift_artifacts: Path | None) -> Run:
    """Load every artifact that is there; raises IntegrityError for one that is damaged."""
    return Run(
        folder=artifacts,
        clean_log=_read(artifacts / "clean_log", CleanLog),
        splits=_read(artifacts / "splits", Splits),
        encoded=_read(artifacts / "encoded", Encoded),
        architecture=_read(artifacts / "architecture", FoundArchitecture),
        ranker=_read(artifacts / "ranker", TrainedRanker),
        evaluation=_read(artifacts / "evaluation", Evaluation),
        verdict=_read(artifacts / "verdict", Verdict),
        bundle=_read(artifacts / "bundle", Bundle),
        champion=_read(artifacts / "champion", Champion),
        drift=_read((drift_artifacts or artifacts) / "drift", Drift),
    )


def _read(folder: Path, kind: type[A]) -> A | None:
    return kind.load(folder) if folder.is_dir() else None
