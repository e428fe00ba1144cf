"""Ranker -> ONNX -> scorer: the last place where torch is needed; what comes out is served without it.

Shape letters: B rows in a batch, F fields.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.utils.flop_counter import FlopCounterMode

from components.calibrating import CalibrateParams as CalibrateParams
from components.calibrating import Calibrator, Floats, fit_calibrator
from components.encoding import Encoded
from components.log import LogSchema
from components.rankers.ranker import Ranker
from components.scoring import ONNX_IDS, ONNX_LOGITS, Scorer, ScorerFacts
from components.training import TrainedRanker

_TRACED_ROWS = 3
"""Any number but 0 and 1, which torch.export takes for constants."""

_SCORED_ROWS = 8192
"""Rows at once through the trained network: bounds the memory, changes nothing else."""


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
    exported = export_ranker(network, len(encoded.field_sizes))
    scorer = Scorer(schema, encoded.encoder, uncalibrated, exported, facts)
    split = encoded.split("calibrate")
    logits_r = scorer.logits(split.ids)
    calibrator = fit_calibrator(
        logits_r, np.asarray(split.clicks), np.asarray(split.times), ranker.negative_keep_rate, params
    )
    return Scorer(schema, encoded.encoder, calibrator, scorer.onnx, facts)


def export_ranker(network: Ranker, num_fields: int) -> bytes:
    """Write a ranker in eval mode as ONNX, ids (B, F) int32 -> logits (B,) for any B; the same bytes anywhere.

    Weights stay float32, as trained (but for what batch norm is folded into), while all sums are float64: two libraries or
    machines that sum in float32 differ by up to 3e-6 in the score where logits are large, more than parity allows.
    """
    ids_bf = torch.zeros((_TRACED_ROWS, num_fields), dtype=torch.int32)
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            _in_float64(network),
            (ids_bf,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("rows")},),
            input_names=[ONNX_IDS],
            output_names=[ONNX_LOGITS],
            external_data=False,
            verbose=False,
        )
    assert program is not None  # only the exporter that is not asked for here gives none
    model = program.model_proto
    _store_as_float32(model.graph)
    _forget_origins(model)
    onnx.checker.check_model(model)
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def trained_logits(ranker: TrainedRanker, ids_rf: np.ndarray[Any, Any]) -> Floats:
    """Give the logits (R,) of encoded rows (R, F) by the trained network itself, summed in float64: what an export should say."""
    network = _in_float64(ranker.build())
    with torch.inference_mode():
        parts = [
            network(torch.from_numpy(np.array(ids_rf[start : start + _SCORED_ROWS]))).numpy()
            for start in range(0, len(ids_rf), _SCORED_ROWS)
        ]
    return np.concatenate([np.empty(0), *parts])


def _in_float64(network: Ranker) -> Ranker:
    return copy.deepcopy(network).double()


def count_flops(network: Ranker, num_fields: int) -> int:
    """Count the floating point operations of matrix products and convolutions for one row."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros((1, num_fields), dtype=torch.int32))
    return int(counter.get_total_flops())


def _store_as_float32(graph: onnx.GraphProto) -> None:
    """Keep each float64 constant that is a float32 one as such, and widen it where it is used: a table after the look-up."""
    looked_up = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    used_otherwise = {
        name for node in graph.node for place, name in enumerate(node.input) if node.op_type != "Gather" or place > 0
    }
    nodes: list[onnx.NodeProto] = []
    narrowed: set[str] = set()
    for constant in graph.initializer:
        values = numpy_helper.to_array(constant)
        narrow = values.astype(np.float32) if values.dtype == np.float64 else values
        if values.dtype != np.float64 or not np.array_equal(narrow, values):
            continue
        name = constant.name
        if name in looked_up and name not in used_otherwise:
            narrowed.add(name)
            constant.CopyFrom(numpy_helper.from_array(narrow, name))
        else:
            constant.CopyFrom(numpy_helper.from_array(narrow, f"{name}.float32"))
            nodes.append(helper.make_node("Cast", [f"{name}.float32"], [name], to=TensorProto.DOUBLE))
    for node in graph.node:
        nodes.append(node)
        if node.op_type == "Gather" and node.input[0] in narrowed:
            result = node.output[0]
            node.output[0] = f"{result}.float32"
            nodes.append(helper.make_node("Cast", [f"{result}.float32"], [result], to=TensorProto.DOUBLE))
    kept = [copy.deepcopy(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def _forget_origins(model: onnx.ModelProto) -> None:
    """Drop what tells where and by what a model was made: stack traces, paths, names of versions."""
    for name in ("producer_name", "producer_version", "doc_string", "metadata_props"):
        model.ClearField(name)
    graph = model.graph
    for name in ("doc_string", "metadata_props", "value_info"):  # the runtime infers value_info, types and shapes, anew
        graph.ClearField(name)
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    graph.name = "ranker"


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
