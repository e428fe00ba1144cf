"""What calibrated scores promise of rows whose click is not final yet: an estimate, and named as one.

It holds as long as clicks given the score stay what they were, so it sees a change of the rows and never one of people.
Shape letters: K cells of the grid of scores.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from components.profiling.binning import Floats

ESTIMATE_NOTE = (
    "of {rows:,} rows clicks are not final yet: the figures named estimated_* assume that scores still mean what they "
    "meant on the champion's test rows, and cannot see a change of clicks given score"
)


def estimated_figures(waiting: Floats, calibration_ratio: float | None) -> dict[str, float | None]:
    """Click rate, AUC, log loss and normalised entropy to be expected of rows (2, K), by cell: their number and sum of scores.

    calibration_ratio  mean score / click rate of the reference, by which scores are divided first
    """
    names = ("click_rate", "auc", "log_loss", "normalised_entropy")
    rows, score_sums = waiting
    if not rows.sum() or not calibration_ratio:
        return {f"estimated_{name}": None for name in names}
    scores = np.divide(score_sums, rows, out=np.zeros_like(score_sums), where=rows > 0)
    chances = np.clip(scores / calibration_ratio, 0.0, 1.0)
    clicks, others = rows * chances, rows * (1 - chances)
    rate = float(clicks.sum() / rows.sum())
    loss = float((special.entr(chances) + special.entr(1 - chances)) @ rows / rows.sum())
    entropy = float(special.entr(rate) + special.entr(1 - rate))
    below = np.concatenate([[0.0], np.cumsum(others)[:-1]])
    pairs = float(clicks.sum() * others.sum())
    auc = float((clicks * (below + others / 2)).sum()) / pairs if pairs else None
    return {
        "estimated_click_rate": rate,
        "estimated_auc": auc,
        "estimated_log_loss": loss,
        "estimated_normalised_entropy": loss / entropy if entropy else None,
    }
