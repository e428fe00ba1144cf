"""How challenger and champion are measured on the test rows."""

from __future__ import annotations

from dataclasses import dataclass

from components.errors import ConfigError
from components.strict import Strict


@dataclass(frozen=True)
class EvaluateParams(Strict):
    """What is drawn, cut and counted.

    num_bins          equal-mass bins of scores, for ECE and the reliability diagram
    num_null_draws    draws of clicks from the scores, for the null of ECE
    num_bootstraps    resamples for the intervals
    confidence        of intervals and of the null's quantile, within (0, 1)
    cluster_by        what is resampled: null for single rows, "user" (the schema's), "hour" (of the calendar) or a column field
    slice_fields      fields by whose values the test rows are sliced
    slice_top_values  so many slices a field, the values with the most rows; the others together are one more
    num_parity_rows   at most so many test rows go through the training path too
    chunk_rows        clean rows read at once, which bounds the memory
    seed              of resamples and draws
    """

    num_bins: int
    num_null_draws: int
    num_bootstraps: int
    confidence: float
    cluster_by: str | None
    slice_fields: tuple[str, ...]
    slice_top_values: int
    num_parity_rows: int
    chunk_rows: int
    seed: int

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        for name in (
            "num_bins",
            "num_null_draws",
            "num_bootstraps",
            "slice_top_values",
            "num_parity_rows",
            "chunk_rows",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"params.yaml [evaluate]: {name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.confidence < 1:
            raise ConfigError(f"params.yaml [evaluate]: confidence must lie within (0, 1), got {self.confidence}")
