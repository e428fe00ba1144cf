"""Champions: bundles in DVC, named by git tags in GTO's form, in a git repository that only promotions write to."""

from pipeline.registry.champions import Registry
from pipeline.registry.records import (
    PROD,
    STAGES,
    Challenger,
    Event,
    Hold,
    Keys,
    Record,
    Refused,
    RegistryParams,
    Version,
)

__all__ = [
    "PROD",
    "STAGES",
    "Challenger",
    "Event",
    "Hold",
    "Keys",
    "Record",
    "Refused",
    "Registry",
    "RegistryParams",
    "Version",
]
