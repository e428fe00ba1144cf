"""Served rows against the champion's reference profile: how they differ, whether that matters, what to do.

Stands last in the data's way. Effect sizes decide, not p-values: a finding needs an effect above its limit and
significance at a level that the pager's budget leaves to one check of one window.
"""

from components.watching.catalog import CHECKS, Check
from components.watching.drift import Drift, Finding, Measure
from components.watching.watch import WatchParams, watch_served

__all__ = ["CHECKS", "Check", "Drift", "Finding", "Measure", "WatchParams", "watch_served"]
