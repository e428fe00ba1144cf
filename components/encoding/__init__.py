"""Values to ids: clean_log, splits -> encoded. Vocabularies and buckets are fitted on train alone.

The ids of each split lie in one `.npy` file that is mapped, not read, so a log may be larger than memory.
"""

from __future__ import annotations

from components.encoding.codes import MISSING, NUM_SPECIAL, UNSEEN
from components.encoding.encoded import Encoded, EncodedSplit, FieldCoverage, encode_log
from components.encoding.encoder import Encoder
from components.encoding.params import EncodeParams

__all__ = [
    "MISSING",
    "NUM_SPECIAL",
    "UNSEEN",
    "EncodeParams",
    "Encoded",
    "EncodedSplit",
    "Encoder",
    "FieldCoverage",
    "encode_log",
]
