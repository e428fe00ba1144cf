"""Each check of a field as a pure function of counts: what is measured, what is expected, how large and how sure.

Shape letters: B bins, H hours of the day.
"""

from __future__ import annotations

import numpy as np

from components.profiling import FieldBins, ReferenceProfile, Tally
from components.profiling.binning import FIRST_VALUE_BIN, MISSING_BIN
from components.watching.comparing import measure_stability, measure_usual_share, mix_of
from components.watching.distances import (
    Expectation,
    HourMix,
    one_sided,
    share_root,
    share_root_against,
    stability_terms,
)
from components.watching.drift import Measure
from components.watching.limits import Levels, Limits
from components.watching.scores import measure_invalid, measure_scores


def measure_counts(
    profile: ReferenceProfile,
    tally: Tally,
    scored: Tally,
    fields: tuple[FieldBins, ...],
    limits: Limits,
    levels: Levels,
) -> tuple[Measure, ...]:
    """All checks that counts are enough for: those of `fields` in all rows, of the scores' distribution in those of `scored`."""
    mix = mix_of(profile, tally, limits)
    measures = [measure for field in fields for measure in _measure_field(profile, tally, mix, field, limits, levels)]
    of_scores = measure_scores(profile, scored, limits, levels) if scored.num_rows else ()
    return (*measures, measure_invalid(tally), *of_scores)


def movers(profile: ReferenceProfile, tally: Tally, field: FieldBins, limits: Limits, num_movers: int) -> str:
    """The bins that add most to a field's PSI, in words."""
    name = f"field:{field.name}"
    expected = mix_of(profile, tally, limits).expect(profile.tally.counts[name])
    served = tally.counts[name].sum(axis=0).astype(np.float64)
    present = np.arange(len(served)) != MISSING_BIN
    served_shares = served * present / max(served[present].sum(), 1)
    expected_shares = expected.shares * present / max(expected.shares[present].sum(), 1e-300)
    terms = stability_terms(served * present, expected.shares * expected.num_rows * present)
    largest = np.argsort(-terms, kind="stable")[:num_movers]
    return ", ".join(
        f"{field.label(int(number))!r} {expected_shares[number]:.2%} -> {served_shares[number]:.2%}"
        for number in largest
    )


def vanished(
    profile: ReferenceProfile,
    tally: Tally,
    field: FieldBins,
    limits: Limits,
    levels: Levels,
    expected: Expectation | None = None,
) -> tuple[Measure | None, tuple[str, ...]]:
    """The values that no row has although the reference promises some, as one measure, and their names, largest first.

    Of a value with c of n reference rows none is among N served ones with probability (n / (n + N))^c or less.
    """
    if field.kind != "categorical" or not field.values:
        return None, ()
    name = f"field:{field.name}"
    expected = expected or mix_of(profile, tally, limits).expect(profile.tally.counts[name])
    served = tally.counts[name].sum(axis=0)[FIRST_VALUE_BIN:]
    shares = expected.shares[FIRST_VALUE_BIN:]
    absent = np.flatnonzero(served == 0)
    log_chance = shares[absent] * expected.num_rows * np.log(expected.num_rows / (expected.num_rows + tally.num_rows))
    p_values = np.minimum(np.exp(log_chance) * len(shares), 1.0)
    level = levels.of("field_vanished")
    gone = absent[p_values <= level]
    gone = gone[np.argsort(-shares[gone], kind="stable")]
    measured = float(shares[gone].sum())
    p_value = float(p_values.min(initial=1.0))
    effect = measured / limits.minimum_share_change
    measure = Measure(
        "field_vanished", field.name, measured, 0.0, limits.minimum_share_change, effect, tally.num_rows, p_value, level
    )
    return measure, tuple(field.values[number] for number in gone)


def _measure_field(
    profile: ReferenceProfile, tally: Tally, mix: HourMix, field: FieldBins, limits: Limits, levels: Levels
) -> tuple[Measure, ...]:
    name = f"field:{field.name}"
    num_rows = tally.num_rows
    expected = mix.expect(profile.tally.counts[name])
    served = tally.counts[name].sum(axis=0)
    num_missing = int(served[MISSING_BIN])
    missing, expected_missing = num_missing / num_rows, float(expected.shares[MISSING_BIN])
    change = limits.minimum_share_change
    page = levels.of("field_empty")
    measures = []

    is_empty = num_missing == num_rows
    p_value = float(min(expected_missing, 1.0) ** num_rows) if is_empty else 1.0
    effect = (1 - expected_missing) / change if is_empty else 0.0
    measures.append(Measure("field_empty", field.name, missing, expected_missing, 1.0, effect, num_rows, p_value, page))

    promise = field.max_missing_share
    p_value = one_sided(share_root_against(num_missing, num_rows, promise))
    effect = (missing - promise) / change
    measures.append(
        Measure("field_promise", field.name, missing, None, promise + change, effect, num_rows, p_value, page)
    )

    share = int(tally.counts[f"out_of_range:{field.name}"].sum()) / num_rows
    measures.append(Measure("field_range", field.name, share, None, change, share / change, num_rows))

    level = levels.of("field_missing")
    measures.append(
        measure_usual_share("field_missing", field.name, num_missing, num_rows, expected, MISSING_BIN, change, level)
    )

    unseen = mix.expect(profile.tally.counts[f"unseen:{field.name}"])
    num_unseen, usual = int(tally.counts[f"unseen:{field.name}"].sum()), float(unseen.shares[0])
    p_value = one_sided(_root(num_unseen, num_rows, unseen))
    share = num_unseen / num_rows
    effect = (share - usual) / change  # fewer of them no one needs to be told
    level = levels.of("field_unseen")
    measures.append(Measure("field_unseen", field.name, share, usual, usual + change, effect, num_rows, p_value, level))
    gone, _ = vanished(profile, tally, field, limits, levels, expected)
    measures += [] if gone is None else [gone]
    present = slice(MISSING_BIN + 1, None)
    measures += measure_stability(
        "field_drift", field.name, served.astype(np.float64), expected, present, limits, levels
    )
    return tuple(measures)


def _root(num_hits: int, num_rows: int, expected: Expectation) -> float:
    """How sure it is that a share of rows is not that of the reference's bin 0."""
    return share_root(num_hits, num_rows, float(expected.shares[0]) * expected.num_rows, expected.num_rows)
