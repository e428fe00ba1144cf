"""The bundle's bytes, before there is a bundle: what it takes over is counted, and room is set aside for what `pack` adds."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path

from components.artifact import Artifact
from components.errors import ConfigError
from components.evaluating.evaluation import Evaluation
from components.judging.verdict import GateCheck, JudgeParams, Verdict
from components.scoring import Scorer

SIZE = "bundle size"


@dataclass(frozen=True)
class KnownBytes:
    """Bytes of the files that a bundle takes over as they are: all of the scorer (its ranker among it), all of the evaluation."""

    scorer: int
    ranker: int
    evaluation: int


def known_bytes(scorer: Scorer, evaluation: Evaluation) -> KnownBytes:
    """Count what `save` writes; the ranker, which may be large, is not written for it."""
    ranker = len(scorer.onnx)
    return KnownBytes(_saved_bytes(dataclasses.replace(scorer, onnx=b"")) + ranker, ranker, _saved_bytes(evaluation))


def check_size(known: KnownBytes, params: JudgeParams) -> GateCheck:
    """Hold the most that the bundle can have to the limit."""
    most = known.scorer + known.evaluation + params.other_bundle_bytes
    words = (
        f"the bundle has at most {megabytes(most)} ({megabytes(params.max_bundle_bytes)} allowed): "
        f"{megabytes(known.scorer)} of scorer, of which the exported ranker is {megabytes(known.ranker)}, "
        f"{megabytes(known.evaluation)} of evaluation, and {megabytes(params.other_bundle_bytes)} set aside for "
        "profile, card and all else that is packed"
    )
    return GateCheck(SIZE, float(most), float(params.max_bundle_bytes), most <= params.max_bundle_bytes, words)


def refuse_more_than_was_judged(num_bytes: int, verdict: Verdict) -> None:
    """Raise ConfigError where a packed bundle has more bytes than the verdict allowed for."""
    most = next((check.measured for check in verdict.checks if check.name == SIZE), None) or 0.0
    if num_bytes > most:
        raise ConfigError(
            f"the bundle has {num_bytes:,} bytes, but the verdict was reached for at most {most:,.0f}; raise "
            f"other_bundle_bytes in params.yaml [judge] by {num_bytes - most:,.0f} or more, and judge again"
        )


def megabytes(num_bytes: int) -> str:
    """Decimal megabytes, or kilobytes where these say more."""
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 100_000 else f"{num_bytes / 1e3:,.1f} kB"


def _saved_bytes(artifact: Artifact) -> int:
    with tempfile.TemporaryDirectory() as folder:
        artifact.save(Path(folder))
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
