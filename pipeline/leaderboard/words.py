"""What a board says in words: what a reader must know before the figures, and a difference as a cell of the table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from pipeline.leaderboard.board import Board, BoardRow
from pipeline.leaderboard.comparing import Difference, SeedsDifference
from pipeline.leaderboard.results import Spent

# Rows that are level: so many names are no longer read, where those that are not level are fewer.
_MANY = 8


def words(board: Board) -> list[str]:
    """What a reader must know before the figures."""
    num_seeds = _usual_seeds(board)
    best = board.against or "the best"
    by = f"clusters of `{board.cluster_by}`" if board.cluster_by is not None else "rows"
    tuning = (
        f"each tuned by {board.num_trials} trials on tune"
        if board.num_trials
        else "preset params, none tuned for this board"
    )
    said = [
        f"{board.num_test_rows:,} test rows with {board.num_test_clicks:,} clicks (split: {board.split_rule}); "
        f"{num_seeds} seed{'' if num_seeds == 1 else 's'} each{_more_seeds(board, num_seeds)}, {tuning}. Mean ± standard deviation over seeds.",
        f"Differences from {best}, each with Holm's correction over all rankers: paired bootstrap over {by} and seeds "
        f"({board.num_bootstraps:,} resamples), and by seeds: paired t test over the seeds that both have, on these test rows "
        f"(± half of its {1 - board.significance:.0%} interval). **Bold** where beyond noise (p < {board.significance:g}), ≈ where not.",
    ]
    if any(search_cost(row) for row in board.rows):
        said.append(
            "Search: what was paid before the training beside it, that is the mean of the seeds' own searches and all trials of "
            "tuning, on train and tune alone."
        )
    if num_seeds == 1:
        said.append("One seed: the spread over seeds is not in these differences; small ones may be the seed's.")
    there = [row for row in board.rows if row.results]
    for metric in ("auc", "log_loss"):
        named = {"auc": "AUC", "log_loss": "calibrated log loss"}[metric]
        of_rows = {row.name: getattr(row, f"{metric}_difference") for row in there}
        of_seeds = {row.name: getattr(row, f"{metric}_by_seeds") for row in there}
        reference = next((name for name, one in of_rows.items() if one is None), None)
        level = [name for name, one in of_rows.items() if one is not None and not is_beyond_noise(one, board)]
        level_by_seeds = [name for name, one in of_seeds.items() if one is not None and not is_beyond_noise(one, board)]
        if reference is not None:
            said.append(
                f"No significant difference in {named} from {reference}: by rows and seeds {_named(level, of_rows)}; "
                f"by seeds {_named(level_by_seeds, of_seeds)}{_untested(of_seeds, reference)}."
            )
    return said


def _usual_seeds(board: Board) -> int:
    """How many seeds most rows have that have any; 0 where all failed."""
    numbers = [len(row.results) for row in board.rows if row.results]
    return statistics.mode(numbers) if numbers else 0


def _more_seeds(board: Board, num_seeds: int) -> str:
    more = [f"{row.name} {len(row.results)}" for row in board.rows if len(row.results) not in (0, num_seeds)]
    return f" ({', '.join(more)})" if more else ""


def _named(level: Sequence[str], of_rows: Mapping[str, Difference | SeedsDifference | None]) -> str:
    """The rows by name, or all that were compared but a few where that is shorter."""
    apart = [name for name, one in of_rows.items() if one is not None and name not in level]
    if len(level) < _MANY or len(level) < len(apart):
        return ", ".join(level) or "none"
    return f"all {len(level)} others" if not apart else f"all others but {', '.join(apart)}"


def _untested(of_seeds: Mapping[str, SeedsDifference | None], reference: str) -> str:
    names = [name for name, one in of_seeds.items() if one is None and name != reference]
    return f" (not tested, fewer than two seeds in common: {', '.join(names)})" if names else ""


def is_beyond_noise(difference: Difference | SeedsDifference | None, board: Board) -> bool:
    """Whether a difference is surely one."""
    return difference is not None and difference.holm_p_value < board.significance


def difference_in_words(difference: Difference | None, board: Board) -> str:
    """Such as "**−.0012**" or "≈ −.0003 (p .41)"."""
    if difference is None:
        return board.against or "best"
    if is_beyond_noise(difference, board):
        return f"**{difference.value:+.5f}**"
    return f"≈ {difference.value:+.5f} (p {difference.holm_p_value:.2f})"


def by_seeds_in_words(by_seeds: SeedsDifference | None, of_rows: Difference | None, board: Board) -> str:
    """Such as "≈ −.0003 ± .0011 (p .41, 3 pairs)"; "–" where too few seeds are in common."""
    if of_rows is None:
        return board.against or "best"
    if by_seeds is None:
        return "–"
    value = f"{by_seeds.value:+.5f} ± {(by_seeds.high - by_seeds.low) / 2:.5f}"
    if is_beyond_noise(by_seeds, board):
        return f"**{value}** ({by_seeds.num_pairs} pairs)"
    return f"≈ {value} (p {by_seeds.holm_p_value:.2f}, {by_seeds.num_pairs} pairs)"


def search_cost(row: BoardRow) -> Spent | None:
    """What was paid before the training that is measured: the mean of the seeds' searches, and all trials of tuning.

    None where nothing was searched or tuned, or where a search's cost is not known.
    """
    several = [one.searched for one in row.results if one.searched is not None]
    if any(one.architecture is not None for one in row.results) and len(several) < len(row.results):
        return None
    whole = Spent.total(several)
    of_search = []
    if whole is not None:
        count = len(several)
        of_search = [Spent(whole.seconds / count, whole.core_seconds / count, round(whole.rows / count))]
    return Spent.total([*of_search, *([] if row.tuning is None else [row.tuning])])
