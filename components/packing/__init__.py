"""Scorer, evaluation, verdict, reference profile, card and lineage in one closed folder: the bundle that is promoted.

Stands after `judge` in the data's way, the last stage before the registry. The same inputs give the same bytes, so a
bundle's digest says whether a run was reproduced. `verify_bundle` recomputes everything before anything is believed.
"""

from typing import TYPE_CHECKING, Any

from components.packing.bundle import Bundle, verify_bundle
from components.packing.params import PackParams

if TYPE_CHECKING:
    from components.packing.closing import pack_bundle

__all__ = ["Bundle", "PackParams", "pack_bundle", "verify_bundle"]


def __getattr__(name: str) -> Any:
    """`pack_bundle`, which needs torch, is imported where it is asked for: who only reads a bundle (promote) needs none."""
    if name != "pack_bundle":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from components.packing.closing import pack_bundle

    return pack_bundle
