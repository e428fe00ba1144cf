"""Our side of `bench train`: batches from encoded rows, and the very step of `train`, the average of the weights included."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel

from components.averaging import averaged
from components.batching import Batches
from components.compiling import learn_by_kernels
from components.encoding import EncodedSplit
from components.rankers import Ranker
from components.stepping import Loss, adam, keep_freed_memory, take_step
from components.training import TrainParams, build_ranker
from components.training.losses import loss_of
from pipeline.bench_search import FRAPPE_FIELD_SIZES
from pipeline.bench_train import BATCH_ROWS, STEPS
from pipeline.params import read_settings

_EMBEDDING_L2 = 0.1


def _rows() -> EncodedSplit:
    generator = np.random.default_rng(1)
    num_rows = 16 * BATCH_ROWS
    ids = np.stack([generator.integers(0, size, num_rows) for size in FRAPPE_FIELD_SIZES], axis=1).astype(np.int32)
    return EncodedSplit(ids, generator.integers(0, 2, num_rows).astype(np.int8), np.zeros(num_rows, np.int64))


def _endless(split: EncodedSplit) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    batches = Batches(split, None, BATCH_ROWS, torch.device("cpu"), 1)
    return itertools.chain.from_iterable(batches.epoch(number) for number in itertools.count())


def main() -> None:
    """Answer each model's name on stdin with the seconds of its steps; the argument is what `train.kernels` would be."""
    preset = read_settings(Path(__file__).parents[2]).section("train", TrainParams)
    batches = _endless(_rows())
    keep_freed_memory()
    built: dict[str, tuple[Ranker, torch.optim.Optimizer, AveragedModel, Loss]] = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in built:
            params = dataclasses.replace(preset, ranker=name, embedding_l2={name: _EMBEDDING_L2})
            ranker = build_ranker(name, FRAPPE_FIELD_SIZES, params.ranker_params[name], None).train()
            if sys.argv[1] == "compiled":
                learn_by_kernels(ranker)
            own = adam(ranker, params.own_learning_rate, params.own_embedding_l2, params.terms)
            built[name] = ranker, own, averaged(ranker, params.weight_averaging), loss_of(params)
        ranker, optimizer, average, loss = built[name]
        started = time.perf_counter()
        for ids_bf, clicks_b in itertools.islice(batches, STEPS):
            take_step(ranker, optimizer, average, ids_bf, clicks_b, loss)
        print(json.dumps(time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    main()
