"""Evaluation -> Verdict: may the challenger replace the champion? Decided from figures alone, each reason in words.

Stands between `evaluate` and `pack` in the data's way. Before the first promotion the challenger is held to absolute limits,
afterwards to the champion on the same rows: it must be no worse than a margin *at the evaluation's confidence*, so that a
short test split speaks against a promotion and never for one.
"""

from components.judging.gates import decide, judge
from components.judging.size import KnownBytes, refuse_more_than_was_judged
from components.judging.slices import chance_inside, clicks_needed, holm_adjusted, slice_name
from components.judging.verdict import GateCheck, JudgeParams, Verdict

__all__ = [
    "GateCheck",
    "JudgeParams",
    "KnownBytes",
    "Verdict",
    "chance_inside",
    "clicks_needed",
    "decide",
    "holm_adjusted",
    "judge",
    "refuse_more_than_was_judged",
    "slice_name",
]
