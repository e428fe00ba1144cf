"""What a checkpoint of a search belongs to; one that belongs to anything else is not gone on from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.autopi.search_params import SearchParams
from components.batching import pick_device
from components.checkpoint import digest_of
from components.encoding import Encoded
from components.workbench import Workbench

# The files whose text decides what a step computes.
_CODE = (
    *(f"{folder}/{kind}" for folder in ("autopi", "rankers") for kind in ("*.py", "*.[ch]")),
    *("averaging.py", "batching.py", "compiling.py", "metrics.py", "stepping.py"),
)


def identity_of(encoded: Encoded, params: SearchParams, workbench: Workbench) -> dict[str, Any]:
    """What a checkpoint of a search belongs to: the rows, params, code, torch, device."""
    splits = [encoded.split(name) for name in ("train", "tune")]
    return {
        "data": digest_of(np.ascontiguousarray(part).data for split in splits for part in (split.ids, split.clicks)),
        "params": dataclasses.asdict(params),
        "code": _digest_code(),
        "torch": str(torch.__version__),
        "device": pick_device(workbench.device).type,
        "limit_batches": workbench.limit_batches,
    }


def _digest_code() -> str:
    components = Path(__file__).resolve().parent.parent
    paths = sorted({path for pattern in _CODE for path in components.glob(pattern)})
    return digest_of(part for path in paths for part in (path.name.encode(), path.read_bytes()))
