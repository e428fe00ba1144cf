"""What the server that tests' processes are forked from imports before the first of them: every process starts with it loaded.

Named, never imported, by tests. There is one such server in a process of pytest, so all who fork from it name this same list.
Check, search, train and calibrate import much only when they need it; on logs as small as the tests' that takes longer than their
work, and a process that is killed at a random moment would be killed importing.
"""

from __future__ import annotations

import torch

from components.checking.suite import import_great_expectations
from components.exporting import export_ranker
from components.rankers import RankerParams
from components.rankers.linear import Linear
from pipeline import bench_kills
from tests import killed_stage

assert bench_kills, "imported for the processes"
assert killed_stage, "the same"

torch.set_num_threads(1)
import_great_expectations()
_NO_SHAPE = RankerParams(embedding_width=1, hidden_widths=(), dropout=0.0, use_batch_norm=False)
export_ranker(Linear((2,), _NO_SHAPE).eval(), 1)
