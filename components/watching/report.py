"""The report people look at, by Evidently: a folded sample of served rows against the profile's own sample.

It decides nothing. Its flags use our limit of the same field at the samples' sizes, so that they seldom disagree with
drift.json, which is made from all rows. Random ids in the HTML are numbered anew, so equal rows give equal bytes.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import polars as pl

from components.log import CLICK
from components.profiling import ReferenceProfile
from components.profiling.binning import MISSING
from components.profiling.profile import SCORE
from components.watching.distances import stability_null
from components.watching.limits import Limits

_RANDOM_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?<=metric_)[0-9a-f]{32}")
_EVIDENTLY_BINS = 10


def write_report(
    profile: ReferenceProfile, served: pl.DataFrame, limits: Limits, level: float, folder: Path
) -> tuple[str, ...]:
    """Write report.html and report.json into `folder`; returns the columns that had no value in one of the samples.

    served  column fields folded by the profile's binning, and _score
    level   the chance at which one check may be wrong
    """
    numeric = [field.name for field in profile.binning.fields if field.kind == "numeric"]
    categorical = [field.name for field in profile.binning.fields if field.kind == "categorical"]
    reference = profile.sample.drop(CLICK)
    empty = tuple(
        name
        for name in (*numeric, SCORE)
        if served[name].null_count() == len(served) or reference[name].null_count() == len(reference)
    )
    numeric = [name for name in (*numeric, SCORE) if name not in empty]
    with warnings.catch_warnings():
        # Evidently and what it stands on use names that numpy and litestar have deprecated, on import and in use.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", category=SyntaxWarning)
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"(evidently|numpy|scipy)\..*")
        import pandas
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift

        def data_set(rows: pl.DataFrame) -> object:
            columns = {name: rows[name].to_list() for name in numeric}
            columns |= {name: rows[name].fill_null(MISSING).to_list() for name in categorical}
            definition = DataDefinition(numerical_columns=numeric, categorical_columns=categorical)
            return Dataset.from_pandas(pandas.DataFrame(columns), data_definition=definition)

        drifts = [
            ValueDrift(column=name, method="psi", threshold=_threshold(served, reference, name, limits, level))
            for name in (SCORE, *numeric, *categorical)
            if name not in empty
        ]
        drifts = list({drift.column: drift for drift in drifts}.values())
        snapshot = Report(drifts).run(data_set(served), data_set(reference))
        snapshot.save_html(str(folder / "report.html"))
        snapshot.save_json(str(folder / "report.json"))
    _number_random_ids(folder / "report.html")
    return empty


def _threshold(served: pl.DataFrame, reference: pl.DataFrame, name: str, limits: Limits, level: float) -> float:
    """Our limit of a PSI between samples of these sizes, to three digits."""
    num_bins = max(_EVIDENTLY_BINS, reference[name].n_unique() if reference[name].dtype == pl.String else 0)
    null = stability_null(num_bins, len(served), len(reference), level)
    return round(max(null.quantile, null.mean + limits.minimum_psi), 3)


def _number_random_ids(path: Path) -> None:
    numbers: dict[str, str] = {}
    text = path.read_text(encoding="utf-8")
    numbered = _RANDOM_ID.sub(lambda found: numbers.setdefault(found.group(), f"{len(numbers):032x}"), text)
    path.write_text(numbered, encoding="utf-8")
