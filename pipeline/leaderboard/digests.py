"""Digests of what decides a result: the encoded rows and the code that trains, calibrates and measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.checkpoint import digest_code, digest_of
from components.encoding import Encoded
from components.splitting import SPLIT_NAMES
from components.training import AUTOPI

_FOLDERS = ("rankers", "training", "calibrating", "evaluating")
_FILES = ("averaging.py", "batching.py", "compiling.py", "exporting.py", "metrics.py", "scoring.py", "stepping.py")
_SEARCH_FOLDERS = ("autopi", "rankers")
_AUTOREC_FOLDERS = ("rankers", "training")
_SEARCH_FILES = ("averaging.py", "batching.py", "compiling.py", "metrics.py", "stepping.py")


def data_digest(encoded: Encoded) -> str:
    """SHA-256 of every split's ids and clicks, and of the field sizes."""
    arrays = [array for name in SPLIT_NAMES for array in (encoded.split(name).ids, encoded.split(name).clicks)]
    sizes = str(tuple(encoded.field_sizes)).encode()
    return digest_of([sizes, *(np.ascontiguousarray(array).data.cast("B") for array in arrays)])


def code_digest(ranker: str) -> str:
    """SHA-256 of the files that decide what comes out; AutoPI's only where its network is trained."""
    folders = (*_FOLDERS, "autopi") if ranker == AUTOPI else _FOLDERS
    return _digest(folders, _FILES, "work.py")


def search_digest(ranker: str) -> str:
    """SHA-256 of the files that decide what a search for this ranker finds."""
    if ranker == AUTOPI:
        return _digest(_SEARCH_FOLDERS, _SEARCH_FILES, "searches.py")
    return _digest(_AUTOREC_FOLDERS, _SEARCH_FILES, "autorec.py")


def _digest(folders: Sequence[str], files: Sequence[str], own: str) -> str:
    return digest_of([digest_code(folders, files).encode(), Path(__file__).with_name(own).read_bytes()])
