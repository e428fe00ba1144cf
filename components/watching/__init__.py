"""Served rows against the champion's reference profile: how they differ, whether that matters, what to do.

Stands last in the data's way. Effect sizes decide, not p-values: a finding needs an effect above its limit and
significance at a level that the pager's budget leaves to one check of one window.
"""

from typing import TYPE_CHECKING, Any

from components.watching.catalog import CHECKS, Check

if TYPE_CHECKING:
    from components.watching.drift import Drift, Finding, Measure
    from components.watching.watch import WatchParams, watch_served

__all__ = ["CHECKS", "Check", "Drift", "Finding", "Measure", "WatchParams", "watch_served"]


def __getattr__(name: str) -> Any:
    """All but the catalog is imported where it is asked for: who only names a check needs neither tables nor SciPy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from components.watching import drift

    if hasattr(drift, name):
        return getattr(drift, name)
    from components.watching import watch

    return getattr(watch, name)
