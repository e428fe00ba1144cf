"""Which interactions of few fields are worth a term of their own: many learn at once, and those that tune does not miss go.

Stands before the trials of `halving`. A cell's operators act on all fields alike, so a found network must learn from the rows which
fields belong together; where clicks are few it does not. That selection is what AutoFIS (Liu et al. 2020) searches by the size of
learned gates. Here the judge is what Wang et al. 2021 ("Rethinking architecture selection in differentiable NAS") take instead
of a strength: how much worse the model is without it. A term's gain is the mean over tune's rows of the log loss without it less that
with it; a term stays while its gain is above so many of its standard errors.

There are two courses. All terms of few fields learn in the first. Those of more fields are too many, and too slow to leave zero, to
learn with them: so what the first course found is asked which of them it lacks, and which of those that it dropped
(`components.autopi.screening`), and the few that it lacks most surely learn in a second course beside what is left of the first.
Greedy crossing of what was found is as in AutoCross (Luo et al. 2019), but the candidates are all combinations of fields, and
asked without a training.

A log of many fields has too many for that: 150 fields have 11,175 pairs, whose products are half a gigabyte for 1,024 rows, and
half a million triples. Then the pairs that learn are those that main effects alone surely lack, asked in the same way (FAST of Lou
et al. 2013, "Accurate intelligible models with pairwise interactions", ranks pairs on the residuals of an additive model, too),
and only the fields that tell most by themselves are combined at all (weak heredity; Chipman 1996).
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from scipy.special import ndtri

from components.autopi.architecture import ScreenedTerm, TermEpoch
from components.autopi.identity import identity_of
from components.autopi.learning import no_facts
from components.autopi.screening import Errors, agreements
from components.autopi.search_params import SearchParams
from components.autopi.term_course import TermCourse
from components.encoding import Encoded
from components.rankers.terms import Terms, all_terms, num_terms
from components.workbench import Workbench

# A second or two of work, between which a stop is heard.
_TOLD_AFTER = 500


class TermSearch:
    """One search for terms: a course, a screening of what it lacks, and a second course where something was lacking."""

    def __init__(self, encoded: Encoded, params: SearchParams, workbench: Workbench) -> None:
        self._encoded = encoded
        self._params = params
        self._workbench = workbench
        self._identity = {**identity_of(encoded, params, workbench), "work": "terms"}
        self.found: Terms = ()
        self.epochs: tuple[TermEpoch, ...] = ()
        self.screened: tuple[ScreenedTerm, ...] = ()
        self.facts = no_facts()

    def run(self) -> Terms:
        """Go on until the end, or raise Stopped after a checkpoint when asked to stop."""
        terms, first = self._asked(self._params.terms.orders), None
        if len(terms) > self._params.terms.max_learned:
            first = self._run("terms_0", ())
            terms = self._likeliest(first, terms)
        if first is None or terms:
            first = self._course("terms", terms)
        self.screened = self._screen(first)
        lacking = tuple(one.fields for one in self.screened if one.has_joined)
        if lacking:
            self._course("terms_2", first.found + lacking)
        return self.found

    def _asked(self, orders: Collection[int]) -> Terms:
        """Every combination of the fields; where they would be too many, of those fields that tell most by themselves."""
        sizes, most = self._encoded.field_sizes, self._params.terms.max_asked
        if num_terms(len(sizes), orders) <= most:
            return all_terms(len(sizes), orders)
        with self._timed():
            train, tune = (self._rows(name) for name in ("train", "tune"))
            telling = list(agreements(train, tune, sizes, tuple((field,) for field in range(len(sizes)))))
        ranked = sorted(range(len(sizes)), key=lambda field: (-telling[field], field))
        count = max(number for number in range(len(sizes)) if num_terms(number, orders) <= most)
        fields = sorted(ranked[:count])
        return tuple(tuple(fields[place] for place in term) for term in all_terms(count, orders))

    def _likeliest(self, main_effects: TermCourse, terms: Terms) -> Terms:
        """So many of these as may learn at once, of those that main effects lack by more than one of so many would by chance."""
        agreement = self._agreements(main_effects, terms)
        least = -float(ndtri(1 / len(terms)))
        ranked = sorted(range(len(terms)), key=lambda place: (-agreement[place], place))
        chosen = [place for place in ranked[: self._params.terms.max_learned] if agreement[place] > least]
        return tuple(terms[place] for place in sorted(chosen))

    def _course(self, name: str, terms: Terms) -> TermCourse:
        """Run one to its end, and note what it found."""
        course = self._run(name, terms)
        self.found = course.found
        self.epochs += tuple(
            dataclasses.replace(epoch, epoch=number) for number, epoch in enumerate(course.epochs, len(self.epochs))
        )
        return course

    def _run(self, name: str, terms: Terms) -> TermCourse:
        """Run a course to its end, and note its price."""
        with torch.random.fork_rng(devices=[]):
            course = TermCourse(name, self._encoded, terms, self._params, self._workbench, self._identity)
            course.run()
        for fact in no_facts():
            self.facts[fact] += course.facts[fact]
        return course

    def _screen(self, course: TermCourse) -> tuple[ScreenedTerm, ...]:
        """The terms that are not in it, by their agreement: those that join, and the first of all."""
        params, found_already = self._params.terms, set(course.found)
        choices = tuple(term for term in self._asked(params.screened_orders) if term not in found_already)
        if not choices:
            return ()
        agreement = self._agreements(course, choices)
        ordered = sorted(zip(agreement, choices, strict=True), key=lambda one: (-one[0], one[1]))
        joining: list[tuple[int, ...]] = []
        for found, term in ordered:
            # Where two fields lack their term, so does every third beside them, only less surely.
            is_owed_to_fewer = any(set(other) < set(term) for other in joining)
            if found >= params.min_agreement and not is_owed_to_fewer and len(joining) < params.max_screened:
                joining.append(term)
        shown = [one for one in ordered if math.isfinite(one[0])][: params.max_screened]
        return tuple(
            ScreenedTerm(term, found, term in joining)
            for found, term in ordered
            if term in joining or (found, term) in shown
        )

    def _agreements(self, course: TermCourse, terms: Terms) -> list[float]:
        """What `agreements` says of each; raises Stopped where asked to stop, since many take a minute."""
        found: list[float] = []
        with self._timed():
            train, tune = (
                dataclasses.replace(rows, scores=course.scores(rows.ids))
                for rows in (self._rows(name) for name in ("train", "tune"))
            )
            for number, agreement in enumerate(agreements(train, tune, self._encoded.field_sizes, terms)):
                if number % _TOLD_AFTER == 0:
                    words = f"terms: asking for {len(terms):,} others whether they are lacking"
                    self._workbench.progress(number, len(terms), words)
                    self._workbench.stop_if_asked("in the search for terms")
                found.append(agreement)
        return found

    def _rows(self, name: str) -> Errors:
        """The last rows of a split, scored by its click rate."""
        split = self._encoded.split(name)
        start = max(0, len(split.clicks) - self._params.terms.screened_rows)
        clicks_r = np.asarray(split.clicks[start:]).astype(np.float64)
        return Errors(np.asarray(split.ids[start:]), clicks_r, np.full(len(clicks_r), clicks_r.mean()))

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Add what the block takes to the price."""
        began = (time.monotonic(), time.process_time())
        try:
            yield
        finally:
            self.facts["seconds"] += time.monotonic() - began[0]
            self.facts["core_seconds"] += time.process_time() - began[1]
