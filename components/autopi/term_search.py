"""Which interactions of few fields are worth a term of their own: many learn at once, and those that tune does not miss go.

Stands before the trials of `halving`. A cell's operators act on all fields alike, so a found network must learn from the rows which
fields belong together; where clicks are few it does not. That selection is what AutoFIS (Liu et al. 2020) searches by the size of
learned gates. Here the judge is what Wang et al. 2021 ("Rethinking architecture selection in differentiable NAS") take instead
of a strength: how much worse the model is without it. A term's gain is the mean over tune's rows of the log loss without it less that
with it; a term stays while its gain is above so many of its standard errors.

There are two courses. All terms of few fields learn in the first. Those of more fields are too many, and too slow to leave zero, to
learn with them: so what the first course found is asked which of them it lacks, and which of those that it dropped
(`components.autopi.screening`), and the few that it lacks most surely learn in a second course beside what is left of the first. Greedy crossing of what was found is as in AutoCross
(Luo et al. 2019), but the candidates are all combinations of fields, and asked without a training.
"""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
import torch

from components.autopi.architecture import ScreenedTerm, TermEpoch
from components.autopi.identity import identity_of
from components.autopi.learning import no_facts
from components.autopi.screening import Errors, agreements
from components.autopi.search_params import SearchParams
from components.autopi.term_course import TermCourse
from components.encoding import Encoded
from components.rankers.terms import Terms, all_terms
from components.workbench import Workbench


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
        first = self._course("terms", all_terms(len(self._encoded.field_sizes), self._params.terms.orders))
        began = (time.monotonic(), time.process_time())
        self.screened = self._screen(first)
        self.facts["seconds"] += time.monotonic() - began[0]
        self.facts["core_seconds"] += time.process_time() - began[1]
        lacking = tuple(one.fields for one in self.screened if one.has_joined)
        if lacking:
            self._course("terms_2", first.found + lacking)
        return self.found

    def _course(self, name: str, terms: Terms) -> TermCourse:
        """Run one to its end, and note what it found, and at which price."""
        with torch.random.fork_rng(devices=[]):
            course = TermCourse(name, self._encoded, terms, self._params, self._workbench, self._identity)
            self.found = course.run()
        self.epochs += tuple(
            dataclasses.replace(epoch, epoch=number) for number, epoch in enumerate(course.epochs, len(self.epochs))
        )
        for fact in no_facts():
            self.facts[fact] += course.facts[fact]
        return course

    def _screen(self, course: TermCourse) -> tuple[ScreenedTerm, ...]:
        """The terms that are not in it, by their agreement: those that join, and the first of all."""
        params, sizes = self._params.terms, self._encoded.field_sizes
        every = all_terms(len(sizes), params.screened_orders)
        choices = tuple(term for term in every if term not in course.found)
        if not choices:
            return ()
        self._workbench.progress(0, 1, f"terms: asking for {len(choices):,} others whether they are lacking")
        train, tune = (self._errors(course, name) for name in ("train", "tune"))
        agreement = agreements(train, tune, sizes, choices)
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

    def _errors(self, course: TermCourse, name: str) -> Errors:
        """Of the last rows of a split."""
        split = self._encoded.split(name)
        start = max(0, len(split.clicks) - self._params.terms.screened_rows)
        ids_rf = np.asarray(split.ids[start:])
        return Errors(ids_rf, np.asarray(split.clicks[start:]).astype(np.float64), course.scores(ids_rf))
