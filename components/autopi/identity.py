"""What a checkpoint of a search belongs to; one that belongs to anything else is not gone on from."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from components.autopi.search_params import SearchParams
from components.batching import pick_device
from components.checkpoint import digest_code, digest_of
from components.encoding import Encoded
from components.workbench import Workbench

# The files whose text decides what a step computes.
_FOLDERS = ("autopi", "rankers")
_FILES = ("averaging.py", "batching.py", "compiling.py", "metrics.py", "stepping.py")


def identity_of(encoded: Encoded, params: SearchParams, workbench: Workbench) -> dict[str, Any]:
    """What a checkpoint of a search belongs to: the rows, params, code, torch, device."""
    splits = [encoded.split(name) for name in ("train", "tune")]
    return {
        "data": digest_of(np.ascontiguousarray(part).data for split in splits for part in (split.ids, split.clicks)),
        "params": dataclasses.asdict(params),
        "code": digest_code(_FOLDERS, _FILES),
        "torch": str(torch.__version__),
        "device": pick_device(workbench.device).type,
        "limit_batches": workbench.limit_batches,
    }
