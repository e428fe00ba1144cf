"""Scorer, evaluation, verdict, reference profile, card and lineage in one closed folder: the bundle that is promoted.

Stands after `judge` in the data's way, the last stage before the registry. The same inputs give the same bytes, so a
bundle's digest says whether a run was reproduced. `verify_bundle` recomputes everything before anything is believed.
"""

from components.packing.bundle import Bundle, verify_bundle
from components.packing.closing import pack_bundle
from components.packing.params import PackParams

__all__ = ["Bundle", "PackParams", "pack_bundle", "verify_bundle"]
