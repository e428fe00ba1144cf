"""Ranker -> ONNX -> scorer: the last place where torch is needed; what comes out is served without it.

Shape letters: B rows in a batch, F fields.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import torch
from torch.utils.flop_counter import FlopCounterMode

from components.calibrating import CalibrateParams as CalibrateParams
from components.calibrating import Calibrator, fit_calibrator
from components.encoding import Encoded
from components.errors import DataError
from components.log import LogSchema
from components.rankers.ranker import Ranker
from components.scoring import ONNX_IDS, ONNX_LOGITS, Scorer, ScorerFacts
from components.training import TrainedRanker

_TRACED_ROWS = 3
"""Any number but 0 and 1, which torch.export takes for constants."""


def calibrated_scorer(schema: LogSchema, encoded: Encoded, ranker: TrainedRanker, params: CalibrateParams) -> Scorer:
    """Export the ranker and calibrate what the export says of the calibrate split, so that what is served is calibrated."""
    network = ranker.build()
    embeddings = sum(parameter.numel() for parameter in network.embedding_parameters())
    facts = ScorerFacts(
        ranker=ranker.name,
        num_parameters=sum(parameter.numel() for parameter in network.parameters()) - embeddings,
        num_embedding_parameters=embeddings,
        num_flops_per_row=count_flops(network, len(encoded.field_sizes)),
        negative_keep_rate=ranker.negative_keep_rate,
        num_threads=params.num_threads,
        batch_rows=params.batch_rows,
    )
    uncalibrated = Calibrator.identity(ranker.negative_keep_rate)
    scorer = Scorer(schema, encoded.encoder, uncalibrated, export_ranker(network, len(encoded.field_sizes)), facts)
    split = encoded.split("calibrate")
    logits_r = scorer.logits(split.ids)
    calibrator = fit_calibrator(
        logits_r, np.asarray(split.clicks), np.asarray(split.times), ranker.negative_keep_rate, params
    )
    return Scorer(schema, encoded.encoder, calibrator, scorer.onnx, facts)


def export_ranker(network: Ranker, num_fields: int) -> bytes:
    """Write a ranker in eval mode as ONNX, ids (B, F) int32 -> logits (B,) float32 for any B; the same bytes anywhere."""
    ids_bf = torch.zeros((_TRACED_ROWS, num_fields), dtype=torch.int32)
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            network,
            (ids_bf,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("rows")},),
            input_names=[ONNX_IDS],
            output_names=[ONNX_LOGITS],
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise DataError("torch.onnx.export gave no program")
    return _without_origins(program.model_proto)


def count_flops(network: Ranker, num_fields: int) -> int:
    """Count the floating point operations of matrix products and convolutions for one row."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros((1, num_fields), dtype=torch.int32))
    return int(counter.get_total_flops())


def _without_origins(model: onnx.ModelProto) -> bytes:
    """Serialise without what tells where and by what it was made: stack traces, paths, names of versions."""
    for name in ("producer_name", "producer_version", "doc_string", "metadata_props"):
        model.ClearField(name)
    graph = model.graph
    graph.ClearField("doc_string")
    graph.ClearField("metadata_props")
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    graph.name = "ranker"
    onnx.checker.check_model(model)
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence what the exporter says of other things: packages that are not there and its own future."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"(torch|copyreg|onnxscript)\b.*")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(torch|copyreg|onnxscript)\b.*")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
