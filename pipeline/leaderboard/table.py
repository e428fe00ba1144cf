"""The board as Markdown, CSV and JSON: one line a ranker, mean and standard deviation over its seeds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from components.evaluating import Figures
from pipeline.leaderboard.board import Board, BoardRow
from pipeline.leaderboard.comparing import Difference, SeedsDifference, spread
from pipeline.leaderboard.planted import ORACLE
from pipeline.leaderboard.results import Result, Spent
from pipeline.leaderboard.words import by_seeds_in_words, difference_in_words, search_cost, words

FIGURES: dict[str, Callable[[Result], float]] = {
    "tune_auc": lambda one: one.tune_auc,
    "auc": lambda one: one.figures.auc.value,
    "raw_log_loss": lambda one: one.raw_log_loss,
    "log_loss": lambda one: one.figures.log_loss.value,
    "calibration_error": lambda one: one.figures.calibration_error,
    "calibration_error_null": lambda one: one.figures.calibration_error_null,
    "num_parameters": lambda one: one.cost.num_parameters,
    "num_flops_per_row": lambda one: one.cost.num_flops_per_row,
    "num_epochs": lambda one: one.cost.num_epochs,
    "train_seconds": lambda one: one.cost.train_seconds,
    "train_core_seconds": lambda one: one.cost.train_core_seconds,
    "train_rows_seen": lambda one: one.cost.num_train_rows_seen,
    "rows_per_second": lambda one: one.cost.rows_per_second,
    "milliseconds_per_1000": lambda one: one.cost.milliseconds_per_1000,
    "peak_memory_mb": lambda one: one.cost.peak_memory_mb,
    "parity": lambda one: one.parity,
}
_SEARCH = ("search_seconds", "search_core_seconds", "search_rows_seen")
_TUNED = ("embedding_l2", "learning_rate", "dropout")
_SPREAD = ("tune_auc", "auc", "raw_log_loss", "log_loss", "calibration_error")

_COLUMNS = (
    "ranker",
    "seeds",
    "test AUC",
    "log loss, raw",
    "calibrated",
    "ECE (null)",
    "AUC − {}",
    "AUC − {}, by seeds",
    "log loss − {}",
    "log loss − {}, by seeds",
    "parameters",
    "MFLOPs",
    "search s (core)",
    "training s (core)",
    "million rows seen, search + training",
    "rows/s",
    "ms / 1,000 rows",
    "peak MB",
)


def columns(board: Board) -> list[str]:
    """The table's head."""
    return [column.format(board.against or "best") for column in _COLUMNS]


def cells_of_oracle(oracle: Figures) -> list[str]:
    """Its line, Markdown in the cells."""
    ece = f"{oracle.calibration_error:.4f} ({oracle.calibration_error_null:.4f})"
    cells = [ORACLE, "", f"{oracle.auc.value:.5f}", "", f"{oracle.log_loss.value:.5f}", ece]
    return cells + [""] * (len(_COLUMNS) - len(cells))


def cells_of(row: BoardRow, board: Board) -> list[str]:
    """A ranker's line, Markdown in the cells; one that has results."""
    cost = {name: figure(row, name)[0] for name in FIGURES}
    ece, null = cost["calibration_error"], cost["calibration_error_null"]
    search, rows_seen = search_cost_in_words(row)
    cells = [
        row.name,
        str(len(row.results)),
        _plus_minus(figure(row, "auc")),
        _plus_minus(figure(row, "raw_log_loss")),
        _plus_minus(figure(row, "log_loss")),
        f"{ece:.4f} ({null:.4f})",
        difference_in_words(row.auc_difference, board),
        by_seeds_in_words(row.auc_by_seeds, row.auc_difference, board),
        difference_in_words(row.log_loss_difference, board),
        by_seeds_in_words(row.log_loss_by_seeds, row.log_loss_difference, board),
        f"{row.results[0].cost.num_parameters:,}",
        f"{cost['num_flops_per_row'] / 1e6:.3f}",
        search,
        f"{cost['train_seconds']:.0f} ({cost['train_core_seconds']:.0f})",
        rows_seen,
        f"{cost['rows_per_second']:,.0f}",
        f"{cost['milliseconds_per_1000']:.2f}",
        f"{cost['peak_memory_mb']:.0f}",
    ]
    assert len(cells) == len(_COLUMNS)
    return cells


def figure(row: BoardRow, name: str) -> tuple[float, float | None]:
    """Mean and standard deviation over a row's seeds."""
    return spread([FIGURES[name](one) for one in row.results])


def search_cost_in_words(row: BoardRow) -> tuple[str, str]:
    """Seconds with core-seconds, and million rows of the search and of the training."""
    spent, trained = search_cost(row), f"{figure(row, 'train_rows_seen')[0] / 1e6:.2f}"
    if spent is None:
        return "–", trained
    return f"{spent.seconds:.0f} ({spent.core_seconds:.0f})", f"{spent.rows / 1e6:.2f} + {trained}"


def summary(board: Board) -> dict[str, Any]:
    """The board as plain figures, by row; pairs are mean and standard deviation (0 for one seed)."""
    rows: dict[str, Any] = {}
    for row in board.rows:
        if row.results:
            facts: dict[str, Any] = {"num_seeds": len(row.results)}
            for name in FIGURES:
                mean, deviation = figure(row, name)
                facts[name] = [mean, deviation or 0.0] if name in _SPREAD else mean
            facts["num_parameters"] = row.results[0].cost.num_parameters
            facts |= {
                "auc_difference": _plain(row.auc_difference),
                "log_loss_difference": _plain(row.log_loss_difference),
                "auc_by_seeds": _plain(row.auc_by_seeds),
                "log_loss_by_seeds": _plain(row.log_loss_by_seeds),
            }
            spent = search_cost(row)
            facts["search"] = None if spent is None else vars(spent)
            facts["architectures"] = {str(one.seed): one.architecture for one in row.results if one.architecture}
            facts["tuned"] = vars(row.results[0].tuned)
            rows[row.name] = facts
        else:
            rows[row.name] = {"num_seeds": 0}
        if row.failures:
            rows[row.name]["failures"] = {str(one.seed): one.reason for one in row.failures}
    if board.oracle is not None:
        rows[ORACLE] = {
            "num_seeds": 1,
            "auc": [board.oracle.auc.value, 0.0],
            "log_loss": [board.oracle.log_loss.value, 0.0],
            "calibration_error": [board.oracle.calibration_error, 0.0],
            "calibration_error_null": board.oracle.calibration_error_null,
        }
    return {
        "log": board.log,
        "data": board.data,
        "num_trials": board.num_trials,
        "against": board.against,
        "rankers": rows,
    }


def json_text(facts: dict[str, Any]) -> str:
    """One JSON document."""
    return json.dumps(facts, indent=1) + "\n"


def markdown(board: Board) -> str:
    """The table with what it says and how it was made."""
    lines = [f"# Leaderboard: {board.log}", "", *(f"{line}\n" for line in words(board))]
    head = columns(board)
    lines += [_line(head), "|" + "---|" * len(head)]
    if board.oracle is not None:
        lines.append(_line(cells_of_oracle(board.oracle)))
    lines += [_line(cells_of(row, board)) for row in board.rows if row.results]
    failures = [f"- {one.row}, seed {one.seed}: {one.reason}" for row in board.rows for one in row.failures]
    if failures:
        lines += ["", "Not measured:", "", *failures]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def csv_text(board: Board) -> str:
    """One line a ranker and seed, unrounded, with the digests it belongs to."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["ranker", "seed", *FIGURES, *_SEARCH, *_TUNED, "architecture", "data", "code"])
    for row in board.rows:
        for one in row.results:
            tuned = one.tuned
            digests = [one.identity["data"], one.identity["code"]]
            figures = [repr(float(get(one))) for get in FIGURES.values()]
            spent = Spent.total([part for part in (one.searched, row.tuning) if part is not None])
            searched = ["", "", ""] if spent is None else [spent.seconds, spent.core_seconds, spent.rows]
            settings = [tuned.embedding_l2, tuned.learning_rate, tuned.dropout]
            writer.writerow([row.name, one.seed, *figures, *searched, *settings, one.architecture or "", *digests])
    return text.getvalue()


def _plus_minus(pair: tuple[float, float | None]) -> str:
    return f"{pair[0]:.5f}" if pair[1] is None else f"{pair[0]:.5f} ± {pair[1]:.5f}"


def _plain(difference: Difference | SeedsDifference | None) -> dict[str, float] | None:
    return None if difference is None else vars(difference)
