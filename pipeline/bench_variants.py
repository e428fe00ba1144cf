"""Many searches of one encoded log: `bench ablation` (what each technique and operator is worth) and `bench alike` (seeds).

Every search keeps its checkpoints and its result below .ctr, so that a bench that was stopped goes on. Choices are judged on
tune: test is not looked at.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from components.artifact import read_json, write_json
from components.autopi.alikeness import mean_share_in_common, share_by_chance
from components.autopi.architecture import Architecture, FoundArchitecture
from components.autopi.cost import read_cost
from components.autopi.identity import identity_of
from components.autopi.searching import SearchParams, search_architecture
from components.autopi.trial import Candidate, Ground, Trial
from components.checkpoint import digest_of
from components.encoding import Encoded
from components.errors import ConfigError
from components.workbench import Progress, Workbench
from pipeline.params import read_settings
from pipeline.run import Workspace

# The paper's noise on skip, where its other technique is tried.
NOISE_SHARE = 0.03


def variants_of(params: SearchParams) -> Iterator[tuple[str, SearchParams]]:
    """The search as params have it but by `darts`, each technique, each operator left out, other numbers of nodes and edges."""
    whole = dataclasses.replace(params, strategy="darts", use_annealing=True, skip_noise_share=0.0)
    yield "annealing", whole
    yield "neither", dataclasses.replace(whole, use_annealing=False)
    yield "noisy skip", dataclasses.replace(whole, use_annealing=False, skip_noise_share=NOISE_SHARE)
    yield "both", dataclasses.replace(whole, skip_noise_share=NOISE_SHARE)
    for left_out in params.operators:
        rest = tuple(name for name in params.operators if name != left_out)
        yield f"without {left_out}", dataclasses.replace(whole, operators=rest)
    for num_nodes in (2, 3):
        yield f"{num_nodes} nodes", dataclasses.replace(whole, num_nodes=num_nodes)
    for count in (1, 3):
        yield f"top {count}", dataclasses.replace(whole, edges_per_node=count)


def run_bench_ablation(
    root: Path, seeds: Sequence[int], max_epochs: int, trial_epochs: float, only: Sequence[str], progress: Progress
) -> dict[str, Any]:
    """Search the workspace's log in each variant and seed, train what was found from scratch for `trial_epochs`, judge on tune.

    Gives for each variant the mean and standard deviation of AUC and log loss over seeds, mean parameters and operations,
    and the lines. Raises ConfigError where `only` names what is no variant.
    """
    workspace = Workspace(root)
    encoded, params = workspace.read("encoded", Encoded), _params(root, max_epochs)
    variants = dict(variants_of(params))
    unknown = [name for name in only if name not in variants]
    if unknown:
        raise ConfigError(f"--only: there is no variant {', '.join(unknown)}; choose among {', '.join(variants)}")
    wanted = [(name, one) for name, one in variants.items() if not only or name in only]
    found: dict[str, Any] = {"search_epochs": max_epochs, "trial_epochs": trial_epochs, "seeds": list(seeds)}
    done = 0
    for name, variant in wanted:
        rows = []
        for seed in seeds:
            progress(done, len(wanted) * len(seeds), f"{name}, seed {seed}")
            folder = workspace.state("ablation") / f"{name.replace(' ', '_')}_{max_epochs}_{trial_epochs:g}_{seed}"
            rows.append(_judged(encoded, dataclasses.replace(variant, seed=seed), trial_epochs, folder))
            done += 1
        found[name] = _summary(rows)
        progress(done, len(wanted) * len(seeds), f"{name}: AUC {found[name]['tune_auc']:.5f}")
    return found


def run_bench_alike(
    root: Path, strategies: Sequence[str], seeds: Sequence[int], max_epochs: int | None, progress: Progress
) -> dict[str, Any]:
    """Search the workspace's log with each strategy and seed.

    Gives for each strategy the share of kept edges with the same operator that two seeds have in common, the mean over all
    pairs, core-seconds and the lines; and what blind draws have in common.
    """
    workspace = Workspace(root)
    encoded, params = workspace.read("encoded", Encoded), _params(root, max_epochs)
    chance = share_by_chance(params.num_nodes, params.edges_per_node, len(params.operators))
    figures: dict[str, Any] = {"seeds": list(seeds), "by_chance": round(chance, 4)}
    done = 0
    for strategy in strategies:
        found, seconds = [], []
        for seed in seeds:
            progress(done, len(strategies) * len(seeds), f"{strategy}, seed {seed}")
            folder = workspace.state("alike") / f"{strategy}_{params.max_epochs}_{seed}"
            one = dataclasses.replace(params, strategy=strategy, seed=seed)  # type: ignore[arg-type]
            found.append(search_architecture(encoded, one, _bench(folder)))
            seconds.append(_core_seconds(folder, found[-1]))
            done += 1
        figures[strategy] = {
            "in_common": round(mean_share_in_common([one.architecture for one in found]), 4),
            "core_seconds": round(sum(seconds), 1),
            "lines": [one.architecture.to_text() for one in found],
        }
        progress(done, len(strategies) * len(seeds), f"{strategy}: {figures[strategy]['in_common']} in common")
    return figures


def _core_seconds(folder: Path, found: FoundArchitecture) -> float:
    cost = read_cost(folder, found)
    return 0.0 if cost is None else cost.core_seconds


def _params(root: Path, max_epochs: int | None) -> SearchParams:
    params = read_settings(root).section("search", SearchParams)
    params = dataclasses.replace(params, fixed_architecture=None)
    return params if max_epochs is None else dataclasses.replace(params, max_epochs=max_epochs)


def _judged(encoded: Encoded, params: SearchParams, trial_epochs: float, folder: Path) -> dict[str, Any]:
    """Search, then train from scratch and judge on tune; what an earlier run found is taken over."""
    workbench = _bench(folder)
    identity = digest_of([json.dumps(identity_of(encoded, params, workbench), sort_keys=True).encode()])
    result = folder / "result.json"
    if result.is_file():
        kept: dict[str, Any] = read_json(result)
        if kept["identity"] == identity:
            return kept
    found = search_architecture(encoded, params, workbench)
    place = dataclasses.replace(workbench, checkpoints=folder / "trial")
    ground = Ground(encoded, params, place, identity_of(encoded, params, place), (trial_epochs,))
    plain = Architecture.from_text(found.architecture.to_text(), "the search")
    record = Trial(Candidate(0, "supernet", plain, None), params.seed, ground).run_to(0)
    assert found.collapse is not None
    row = {
        "identity": identity,
        "tune_auc": record.tune_auc[-1],
        "tune_log_loss": record.tune_log_loss[-1],
        "parameters": record.num_parameters,
        "operations": record.num_flops,
        "skip_share": found.collapse.skip_share,
        "alpha_entropy": found.collapse.alpha_entropy,
        "core_seconds": _core_seconds(folder, found),
        "line": record.line,
    }
    write_json(result, row)
    return row


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name in ("tune_auc", "tune_log_loss"):
        values = [row[name] for row in rows]
        figures[name] = round(statistics.fmean(values), 5)
        figures[f"{name}_sd"] = round(statistics.stdev(values), 5) if len(values) > 1 else None
    for name in ("parameters", "operations", "core_seconds"):
        figures[name] = round(statistics.fmean(row[name] for row in rows))
    for name in ("skip_share", "alpha_entropy"):
        figures[name] = round(statistics.fmean(row[name] for row in rows), 4)
    figures["lines"] = [row["line"] for row in rows]
    return figures


def _bench(folder: Path) -> Workbench:
    folder.mkdir(parents=True, exist_ok=True)
    return Workbench(folder, folder, _tell_nobody, "cpu", "auto", None, lambda: None, 1)


def _tell_nobody(done: float, total: float, note: str) -> None:
    """The bench tells of whole searches."""
