"""How a bundle is made: everything is written, the folder is closed with its manifest, and read back as any reader will."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl

from components.artifact import write_json
from components.autopi.architecture import FoundArchitecture
from components.autopi.drawing import draw
from components.champion import PROFILE, SCORER
from components.encoding import Encoded
from components.evaluating.evaluation import Evaluation
from components.judging import Verdict, refuse_more_than_was_judged
from components.lineage import FORMAT, LINEAGE, Lineage, code_digests, lock_digest, platform_name
from components.log import CLICK, ROW, TIME, CleanLog
from components.manifest import write_manifest
from components.packing.bundle import ARCHITECTURE, CARD, DRAWING, SCHEMA, Bundle, BundledArchitecture
from components.packing.card import write_card
from components.packing.inputs import digest_artifact, digest_clean_log, digest_encoded
from components.packing.params import PackParams
from components.profiling import ReferenceProfile, build_profile
from components.scoring import Scorer
from components.splitting import Splits
from components.training import TrainedRanker


def pack_bundle(
    clean_log: CleanLog,
    splits: Splits,
    encoded: Encoded,
    architecture: FoundArchitecture,
    ranker: TrainedRanker,
    scorer: Scorer,
    evaluation: Evaluation,
    verdict: Verdict,
    params: PackParams,
) -> Bundle:
    """Write scorer, figures, verdict, profile, card and lineage into one folder, and close it; nothing else is read.

    Raises ConfigError where that makes more bytes than the verdict was reached for.
    """
    inputs = {
        "clean_log": digest_clean_log(clean_log),
        "splits": digest_artifact(splits),
        "encoded": digest_encoded(encoded),
        "architecture": digest_artifact(architecture),
        "ranker": digest_artifact(ranker),
        "scorer": digest_artifact(scorer),
        "evaluation": digest_artifact(evaluation),
        "verdict": digest_artifact(verdict),
    }
    lineage = Lineage(
        format=FORMAT,
        log=clean_log.request.log,
        window=clean_log.request.window,
        split_rule=splits.rule,
        spans=splits.spans,
        inputs=inputs,
        params=json.dumps(asdict(params), sort_keys=True),
        code=code_digests(__name__),
        lock_sha256=lock_digest(),
        platform=platform_name(),
        seeds={"profile": params.profile.seed},
    )
    bundled = BundledArchitecture(
        ranker=ranker.name,
        line=ranker.architecture.to_text() if ranker.architecture is not None else None,
        architecture=ranker.architecture,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / SCORER).mkdir()
        scorer.save(folder / SCORER)
        (folder / PROFILE).mkdir()
        _reference_profile(clean_log, splits, scorer, params).save(folder / PROFILE)
        evaluation.save(folder)
        verdict.save(folder)
        write_json(folder / LINEAGE, lineage)
        write_json(folder / SCHEMA, clean_log.schema)
        write_json(folder / ARCHITECTURE, bundled)
        (folder / DRAWING).write_text(_drawing(bundled, encoded), encoding="utf-8")
        card = write_card(clean_log, splits, encoded, ranker, evaluation, verdict, params)
        (folder / CARD).write_text(card, encoding="utf-8")
        write_manifest(folder)
        bundle = Bundle.load(folder)
    refuse_more_than_was_judged(bundle.num_bytes, verdict)
    return replace(bundle, loaded_from=None)


def _reference_profile(clean_log: CleanLog, splits: Splits, scorer: Scorer, params: PackParams) -> ReferenceProfile:
    """Profile the raw test rows with the scores that the scorer gives them."""
    wanted = pl.LazyFrame({ROW: splits.rows_of("test")}, schema={ROW: pl.Int64})
    columns = [ROW, TIME, CLICK, *(field.name for field in clean_log.schema.column_fields)]
    rows = clean_log.scan().select(columns).join(wanted, on=ROW, how="semi", maintain_order="left").collect()
    scores = scorer.score(rows)
    return build_profile(rows, scores, rows[CLICK].to_numpy().astype(np.int64), scorer.encoder, params.profile)


def _drawing(bundled: BundledArchitecture, encoded: Encoded) -> str:
    if bundled.architecture is not None:
        return draw(bundled.architecture, encoded.field_names)
    words = f"'{bundled.ranker}' is made by hand: no search found it, so there is nothing to draw"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 60" role="img">'
        f'<text x="320" y="35" text-anchor="middle" font-family="sans-serif" font-size="14">{words}</text></svg>\n'
    )
