"""The same promises as a Great Expectations suite on a bounded, seeded sample, with Data Docs that people can read.

The exact figures decide; the sample adds what needs values side by side (types, distinct values) and a page for people.
Data Docs come with clock times, random ids and links to a dozen outside hosts: all three are taken out, so that the
same log gives the same bytes and the page opens offline.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.checking.params import CheckParams
from components.checking.reading import ROW_GROUP_ROWS
from components.errors import DataError
from components.log import CLICK, IMPRESSION, ROW, TIME, CheckResult, LogSchema, Window, microseconds

SAMPLE_GROUPS = 4
_LABEL = "sample"
_FILLED = "expect_column_values_to_not_be_null"
_DISTINCT = "expect_column_unique_value_count_to_be_between"
_SELDOM_NEEDED = ("scipy.stats",)  # imported by Great Expectations for promises that no log makes: a third of its time

_STYLE = """
body { font-family: system-ui, sans-serif; margin: 2em auto; max-width: 75em; line-height: 1.4; color: #222; }
table { border-collapse: collapse; margin: .5em 0 1.5em; } td, th { border: 1px solid #ccc; padding: .25em .6em; text-align: left; }
nav, .modal, .navbar, .cooltip, .d-print-none { display: none; }
.alert, .text-muted { color: #555; }
"""


def draw_sample(rows: Path, num_rows: int, params: CheckParams) -> pl.DataFrame:
    """At most `sample_rows` rows in order: all of a small log, of a large one rows from groups spread over its whole time."""
    table = pl.scan_parquet(rows)
    if num_rows <= params.sample_rows:
        whole: pl.DataFrame = table.collect()
        return whole
    rng = np.random.default_rng(params.seed)
    num_groups = -(-num_rows // ROW_GROUP_ROWS)
    groups = np.unique(np.linspace(0, num_groups - 1, min(SAMPLE_GROUPS, num_groups)).astype(np.int64))
    offered = np.concatenate(
        [np.arange(group * ROW_GROUP_ROWS, min((group + 1) * ROW_GROUP_ROWS, num_rows)) for group in groups]
    )
    chosen = np.sort(rng.choice(offered, size=min(params.sample_rows, len(offered)), replace=False))
    parts = []
    for group in groups:
        first = group * ROW_GROUP_ROWS
        here = chosen[(chosen >= first) & (chosen < first + ROW_GROUP_ROWS)] - first
        if len(here):
            parts.append(table.slice(int(first), ROW_GROUP_ROWS).collect()[here])
    sample: pl.DataFrame = pl.concat(parts)
    return sample


def check_sample(
    sample: pl.DataFrame, schema: LogSchema, window: Window, params: CheckParams, html: Path
) -> tuple[CheckResult, ...]:
    """Run the suite on the sample and write Data Docs into the folder `html`; too many distinct values are a DataError."""
    gx = import_great_expectations()
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    suite = gx.ExpectationSuite(_LABEL, expectations=_expectations(sample, schema, window, params))
    rows = context.data_sources.add_pandas("log").add_dataframe_asset("clean rows")
    batch = rows.add_batch_definition_whole_dataframe(_LABEL).get_batch({"dataframe": sample.drop(ROW).to_pandas()})
    # A validation definition would write all of it down once more.
    outcome = batch.validate(suite, result_format="SUMMARY")
    content = _without_clock(outcome.to_json_dict())
    html.mkdir()
    for name, page in _pages(content, suite).items():
        (html / name).write_text(page, encoding="utf-8")
    _refuse_too_distinct(content, sample.height, params)
    return tuple(_as_result(one) for one in content["results"])


def import_great_expectations() -> Any:
    """Imported late, since it takes seconds; its telemetry is off, its chatter silenced, and what it only might need waits."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    for name in _SELDOM_NEEDED:
        _import_when_used(name)
    with warnings.catch_warnings():
        for message in ("Please install grpcio-status", "module 'sre_"):  # of packages that Great Expectations imports
            warnings.filterwarnings("ignore", message=message)
        import great_expectations

    return great_expectations


def _import_when_used(name: str) -> None:
    """Let `name` stand among the imported modules, but run it only when somebody asks it for something."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    package, _, last = name.rpartition(".")
    setattr(sys.modules[package], last, module)  # where `from package import last` looks first


def _expectations(sample: pl.DataFrame, schema: LogSchema, window: Window, params: CheckParams) -> list[Any]:
    """The schema's promises, each as an expectation."""
    import great_expectations.expectations as gxe

    promises: list[Any] = [
        gxe.ExpectTableColumnsToMatchSet(column_set=[name for name in sample.columns if name != ROW], exact_match=True),
        gxe.ExpectTableRowCountToBeBetween(min_value=1, max_value=params.sample_rows),
        gxe.ExpectColumnValuesToBeInSet(column=CLICK, value_set=[0, 1]),
        gxe.ExpectColumnValuesToNotBeNull(column=CLICK),
        gxe.ExpectColumnMeanToBeBetween(
            column=CLICK, min_value=params.click_rate_band[0], max_value=params.click_rate_band[1]
        ),
    ]
    if schema.time is not None and (window.start or window.end):
        promises.append(
            gxe.ExpectColumnValuesToBeBetween(
                column=TIME,
                min_value=microseconds(window.start) if window.start else None,
                max_value=microseconds(window.end) - 1 if window.end else None,
            )
        )
    if schema.time is not None:
        promises.append(gxe.ExpectColumnValuesToBeIncreasing(column=TIME))
    if schema.impression is not None:
        promises.append(gxe.ExpectColumnValuesToBeUnique(column=IMPRESSION))
        promises.append(gxe.ExpectColumnValuesToNotBeNull(column=IMPRESSION))
    for field in schema.column_fields:
        values = sample[field.name]
        promises.append(gxe.ExpectColumnValuesToNotBeNull(column=field.name, mostly=1.0 - field.max_missing_share))
        num_filled = sample.height - values.null_count()
        if not num_filled:
            continue
        if field.kind == "numeric":
            promises.append(gxe.ExpectColumnValuesToBeOfType(column=field.name, type_="float64"))
            if field.minimum is not None or field.maximum is not None:
                promises.append(
                    gxe.ExpectColumnValuesToBeBetween(
                        column=field.name, min_value=field.minimum, max_value=field.maximum
                    )
                )
        else:
            promises.append(gxe.ExpectColumnValuesToBeOfType(column=field.name, type_="str"))
            most = max(1, int(params.max_distinct_share * num_filled))
            promises.append(gxe.ExpectColumnUniqueValueCountToBeBetween(column=field.name, min_value=1, max_value=most))
    return promises


def _refuse_too_distinct(content: dict[str, Any], num_rows: int, params: CheckParams) -> None:
    """The one promise that only the sample can hold a log to: a field that names rows teaches nothing about the next row."""
    for one in content["results"]:
        config = one["expectation_config"]
        if config["type"] == _DISTINCT and not one["success"]:
            raise DataError(
                f"raw_log: field '{config['kwargs']['column']}' has {one['result']['observed_value']:,} distinct values in a "
                f"sample of {num_rows:,} rows (at most {config['kwargs']['max_value']:,} expected: check.max_distinct_share "
                f"{params.max_distinct_share:.0%} of its values); it names rows rather than what they have in common; "
                "leave it out of the schema"
            )


def _without_clock(content: dict[str, Any]) -> dict[str, Any]:
    """The outcome without moments, run ids and random ids, its results in an order that depends on nothing else."""
    plain: dict[str, Any] = json.loads(json.dumps(content))  # numpy's numbers become Python's
    results = plain["results"]
    for one in results:
        one["expectation_config"].pop("id", None)
        one["expectation_config"]["kwargs"].pop("batch_id", None)
        if one["expectation_config"]["type"] == _FILLED:  # a list of nulls tells nothing
            one["result"] = {key: value for key, value in one["result"].items() if not key.startswith("partial")}
    results.sort(key=lambda one: json.dumps(one["expectation_config"], sort_keys=True))
    version = plain["meta"]["great_expectations_version"]
    meta = {"great_expectations_version": version, "run_id": {"run_name": _LABEL, "run_time": "1970-01-01T00:00:00Z"}}
    kept = {key: plain[key] for key in ("success", "suite_name", "suite_parameters", "statistics")}
    return {**kept, "results": results, "meta": meta}


def _pages(content: dict[str, Any], suite: Any) -> dict[str, str]:
    """Data Docs as files that need nothing from outside: the outcome as index.html, the promises as promises.html."""
    from great_expectations.core.expectation_validation_result import expectationSuiteValidationResultSchema
    from great_expectations.render.renderer import ExpectationSuitePageRenderer, ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    outcome = expectationSuiteValidationResultSchema.load(content)
    suite.expectations.sort(key=lambda one: json.dumps(_named(one.configuration.to_json_dict()), sort_keys=True))
    documents = {
        "index.html": ValidationResultsPageRenderer().render(outcome),
        "promises.html": ExpectationSuitePageRenderer().render(suite),
    }
    return {name: _offline(DefaultJinjaPageView().render(document)) for name, document in documents.items()}


def _named(configuration: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in configuration.items() if key != "id"}


def _offline(page: str) -> str:
    """Without links to outside hosts, random ids and moments; with a few lines of style instead."""
    page = re.sub(r"<script\b.*?</script>", "", page, flags=re.DOTALL)
    page = re.sub(r"<style\b.*?</style>", "", page, flags=re.DOTALL)
    page = re.sub(r"<p>Stay current.*?</p>", "", page, flags=re.DOTALL)
    page = re.sub(r"<link\b[^>]*>", "", page)
    page = re.sub(r"<img\b[^>]*>", "", page)
    page = re.sub(r'<a\b[^>]*href="https?://[^>]*>(.*?)</a>', r"\1", page, flags=re.DOTALL)
    page = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "", page)
    seen: dict[str, str] = {}
    page = re.sub(
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        lambda match: seen.setdefault(match.group(), str(len(seen))),
        page,
    )
    page = re.sub(r"\n\s*\n+", "\n", page)
    return page.replace("</head>", f"<style>{_STYLE}</style>\n</head>", 1)


def _as_result(one: dict[str, Any]) -> CheckResult:
    """One expectation's outcome: the share of unexpected values or the observed figure, beside the promised one."""
    config, result = one["expectation_config"], one["result"]
    kwargs = config["kwargs"]
    found, limit = result.get("observed_value"), kwargs.get("max_value")
    if "unexpected_count" in result:
        found, limit = result["unexpected_count"] / max(result["element_count"], 1), 1.0 - kwargs.get("mostly", 1.0)
    numbers = [float(value) if isinstance(value, (int, float)) else None for value in (found, limit)]
    return CheckResult(
        f"sample: {config['type']}", kwargs.get("column"), numbers[0], numbers[1], bool(one["success"]), is_exact=False
    )
