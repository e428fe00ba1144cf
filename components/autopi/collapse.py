"""Signs that a search went wrong: skips everywhere, nothing decided, or a supernet that does not know what is good."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.autopi.architecture import Architecture, Collapse, EpochRecord


def measure_collapse(
    architecture: Architecture, best: EpochRecord | None, ranked: Sequence[tuple[float, float]]
) -> Collapse:
    """See Collapse; `best` is the supernet's epoch that was taken, `ranked` pairs of (log strength, AUC on tune)."""
    kept = architecture.operators()
    correlation = None
    if len({strength for strength, _ in ranked}) > 2 and len({quality for _, quality in ranked}) > 2:
        from scipy.stats import spearmanr  # half a second that only a search with candidates pays

        correlation = float(spearmanr([one for one, _ in ranked], [other for _, other in ranked]).statistic)
    return Collapse(
        skip_share=kept.count("skip") / len(kept),
        alpha_entropy=None if best is None else _entropy(best),
        rank_correlation=correlation,
        num_ranked=len(ranked),
    )


def _entropy(record: EpochRecord) -> float:
    """Mean over edges of the entropy of softmax(alpha), as a share of log O."""
    alpha_eo = np.array([*record.alpha_interaction, *record.alpha_ensemble], np.float64)
    if alpha_eo.shape[1] == 1:
        return 0.0
    powers = np.exp(alpha_eo - alpha_eo.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    return float(-(shares * np.log(np.maximum(shares, 1e-300))).sum(axis=1).mean() / np.log(alpha_eo.shape[1]))
