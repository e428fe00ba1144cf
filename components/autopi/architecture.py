"""A found network of interactions as plain data: JSON, one line of text, and the artifact of the search; torch-free.

Nodes are numbered within their cell, inputs first. The interaction cell has one input (node 0: the first embedding); the
ensemble cell has two (node 0: the interaction cell's output, node 1: the second embedding). An edge brings one operator's
view of an earlier node; a node is the sum of its edges.

The line of text: `10 fields | interaction fm(0):0.41 skip(0):0.2+fm(1):0.3 | ensemble ...` holds, separated by blanks, each
inner node in order as its edges `operator(source):strength` joined by `+`; strengths may be left out. `10 normalised fields`
says that embeddings are normalised before the cells. Where there are terms beside the cells they stand at the end as the
numbers of their fields: `| terms 3x8 4x9`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from components.artifact import read_json, write_json
from components.errors import ConfigError, CtrError, IntegrityError
from components.strict import Strict, parse

NUM_INPUTS = {"interaction": 1, "ensemble": 2}
_LINE = re.compile(r"(\d+) (normalised )?fields \| interaction ([^|]+) \| ensemble ([^|]+?)(?: \| terms ([0-9x ]+))?")
_EDGE = re.compile(r"([a-z][a-z0-9_]*)\((\d+)\)(?::([0-9.e-]+))?")


@dataclass(frozen=True)
class Edge(Strict):
    """One operator on the way from node `source`; strength in [0, 1], None where nobody measured it."""

    source: int
    operator: str
    strength: float | None


@dataclass(frozen=True)
class Cell(Strict):
    """The inner nodes in order, each as its incoming edges sorted by source."""

    num_inputs: int
    nodes: tuple[tuple[Edge, ...], ...]


@dataclass(frozen=True)
class Architecture(Strict):
    """Which operators are kept between which nodes of the two cells, for logs of `num_fields` fields.

    is_normalised  embeddings are brought to mean 0 and variance 1 per field before the cells; absent in older artifacts: not
    terms          interactions beside the cells (`components.rankers.terms`), each as its fields' numbers, ascending; with any of
                   them go the main effects of all fields; absent in older artifacts: none
    """

    num_fields: int
    interaction: Cell
    ensemble: Cell
    is_normalised: bool = False
    terms: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no network: raises ValueError (`parse` and `from_text` turn it into the caller's error)."""
        if self.num_fields < 1:
            raise ValueError(f"an architecture needs at least one field, not {self.num_fields}")
        for name, cell in self.cells():
            if cell.num_inputs != NUM_INPUTS[name]:
                raise ValueError(f"the {name} cell has {NUM_INPUTS[name]} inputs, not {cell.num_inputs}")
            if not cell.nodes:
                raise ValueError(f"the {name} cell has no inner node")
            for number, edges in enumerate(cell.nodes, start=cell.num_inputs):
                _check_edges(f"node {number} of the {name} cell", number, edges)
        for fields in self.terms:
            if len(fields) < 2 or list(fields) != sorted(set(fields)) or fields[0] < 0 or fields[-1] >= self.num_fields:
                raise ValueError(
                    f"the term {_term_text(fields)} is not two or more of the fields 0 to {self.num_fields - 1}, ascending"
                )
        if len(set(self.terms)) < len(self.terms):
            raise ValueError(f"terms {' '.join(map(_term_text, self.terms))} are not distinct")

    def cells(self) -> tuple[tuple[str, Cell], ...]:
        """Both cells with their names, in the data's order."""
        return ("interaction", self.interaction), ("ensemble", self.ensemble)

    def operators(self) -> tuple[str, ...]:
        """The operator of every kept edge, in order, with repetitions."""
        return tuple(edge.operator for _, cell in self.cells() for edges in cell.nodes for edge in edges)

    def to_text(self) -> str:
        """One line that `from_text` reads back equal."""
        cells = (
            f"{name} {' '.join('+'.join(map(_edge_text, edges)) for edges in cell.nodes)}"
            for name, cell in self.cells()
        )
        terms = f" | terms {' '.join(map(_term_text, self.terms))}" if self.terms else ""
        return f"{self.num_fields} {'normalised ' if self.is_normalised else ''}fields | {' | '.join(cells)}{terms}"

    @classmethod
    def from_text(cls, line: str, where: str) -> Self:
        """Read the one-line form; raises ConfigError that says `where` and what is wrong."""
        match = _LINE.fullmatch(" ".join(line.split()))
        if match is None:
            raise ConfigError(
                f"{where}: {line!r} is no architecture; expected '10 fields | interaction fm(0) ... | ensemble ...'"
            )
        cells = {
            name: Cell(NUM_INPUTS[name], tuple(_edges(node, where) for node in match[place].split()))
            for place, name in ((3, "interaction"), (4, "ensemble"))
        }
        try:
            terms = tuple(tuple(map(int, term.split("x"))) for term in (match[5] or "").split())
            return cls(int(match[1]), cells["interaction"], cells["ensemble"], match[2] is not None, terms)
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from error

    @classmethod
    def from_json(cls, content: object, where: str, error_class: type[CtrError]) -> Self:
        """Read what `artifact.write_json` wrote; raises `error_class` saying `where` and what is wrong."""
        return parse(cls, content, where, error_class)


def _check_edges(place: str, number: int, edges: tuple[Edge, ...]) -> None:
    if not edges:
        raise ValueError(f"{place} has no edge")
    sources = [edge.source for edge in edges]
    if sources != sorted(set(sources)):
        raise ValueError(f"{place}: sources {sources} are not distinct and ascending")
    if sources[0] < 0 or sources[-1] >= number:
        raise ValueError(f"{place}: sources {sources} are not all earlier nodes (0 to {number - 1})")
    for edge in edges:
        if edge.strength is not None and not (math.isfinite(edge.strength) and 0 <= edge.strength <= 1):
            raise ValueError(f"{place}: strength {edge.strength} lies outside 0..1")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", edge.operator):
            raise ValueError(f"{place}: {edge.operator!r} is no operator's name")


def _term_text(fields: tuple[int, ...]) -> str:
    return "x".join(map(str, fields))


def _edge_text(edge: Edge) -> str:
    strength = "" if edge.strength is None else f":{edge.strength!r}"
    return f"{edge.operator}({edge.source}){strength}"


def _edges(text: str, where: str) -> tuple[Edge, ...]:
    edges = []
    for part in text.split("+"):
        match = _EDGE.fullmatch(part)
        if match is None:
            raise ConfigError(f"{where}: {part!r} is no edge; expected operator(source) or operator(source):strength")
        try:
            strength = None if match[3] is None else float(match[3])
        except ValueError as error:
            raise ConfigError(f"{where}: the strength in {part!r} is no number") from error
        edges.append(Edge(int(match[2]), match[1], strength))
    return tuple(edges)


@dataclass(frozen=True)
class EpochRecord(Strict):
    """One epoch of a search; edges are ordered by target, then source; O operators as FoundArchitecture names them.

    Losses are mean log losses of the epoch's batches (alpha's with the price of cost, where there is one), tune figures come from
    the supernet at the epoch's end.
    """

    epoch: int
    temperature: float
    weight_loss: float
    alpha_loss: float
    tune_log_loss: float
    tune_auc: float
    alpha_interaction: tuple[tuple[float, ...], ...]
    beta_interaction: tuple[float, ...]
    alpha_ensemble: tuple[tuple[float, ...], ...]
    beta_ensemble: tuple[float, ...]
    line: str


@dataclass(frozen=True)
class TrialRecord(Strict):
    """One candidate trained from scratch with one seed, as it stood at the rungs that it reached.

    number      the candidate's, from 0
    origin      "supernet" (drawn from alpha and beta, or their strongest) or "random"
    line        the architecture
    strength    mean log of the supernet's strengths of its edges; None where there was no supernet
    steps       batches that it had learned from at each rung
    tune_auc, tune_log_loss   at each rung
    num_parameters, num_flops   beside the embeddings
    """

    number: int
    origin: str
    seed: int
    line: str
    strength: float | None
    steps: tuple[int, ...]
    tune_auc: tuple[float, ...]
    tune_log_loss: tuple[float, ...]
    num_parameters: int
    num_flops: int


@dataclass(frozen=True)
class TermEpoch(Strict):
    """One epoch of the search for terms, before terms were dropped at its end.

    tune_log_loss, tune_auc   of main effects and all these terms
    terms, gains              each term, and how much tune's log loss would rise without it (nats a row)
    """

    epoch: int
    tune_log_loss: float
    tune_auc: float
    terms: tuple[tuple[int, ...], ...]
    gains: tuple[float, ...]


@dataclass(frozen=True)
class ScreenedTerm(Strict):
    """One interaction that the terms of the first course were asked about.

    fields      ascending
    agreement   of their errors in its cells on train and on tune, in standard errors (`components.autopi.screening`)
    has_joined  it was among the terms that learned in the second course
    """

    fields: tuple[int, ...]
    agreement: float
    has_joined: bool


@dataclass(frozen=True)
class Collapse(Strict):
    """Signs of a search gone to skip connections, or of a supernet that does not know what is good.

    skip_share       share of skip among the kept edges
    alpha_entropy    mean entropy of softmax(alpha) over the supernet's edges, divided by log O (1: undecided, 0: decided);
                     None where there was no supernet
    rank_correlation  Spearman's, between candidates' log strengths in the supernet and their AUC on tune after the first
                     rung of training from scratch; None where fewer than three can be compared
    num_ranked       candidates it was taken over
    """

    skip_share: float
    alpha_entropy: float | None
    rank_correlation: float | None = None
    num_ranked: int = 0


@dataclass(frozen=True)
class FoundArchitecture(Strict):
    """What the search yields: the architecture, and how it came to it.

    strategy       a name in STRATEGIES
    operators      the names in the search space, in the order of alpha's columns
    history        the supernet's epochs
    best_epoch     the epoch whose alpha and beta were discretised; None where nothing was learned
    rows_seen      rows that passed through the supernet forwards and backwards
    limit_batches  as the workbench had it: not None marks a quick look
    trials         every training of a candidate from scratch, in order; what is absent in older artifacts is none
    trial_rows     rows that passed through candidates, and through the search for terms, forwards and backwards
    term_epochs    the search for terms, one course after the other; none where none was made
    screened_terms the interactions that what the first course found lacks most surely, in that order
    """

    architecture: Architecture
    strategy: str
    operators: tuple[str, ...]
    history: tuple[EpochRecord, ...]
    best_epoch: int | None
    collapse: Collapse | None
    rows_seen: int
    limit_batches: int | None
    trials: tuple[TrialRecord, ...] = ()
    trial_rows: int = 0
    term_epochs: tuple[TermEpoch, ...] = ()
    screened_terms: tuple[ScreenedTerm, ...] = ()

    def save(self, folder: Path) -> None:
        """Write architecture.json (with the course of the search) and the one line of text."""
        write_json(folder / "architecture.json", self)
        (folder / "architecture.txt").write_text(self.architecture.to_text() + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read it back equal; raises IntegrityError for damaged content."""
        path = folder / "architecture.json"
        return parse(cls, read_json(path), str(path), IntegrityError)
