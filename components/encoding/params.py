"""What people set for the encoding of a log."""

from __future__ import annotations

from dataclasses import dataclass

from components.strict import Strict


@dataclass(frozen=True)
class EncodeParams(Strict):
    """How values become ids.

    min_count         rows of train that a value (or a bucket of the squared log) must have for an id of its own
    max_vocabulary    values of one categorical field with an id of their own, at most; the most frequent win
    num_hash_buckets  ids shared by hash among all other values of a field that has more than max_vocabulary; 0 for none, then
                      they are all "unseen"
    num_buckets       buckets of a numeric field cut at quantiles, at most
    """

    min_count: int
    max_vocabulary: int
    num_hash_buckets: int
    num_buckets: int
