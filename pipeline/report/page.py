"""The page itself: what the artifacts say, laid out by a template into one HTML file without script or outside host."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from components.autopi.course import alpha_course
from components.autopi.drawing import draw
from components.evaluating.evaluation import Evaluation, Interval
from components.judging import slice_name
from pipeline.report import figures, planted_use, words
from pipeline.report.charts import number
from pipeline.report.reading import Run
from pipeline.report.search_figures import cost_against_quality
from pipeline.report.search_words import search_in_words

_HERE = Path(__file__).parent
_QUALITY = (
    ("auc", "AUC", "higher is better"),
    ("log_loss", "log loss", "lower is better"),
    ("normalised_entropy", "normalised entropy", "lower is better, 1 is the click rate alone"),
    ("calibration_ratio", "mean score / click rate", "1 is honest"),
)
_DRIFT_FIGURES = ("mean_score", "click_rate", "auc", "log_loss")


def page_of(run: Run, params_text: str) -> str:
    """Lay the run out as HTML; every section whose artifact is absent says so."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.globals |= {
        "percent": words.percent,
        "moment": words.moment,
        "figure": words.figure,
        "num_bytes": words.num_bytes,
        "epochs": lambda history: f"{history[0].epoch} to {history[-1].epoch}" if history else "none",
        "plain": lambda value: "–" if value is None else number(value),
    }
    log = run.clean_log.request.log if run.clean_log is not None else "unknown log"
    context: dict[str, Any] = {
        "title": f"Click ranker for “{log}”",
        "subtitle": _subtitle(run),
        "style": Markup((_HERE / "style.css").read_text(encoding="utf-8")),
        "decision": words.decision(run.verdict) if run.verdict is not None else None,
        "story": words.story(run),
        "tiles": _tiles(run),
        "params_text": params_text,
        "search_words": search_in_words(
            run.architecture, run.search_cost, run.encoded.field_names if run.encoded is not None else ()
        ),
        **{name: getattr(run, name) for name in ("clean_log", "splits", "encoded", "architecture", "ranker")},
        **{name: getattr(run, name) for name in ("evaluation", "verdict", "bundle", "drift")},
        "planted": run.planted or (),
        "planted_words": planted_use.in_words(run.planted) if run.planted else "",
        **_data(run),
        **_drawings(run),
        **_measured(run),
    }
    return environment.get_template("page.html.j2").render(context)


def _subtitle(run: Run) -> str:
    parts = []
    if run.clean_log is not None and run.clean_log.schema.time is not None:
        report = run.clean_log.report
        parts.append(f"rows from {words.moment(report.first_time)} to {words.moment(report.last_time)} UTC")
    if run.ranker is not None:
        parts.append(f"ranker {run.ranker.name}")
    if run.bundle is not None:
        parts.append(f"bundle {run.bundle.digest[:12]}")
    return " · ".join(parts)


def _tiles(run: Run) -> list[dict[str, Any]]:
    """The figures that people look for first."""
    tiles: list[dict[str, Any]] = []
    if run.clean_log is not None:
        report = run.clean_log.report
        rate = words.percent(report.num_clicks / report.num_rows) if report.num_rows else "–"
        tiles.append(
            {"name": "rows", "value": f"{report.num_rows:,}", "notes": [f"{report.num_quarantined:,} set aside"]}
        )
        tiles.append({"name": "click rate", "value": rate, "notes": [f"{report.num_clicks:,} clicks"]})
    if run.evaluation is not None:
        ours, comparison, oracle = run.evaluation.challenger, run.evaluation.comparison, run.evaluation.facts.oracle
        theirs = comparison.champion if comparison is not None else None
        for name, title in (("auc", "test AUC"), ("log_loss", "test log loss")):
            notes = [words.interval(getattr(ours, name))]
            notes += [f"champion {getattr(theirs, name).value:.4f}"] if theirs is not None else []
            notes += [f"oracle {getattr(oracle, name):.4f}"] if oracle is not None else []
            tiles.append({"name": title, "value": f"{getattr(ours, name).value:.4f}", "notes": notes})
        notes = [f"chance alone: up to {ours.calibration_error_null:.4f}"]
        notes += [f"champion {theirs.calibration_error:.4f}"] if theirs is not None else []
        tiles.append({"name": "calibration error", "value": f"{ours.calibration_error:.4f}", "notes": notes})
    return tiles


def _data(run: Run) -> dict[str, Any]:
    if run.clean_log is None:
        return {}
    report = run.clean_log.report
    broken = [result for result in report.results if not result.holds]
    kept = [result for result in report.results if result.holds]
    num_exact = sum(result.is_exact for result in report.results)
    return {
        "flow": figures.flow_of_rows(report),
        "quarantine": sorted(report.quarantine_reasons.items(), key=lambda item: (-item[1], item[0])),
        "broken_checks": broken,
        "kept_checks": kept,
        "checks_words": f"{len(kept)} of {len(report.results)} promises hold; {num_exact} were checked exactly over all "
        f"rows, {len(report.results) - num_exact} on a bounded sample.",
    }


def _drawings(run: Run) -> dict[str, Any]:
    drawn: dict[str, str] = {}
    if run.splits is not None:
        drawn["split_line"] = figures.split_line(run.splits)
    if run.architecture is not None:
        fields = run.encoded.field_names if run.encoded is not None else ()
        names = fields or tuple(f"field {place + 1}" for place in range(run.architecture.architecture.num_fields))
        drawn["drawing"] = draw(run.architecture.architecture, names)
        drawn["cost_against_quality"] = cost_against_quality(run.architecture)
        if run.architecture.history:
            drawn["search_losses"] = figures.search_losses(run.architecture)
            drawn["alpha_course"] = alpha_course(run.architecture)
    if run.ranker is not None:
        drawn |= {
            "training_losses": figures.training_losses(run.ranker),
            "training_auc": figures.training_auc(run.ranker),
        }
    if run.evaluation is not None:
        drawn["reliability"] = figures.reliability(run.evaluation)
    return {name: Markup(svg) for name, svg in drawn.items()}


def _measured(run: Run) -> dict[str, Any]:
    context: dict[str, Any] = {"cost": None, "slices": [], "drift_figures": []}
    if run.evaluation is not None:
        facts = run.evaluation.facts
        resampled = f"whole clusters (by {facts.cluster_by})" if facts.cluster_by is not None else "single rows"
        context |= {
            "cost": facts.cost,
            "quality": [_quality_row(run.evaluation, *row) for row in _QUALITY],
            "quality_words": f"{words.against_champion(run.evaluation)} Intervals come from resampling {resampled} "
            f"{facts.num_bootstraps:,} times.",
            "slices": _slices(run.evaluation),
        }
    if run.drift is not None:
        served = run.drift.facts.figures
        context["drift_figures"] = [
            (name.replace("_", " "), served.get(name), served.get(f"reference_{name}"))
            for name in _DRIFT_FIGURES
            if served
        ]
    return context


def _quality_row(evaluation: Evaluation, name: str, title: str, hint: str) -> dict[str, Any]:
    comparison, oracle = evaluation.comparison, evaluation.facts.oracle
    ours: Interval = getattr(comparison.challenger if comparison is not None else evaluation.challenger, name)
    row = {
        "name": title,
        "hint": hint,
        "ours": f"{ours.value:.4f}",
        "ours_interval": words.interval(ours),
        "oracle": f"{getattr(oracle, name):.4f}" if oracle is not None and hasattr(oracle, name) else "",
        "drawing": Markup(figures.figure_whiskers(evaluation, name)),
    }
    if comparison is not None:
        theirs: Interval = getattr(comparison.champion, name)
        difference: Interval = getattr(comparison, f"{name}_difference")
        row |= {"theirs": f"{theirs.value:.4f}", "theirs_interval": words.interval(theirs)}
        row |= {"difference": f"{difference.value:+.4f}", "difference_interval": words.interval(difference)}
    return row


def _slices(evaluation: Evaluation) -> list[tuple[str, list[dict[str, Any]]]]:
    """By field, in the evaluation's order."""
    return [
        (
            field,
            [
                {
                    "name": slice_name(part).removeprefix(f"{field} = "),
                    "part": part,
                    "drawing": Markup(figures.slice_whisker(part)),
                    "is_beyond_chance": figures.is_beyond_chance(part),
                }
                for part in parts
            ],
        )
        for field, parts in itertools.groupby(evaluation.slices, key=lambda part: part.field)
    ]
