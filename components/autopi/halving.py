"""Successive halving: many architectures trained from scratch a little, the better ones further; the winner is best on tune.

Alpha alone is a poor judge: supernets rank architectures weakly, and random search with early stopping is a strong rival of
gradient search (Li and Talwalkar 2019, "Random search and reproducibility for NAS"; the rungs are those of Jamieson and
Talwalkar 2016). So the supernet, if asked at all, only proposes candidates beside random ones, and training decides.

Each trial keeps its own checkpoint and its record is decided by it alone; so this search has no state of its own: one that
was stopped runs through the same rungs again and finds them done.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence

import numpy as np

from components.autopi.architecture import Architecture, EpochRecord, FoundArchitecture, TrialRecord
from components.autopi.collapse import measure_collapse
from components.autopi.cost import write_cost
from components.autopi.darts import DartsSearch
from components.autopi.discretising import Strengths, strengths_of
from components.autopi.identity import identity_of
from components.autopi.pricing import price_of_trial
from components.autopi.sampling import draw_architecture, even_strengths, log_strength
from components.autopi.search_params import SearchParams
from components.autopi.side_by_side import train_side_by_side
from components.autopi.term_search import TermSearch
from components.autopi.trial import Candidate, Ground, Trial, forget
from components.checkpoint import load_checkpoint
from components.encoding import Encoded
from components.errors import ConfigError
from components.rankers.terms import Terms, all_terms, num_terms
from components.side_by_side import can_stand_side_by_side
from components.workbench import Workbench

# So many draws in a row that give nothing new mean that the space has no more architectures.
_MAX_REPEATED_DRAWS = 1000


def search_halving(encoded: Encoded, params: SearchParams, workbench: Workbench) -> FoundArchitecture:
    """Terms first, for a share of the candidates; some candidates from a supernet (where supernet_share says so), the others random; then rungs."""
    count = round(params.trial.num_candidates * params.trial.supernet_share)
    supernet: DartsSearch | None = None
    if count > 0:
        supernet = DartsSearch(
            encoded, params, dataclasses.replace(workbench, checkpoints=workbench.checkpoints / "supernet")
        )
        supernet.run()
    terms: TermSearch | None = None
    num_with_terms = math.ceil(params.term_share * params.trial.num_candidates - 1e-9)
    if num_with_terms > 0 and params.terms.orders and len(encoded.field_sizes) >= min(params.terms.orders):
        terms = TermSearch(encoded, params, workbench)
        terms.run()
    best = None if supernet is None else supernet.best_record()
    candidates = _draw_candidates(params, len(encoded.field_sizes), best, count, params.trial.num_candidates)
    if terms is not None:
        candidates = [
            _with_terms(candidate, terms.found if candidate.number < num_with_terms else ()) for candidate in candidates
        ]
    return _decide("halving", encoded, params, workbench, candidates, params.trial_rung_epochs, supernet, terms)


def search_random(encoded: Encoded, params: SearchParams, workbench: Workbench) -> FoundArchitecture:
    """As many random architectures, each trained as far as the last rung, as halving's trials would pay for (AutoPI-R)."""
    trial = params.trial
    longest = params.trial_rung_epochs[-1] * trial.num_seeds
    affordable = max(1, int(epochs_of_halving(params) / longest + 1e-9))
    candidates = _draw_candidates(params, len(encoded.field_sizes), None, 0, affordable)
    generator = np.random.default_rng([params.seed, 2])
    num_fields = len(encoded.field_sizes)
    more_orders = set(params.terms.screened_orders) - set(params.terms.orders)
    few, more = (_choices(num_fields, orders, params, generator) for orders in (params.terms.orders, more_orders))
    most = min(len(few), params.terms.max_learned)
    candidates = [
        _with_terms(
            candidate,
            _draw_terms(few, most, generator) + _draw_terms(more, params.terms.max_screened, generator),
        )
        for candidate in candidates
    ]
    return _decide("random", encoded, params, workbench, candidates, params.trial_rung_epochs[-1:], None, None)


def _choices(num_fields: int, orders: Collection[int], params: SearchParams, generator: np.random.Generator) -> Terms:
    """All terms of these orders; so many of them, drawn blindly, as a search for terms would look at where there are more."""
    count = params.terms.max_asked
    if num_terms(num_fields, orders) <= count:
        return all_terms(num_fields, orders)
    drawn: set[tuple[int, ...]] = set()
    weights = np.array([math.comb(num_fields, order) for order in sorted(orders)], np.float64)
    while len(drawn) < count:
        order = int(generator.choice(sorted(orders), p=weights / weights.sum()))
        drawn.add(tuple(sorted(int(field) for field in generator.choice(num_fields, order, replace=False))))
    return tuple(sorted(drawn, key=lambda term: (len(term), term)))


def _draw_terms(choices: Terms, most: int, generator: np.random.Generator) -> Terms:
    """Any number of terms up to `most`, each number as likely, and any of that number."""
    if not choices:
        return ()
    count = int(generator.integers(0, min(len(choices), most) + 1))
    return tuple(choices[place] for place in sorted(generator.choice(len(choices), size=count, replace=False)))


def _with_terms(candidate: Candidate, terms: Terms) -> Candidate:
    return dataclasses.replace(candidate, architecture=dataclasses.replace(candidate.architecture, terms=terms))


def epochs_of_halving(params: SearchParams) -> float:
    """Passes over train that all trials of `halving` take together, the supernet's not counted."""
    trial = params.trial
    alive, before, total = trial.num_candidates, 0.0, 0.0
    for rung, epochs in enumerate(params.trial_rung_epochs):
        alive = alive if rung == 0 else num_kept(alive, trial.kept_share)
        total += alive * (epochs - before)
        before = epochs
    return total + alive * (trial.num_seeds - 1) * before


def num_kept(alive: int, share: float) -> int:
    """How many of `alive` candidates go on."""
    return max(1, math.ceil(alive * share - 1e-9))


def those_going_on(ranked: Sequence[Candidate], count: int) -> list[Candidate]:
    """The first `count`; where those are all with terms or all without, the best of the other kind takes the last of several places.

    Terms learn faster than cells, so an early rung says little of which kind ends higher (docs/search.md): the last one decides that.
    """
    kept = list(ranked[:count])
    kinds = {bool(candidate.architecture.terms) for candidate in kept}
    others = [candidate for candidate in ranked[count:] if bool(candidate.architecture.terms) not in kinds]
    return [*kept[:-1], others[0]] if others and count > 1 else kept


def _draw_candidates(
    params: SearchParams, num_fields: int, best: EpochRecord | None, num_from_supernet: int, count: int
) -> list[Candidate]:
    """First what the supernet would take itself, then draws by its strengths, then random ones; no architecture twice."""
    generator = np.random.default_rng([params.seed, 1])
    learned = None if best is None else strengths_of(best)
    even = even_strengths(params.num_nodes, len(params.operators))
    candidates: list[Candidate] = []
    known: set[str] = set()
    if best is not None and learned is not None:
        strongest = Architecture.from_text(best.line, "the search's history")
        candidates.append(Candidate(0, "supernet", strongest, log_strength(strongest, learned, params.operators)))
        known.add(_plain(strongest))
    num_repeated = 0
    while len(candidates) < count:
        is_learned = learned is not None and len(candidates) < num_from_supernet
        strengths: dict[str, Strengths] = learned if is_learned and learned is not None else even
        drawn = draw_architecture(strengths, params.operators, params.edges_per_node, num_fields, generator)
        drawn = dataclasses.replace(drawn, is_normalised=params.normalises_embeddings)
        if _plain(drawn) in known:
            num_repeated += 1
            if num_repeated == _MAX_REPEATED_DRAWS:
                break
            continue
        num_repeated = 0
        known.add(_plain(drawn))
        strength = None if learned is None else log_strength(drawn, learned, params.operators)
        candidates.append(Candidate(len(candidates), "supernet" if is_learned else "random", drawn, strength))
    return candidates


def _plain(architecture: Architecture) -> str:
    """Its line without strengths, by which two are the same."""
    edges = [
        tuple((edge.source, edge.operator) for edge in node) for _, cell in architecture.cells() for node in cell.nodes
    ]
    return repr(edges)


def _decide(
    strategy: str,
    encoded: Encoded,
    params: SearchParams,
    workbench: Workbench,
    candidates: Sequence[Candidate],
    rung_epochs: Sequence[float],
    supernet: DartsSearch | None,
    terms: TermSearch | None,
) -> FoundArchitecture:
    """Rung by rung; then the artifact, and the cost beside it."""
    ground = Ground(encoded, params, workbench, identity_of(encoded, params, workbench), rung_epochs)
    _mind_resume(ground, candidates, supernet)
    trials: dict[tuple[int, int], Trial] = {}
    alive = list(candidates)
    ground.steps_total = _steps_in_all(ground, len(candidates))
    for rung in range(len(ground.rungs)):
        is_last = rung == len(ground.rungs) - 1
        seeds = [params.seed + more for more in range(params.trial.num_seeds if is_last else 1)]
        quality: dict[int, float] = {}
        worth: dict[int, float] = {}
        ground.so_far = _so_far(rung, len(ground.rungs), candidates, worth)
        _take_up(trials, [(candidate, seed) for candidate in alive for seed in seeds], rung, ground)
        for candidate in alive:
            of_seeds = [trials[candidate.number, seed].run_to(rung).tune_auc[rung] for seed in seeds]
            quality[candidate.number] = float(np.mean(of_seeds))
            record = trials[candidate.number, seeds[0]].record()
            worth[candidate.number] = quality[candidate.number] - price_of_trial(record, params)
            ground.so_far = _so_far(rung, len(ground.rungs), candidates, worth)
            ground.tell(f"candidate {candidate.number} has {quality[candidate.number]:.5f}")
        alive.sort(key=lambda candidate: (-worth[candidate.number], candidate.number))
        if not is_last:
            going_on = those_going_on(alive, num_kept(len(alive), params.trial.kept_share))
            for candidate in alive:
                if candidate not in going_on:
                    trials[candidate.number, params.seed].retire()
            alive = going_on
    works = [trial.facts for trial in trials.values()] + ([] if terms is None else [terms.facts])
    records = tuple(trials[key].record() for key in sorted(trials))
    winner = alive[0].architecture
    best = None if supernet is None else supernet.best_record()
    found = FoundArchitecture(
        architecture=winner,
        strategy=strategy,
        operators=params.operators,
        history=() if supernet is None else tuple(supernet.history),
        best_epoch=None if best is None else best.epoch,
        collapse=measure_collapse(winner, best, _ranked(records, params.seed)),
        rows_seen=0 if supernet is None else supernet.rows_seen,
        limit_batches=workbench.limit_batches,
        trials=records,
        trial_rows=sum(work["rows"] for work in works),
        term_epochs=() if terms is None else terms.epochs,
        screened_terms=() if terms is None else terms.screened,
    )
    spent = [(work["seconds"], work["core_seconds"]) for work in works]
    spent += [] if supernet is None else [(supernet.seconds, supernet.core_seconds)]
    write_cost(workbench.checkpoints, found, sum(one for one, _ in spent), sum(other for _, other in spent))
    return found


def _take_up(
    trials: dict[tuple[int, int], Trial], pairs: Sequence[tuple[Candidate, int]], rung: int, ground: Ground
) -> None:
    """Have a trial of every (candidate, seed), and what they lack until a rung learned side by side where there are cores for it."""
    for candidate, seed in pairs:
        if (candidate.number, seed) not in trials:
            trials[candidate.number, seed] = Trial(candidate, seed, ground)
            ground.found_done(trials[candidate.number, seed].facts["step"])
    places = [(candidate.number, seed) for candidate, seed in pairs]
    lacking = [place for place in places if len(trials[place].facts["rungs"]) <= rung]
    if can_stand_side_by_side(len(lacking), ground.workbench, ground.device):
        learned = train_side_by_side([trials[place] for place in lacking], rung, ground)
        trials |= zip(lacking, learned, strict=True)


def _mind_resume(ground: Ground, candidates: Sequence[Candidate], supernet: DartsSearch | None) -> None:
    """Start anew under "never"; refuse under "always" where there is nothing that fits (a supernet has said so itself)."""
    if ground.workbench.resume == "never":
        forget(ground)
    if ground.workbench.resume == "always" and supernet is None:
        first = Trial(candidates[0], ground.params.seed, ground)
        if first.facts["step"] == 0:
            load_checkpoint(ground.folder(candidates[0], ground.params.seed), first.identity, "always", ground.tell)
            raise ConfigError("--resume always: the first candidate has no checkpoint that fits; use --resume auto")


def _steps_in_all(ground: Ground, count: int) -> int:
    trial = ground.params.trial
    total, before = 0, 0
    for rung, until in enumerate(ground.rungs):
        count = count if rung == 0 else num_kept(count, trial.kept_share)
        total += count * (until - before)
        before = until
    return total + count * (trial.num_seeds - 1) * before


def _so_far(rung: int, num_rungs: int, candidates: Sequence[Candidate], quality: dict[int, float]) -> str:
    words = f"rung {rung + 1}/{num_rungs}"
    if quality:
        number = max(quality, key=lambda one: (quality[one], -one))
        words += f", best so far {quality[number]:.5f} {candidates[number].architecture.to_text()}"
    return words + ", "


def _ranked(records: Sequence[TrialRecord], seed: int) -> list[tuple[float, float]]:
    """(strength, AUC on tune) of every candidate after the first rung, where a supernet gave strengths."""
    return [(one.strength, one.tune_auc[0]) for one in records if one.strength is not None and one.seed == seed]
