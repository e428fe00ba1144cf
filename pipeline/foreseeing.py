"""What a later stage would refuse about the params, refused before the dear ones begin.

A search of hours must not end at a key mistyped in another stage's section: each section is read when its stage runs, which is
late for those at the end of the line.
"""

from __future__ import annotations

from pipeline.params import Settings
from pipeline.stages import LINE

DEAR = ("search", "train")
"""Stages that take long and import what all others stand on anyway."""


def refuse_what_later_stages_would(settings: Settings) -> None:
    """Read every stage's section; raises ConfigError for keys and values that no stage takes, and for fields that the schema has not."""
    from components.evaluating import EvaluateParams
    from components.evaluating.slicing import columns_needed

    for stage in LINE.stages:
        if stage.params is not None:
            settings.section(stage.verb, stage.later[stage.params].carried_out())
    columns_needed(settings.request().schema, settings.section("evaluate", EvaluateParams))
