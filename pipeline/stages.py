"""The whole pipeline on one page, in the data's order: each stage is a signature, a sentence and one call.

A parameter's name is the artifact it reads, its type what it must be; `makes` says what it yields. Wrong wiring fails
when this file is imported, and `dvc.yaml` is written from these signatures.

What a stage names is imported when it is asked to run, and then only that (pipeline/stage.py reads the block below):
the line as a whole stands on torch, a judge does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.stage import Line, later_imports

if TYPE_CHECKING:
    from components import checking, encoding, evaluating, exporting, judging, packing, splitting, training, watching
    from components.autopi import searching
    from components.autopi.architecture import FoundArchitecture
    from components.autopi.searching import SearchParams
    from components.champion import Champion
    from components.checking import CheckParams
    from components.encoding import Encoded, EncodeParams
    from components.evaluating import EvaluateParams, Evaluation
    from components.exporting import CalibrateParams
    from components.judging import JudgeParams, Verdict
    from components.log import CleanLog, LogRequest, RawLog, ServedLog
    from components.packing import Bundle, PackParams
    from components.scoring import Scorer
    from components.splitting import SplitParams, Splits
    from components.training import TrainedRanker, TrainParams
    from components.watching import Drift, WatchParams
    from components.workbench import Workbench

LINE = Line({"raw_log": "RawLog", "champion": "Champion", "served_log": "ServedLog"}, later_imports(__file__))
makes = LINE.makes


@makes("clean_log")
def check(raw_log: RawLog, request: LogRequest, params: CheckParams, workbench: Workbench) -> CleanLog:
    """Hold the log to what its schema promises; set aside what breaks a promise, refuse what breaks too many."""
    return checking.check_log(raw_log, request, params, workbench)


@makes("splits")
def split(clean_log: CleanLog, params: SplitParams) -> Splits:
    """Cut the log at three moments, so that no later row helps to predict an earlier one."""
    return splitting.split_log(clean_log, params)


@makes("encoded")
def encode(clean_log: CleanLog, splits: Splits, params: EncodeParams, workbench: Workbench) -> Encoded:
    """Learn each field's values on train and turn every row into ids."""
    return encoding.encode_log(clean_log, splits, params, workbench)


@makes("architecture")
def search(encoded: Encoded, params: SearchParams, workbench: Workbench) -> FoundArchitecture:
    """Find the network for this very log, on train and tune alone."""
    return searching.search_architecture(encoded, params, workbench)


@makes("ranker")
def train(
    encoded: Encoded, architecture: FoundArchitecture, params: TrainParams, workbench: Workbench
) -> TrainedRanker:
    """Train the found network from scratch; stop when tune no longer gains."""
    return training.train_ranker(encoded, architecture, params, workbench)


@makes("scorer")
def calibrate(clean_log: CleanLog, encoded: Encoded, ranker: TrainedRanker, params: CalibrateParams) -> Scorer:
    """Make logits mean probabilities, and export everything from raw row to score without torch."""
    return exporting.calibrated_scorer(clean_log.schema, encoded, ranker, params)


@makes("evaluation")
def evaluate(
    raw_log: RawLog,
    clean_log: CleanLog,
    splits: Splits,
    encoded: Encoded,
    ranker: TrainedRanker,
    scorer: Scorer,
    champion: Champion,
    params: EvaluateParams,
    workbench: Workbench,
) -> Evaluation:
    """Score the test rows, raw, with challenger and champion alike, and measure both."""
    return evaluating.evaluate_scorers(raw_log, clean_log, splits, encoded, ranker, scorer, champion, params, workbench)


@makes("verdict")
def judge(scorer: Scorer, evaluation: Evaluation, params: JudgeParams) -> Verdict:
    """Decide whether the challenger may replace the champion, each reason in words."""
    return judging.judge(scorer, evaluation, params)


@makes("bundle")
def pack(
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
    """Put into one folder what is served and all that explains it, each file with its digest."""
    return packing.pack_bundle(clean_log, splits, encoded, architecture, ranker, scorer, evaluation, verdict, params)


@makes("drift")
def watch(champion: Champion, served_log: ServedLog, params: WatchParams, workbench: Workbench) -> Drift:
    """Hold what was served against what the champion knew when it was packed."""
    return watching.watch_served(champion, served_log, params, workbench)
