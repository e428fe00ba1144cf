"""The drawings of the report's section on the search that need every candidate."""

from __future__ import annotations

from collections.abc import Sequence

from components.autopi.architecture import FoundArchitecture, TrialRecord
from pipeline.report.charts import Axes, Series, nothing_under, xy_chart

Point = tuple[float, float]


def cost_against_quality(found: FoundArchitecture) -> str:
    """AUC on tune against operations a row: every candidate at the rung that it reached, and the front of the finalists.

    Empty where fewer than two candidates were tried.
    """
    if len({trial.number for trial in found.trials}) < 2:
        return ""
    longest = max(len(trial.steps) for trial in found.trials)
    finals = _points([trial for trial in found.trials if len(trial.steps) == longest])
    earlier = _points([trial for trial in found.trials if len(trial.steps) < longest])
    best = front(finals)
    series = [
        Series("the front: no other finalist is as good and as cheap", "third", _stairs(best), "dashed"),
        Series("given up at an earlier rung (AUC there)", "second", earlier, "points"),
        Series("trained to the last rung", "first", [point for point in finals if point not in best], "points"),
        Series("on the front", "third", best, "points"),
    ]
    costs = [cost for cost, _ in (*finals, *earlier)]
    room = 0.05 * (max(costs) - min(costs))
    ends = min(costs) - room, max(costs) + room
    axes = Axes("operations a row, beside the embeddings", "AUC on tune", ends, None, False, False, 300)
    return xy_chart(
        "AUC against operations of every candidate", axes, [one for one in series if one.points], nothing_under
    )


def front(points: Sequence[Point]) -> list[Point]:
    """Those (cost, quality) to which no other is at most as dear and at least as good (and not both alike), the cheapest first."""
    kept: list[Point] = []
    for cost, quality in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not kept or quality > kept[-1][1]:
            kept.append((cost, quality))
    return kept


def _points(trials: Sequence[TrialRecord]) -> list[Point]:
    """(operations, AUC at the last rung reached, the mean over seeds) of each candidate."""
    by_number: dict[int, list[TrialRecord]] = {}
    for trial in trials:
        by_number.setdefault(trial.number, []).append(trial)
    return [
        (float(of_one[0].num_flops), sum(trial.tune_auc[-1] for trial in of_one) / len(of_one))
        for of_one in by_number.values()
    ]


def _stairs(points: Sequence[Point]) -> list[Point]:
    """What is as good as can be had for a cost: level from one point to the next, then up."""
    corners: list[Point] = []
    for cost, quality in points:
        if corners:
            corners.append((cost, corners[-1][1]))
        corners.append((cost, quality))
    return corners
