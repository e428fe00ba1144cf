"""The search in words: how the strategy works, what it cost, and whether it shows signs of a collapse."""

from __future__ import annotations

import math
from collections.abc import Sequence

from components.autopi.architecture import Collapse, FoundArchitecture
from components.autopi.cost import SearchCost
from pipeline.report.words import percent

_LEADS = {
    "darts": "The search tries every operator on every edge at once, and learns which to keep (alpha: operators, beta: edges).",
    "darts_second_order": "The search tries every operator on every edge at once, and learns which to keep, looking one step of the weights ahead.",
    "random": "The search draws networks blindly, trains each from scratch for a short while, and takes the best on tune.",
    "halving": "The search trains many networks from scratch for a short while; the better ones go on, and the best on tune is taken.",
    "fixed": "Nothing was searched: the network was given.",
}


def search_in_words(
    found: FoundArchitecture | None, cost: SearchCost | None, field_names: Sequence[str]
) -> dict[str, str]:
    """`lead`, `cost`, `terms`, `trials` and `collapse`, each a sentence or more, empty where there is nothing to say."""
    if found is None:
        return dict.fromkeys(("lead", "cost", "terms", "trials", "collapse"), "")
    return {
        "lead": _LEADS.get(found.strategy, f"Strategy “{found.strategy}”."),
        "cost": _cost(found, cost),
        "terms": _terms(found, field_names) if found.term_epochs else "",
        "trials": _trials(found) if found.trials else "",
        "collapse": "" if found.collapse is None else _collapse(found.collapse),
    }


def _cost(found: FoundArchitecture, cost: SearchCost | None) -> str:
    words = f"{found.trial_rows:,} rows passed through candidates." if found.trial_rows else ""
    if cost is not None:
        words += f" All parts of the search one after the other took {cost.seconds:,.0f} seconds, {cost.core_seconds:,.0f} core-seconds."
    return words.strip()


def _terms(found: FoundArchitecture, field_names: Sequence[str]) -> str:
    first, last = found.term_epochs[0], found.term_epochs[-1]
    num_fields, num_learned = found.architecture.num_fields, len(first.terms)
    num_all = sum(math.comb(num_fields, order) for order in {len(term) for term in first.terms})
    which = (
        f"all {num_learned:,} of them,"
        if num_learned == num_all
        else f"{num_learned:,} of {num_all:,}, those that main effects surely lack,"
    )
    words = (
        f"Terms beside the cells: interactions of few fields, {which} learned side by side, and those that tune "
        f"did not miss were dropped, epoch by epoch; {len(found.architecture.terms)} are left"
    )
    gains = dict(zip(last.terms, last.gains, strict=True))
    ordered = sorted((term for term in found.architecture.terms if term in gains), key=lambda term: -gains[term])
    if ordered:
        listed = ", ".join(f"{_named(term, field_names)} ({gains[term]:.5f})" for term in ordered)
        words += f" (in brackets what tune’s log loss would rise by without each): {listed}"
    return words + "." + _screened(found, field_names)


def _screened(found: FoundArchitecture, field_names: Sequence[str]) -> str:
    if not found.screened_terms:
        return ""
    joined = [one for one in found.screened_terms if one.has_joined]
    rest = next((one for one in found.screened_terms if not one.has_joined), None)
    listed = ", ".join(f"{_named(one.fields, field_names)} ({one.agreement:.1f})" for one in joined)
    words = f" Then the others, of more fields too, were asked which of them are lacking: {listed or 'none surely'}"
    words += " (in brackets how many standard errors the errors on train and on tune agree by)" if joined else ""
    if rest is not None:
        words += f"; the highest of the others, {_named(rest.fields, field_names)}, has {rest.agreement:.1f}"
    return words + ". Those learned beside the first, and were judged in the same way." if joined else words + "."


def _named(term: Sequence[int], field_names: Sequence[str]) -> str:
    return " × ".join(field_names[field] if field_names else f"field {field}" for field in term)


def _trials(found: FoundArchitecture) -> str:
    rungs = max((trial.steps for trial in found.trials), key=len)
    numbers = {trial.number for trial in found.trials}
    steps = ", ".join(f"{count:,}" for count in rungs)
    return (
        f"{len(numbers)} candidates; they were compared on tune after {steps} batches. The winner’s own figure flatters it: "
        "it was chosen by it."
    )


def _collapse(collapse: Collapse) -> str:
    words = f"Signs of a collapse: {percent(collapse.skip_share)} of the kept edges are plain skips"
    if collapse.alpha_entropy is not None:
        words += f"; alpha’s mean entropy is {percent(collapse.alpha_entropy)} of what undecided would be (0 % is wholly decided)"
    if collapse.rank_correlation is not None:
        words += (
            f"; the supernet’s strengths and the quality of {collapse.num_ranked} candidates trained from scratch have a rank "
            f"correlation of {collapse.rank_correlation:.2f} (1: it knows what is good, 0: it knows nothing)"
        )
    return words + "."
