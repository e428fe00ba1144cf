"""The found architecture as a ranker, trained from scratch; stands between the search and the training.

The batch is the last axis inside, as in the supernet. Where the supernet had alpha and beta to weigh the kept edges, batch
norm's scale and shift (per field) do it here. Letters: B rows in a batch, F fields, D embedding width, N inner nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from components.autopi.architecture import Architecture, Cell, Edge
from components.autopi.compiled_mixing import mix_by_kernels
from components.autopi.kernels import Kernels
from components.autopi.normalising import EPSILON, MOMENTUM
from components.autopi.operators import OPERATORS, Operator, uniform_weights
from components.errors import ConfigError
from components.rankers.dropout import Dropout
from components.rankers.hidden import hidden_layers
from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams
from components.rankers.terms import FieldTerms

# Products of two embeddings are among the first things computed: with the tiny tables that suit a perceptron they would
# drown in batch norm's epsilon, and no operator but skip could be told from zero.
EMBEDDING_STD = 0.1

# Behind FieldNorm only directions count, so this is how far a step of the optimizer goes: with 0.1 a found network on Frappe
# had a tune AUC of .87 after one epoch, with 0.01 .93 (docs/log.md).
NORMALISED_EMBEDDING_STD = 0.01

# Of the variance of an embedding's field; a table all of whose numbers are below 1e-5 is as good as empty.
INPUT_EPSILON = 1e-10


def dual_embeddings(
    field_sizes: tuple[int, ...], width: int, is_normalised: bool, generator: torch.Generator | None
) -> tuple[FieldEmbedding, FieldEmbedding]:
    """One embedding for each cell, drawn from N(0, std), std as above."""
    first, second = (FieldEmbedding(field_sizes, width, generator) for _ in range(2))
    std = NORMALISED_EMBEDDING_STD if is_normalised else EMBEDDING_STD
    for embedding in (first, second):
        nn.init.normal_(embedding.table, std=std, generator=generator)
    return first, second


class FieldNorm(nn.Module):
    """Brings each field of an embedding to mean 0 and variance 1 over rows and dimensions, before the cells: (F, D, B) as given.

    The L2 penalty that suits click logs shrinks tables to a few thousandths. What multiplies two such numbers (fm, senet) has
    variances of 1e-10, which drown in the epsilon of the batch norm behind it (seen in trained networks, docs/log.md): whole
    edges were constant. Here the penalty says how an id stands to the others of its field, and products live.
    """

    def __init__(self, num_fields: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(num_fields, INPUT_EPSILON, MOMENTUM, affine=False)

    def forward(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """Normalise by the batch while training, by what was seen in training else."""
        # One "row" of F channels and D * B places.
        normed: torch.Tensor = self.norm(x_fdb.flatten(1).unsqueeze(0))
        return normed.view(x_fdb.shape)


def input_norm(num_fields: int, is_normalised: bool) -> nn.Module:
    """What stands between an embedding and the cells: (F, D, B) -> (F, D, B)."""
    return FieldNorm(num_fields) if is_normalised else nn.Identity()


def check_fits(architecture: Architecture, num_fields: int, where: str) -> None:
    """Raise ConfigError where an architecture is for another number of fields or names an operator that there is not."""
    if architecture.num_fields != num_fields:
        raise ConfigError(
            f"{where}: the architecture is for {architecture.num_fields} fields, this log has {num_fields}; "
            "search anew or choose the log it was found on"
        )
    unknown = sorted(set(architecture.operators()) - set(OPERATORS))
    if unknown:
        raise ConfigError(f"{where}: operators {unknown} are unknown; there are {sorted(OPERATORS)}")


class KeptEdge(nn.Module):
    """One operator, rectified (but skip) and normalised per field: (F, D, B) -> (F, D, B)."""

    def __init__(self, edge: Edge, num_fields: int, width: int, use_batch_norm: bool) -> None:
        super().__init__()
        self.source = edge.source
        self.operator: Operator = OPERATORS[edge.operator](num_fields, width, 1, None)
        self.norm = nn.BatchNorm1d(num_fields, EPSILON, MOMENTUM) if use_batch_norm else None

    def forward(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """What the edge adds to its node."""
        y_fl: torch.Tensor = self.operator(x_fdb).squeeze(0).flatten(1)
        if self.operator.is_rectified:
            y_fl = y_fl.relu()
        if self.norm is not None:
            # One "row" of F channels and D * B places: the statistics run over rows and embedding.
            y_fl = self.norm(y_fl.unsqueeze(0)).squeeze(0)
        return y_fl.view(x_fdb.shape)


class KeptCell(nn.Module):
    """The inner nodes of one cell, each the sum of its kept edges."""

    def __init__(self, cell: Cell, num_fields: int, width: int, use_batch_norm: bool) -> None:
        super().__init__()
        self.nodes = nn.ModuleList(
            nn.ModuleList(KeptEdge(edge, num_fields, width, use_batch_norm) for edge in edges) for edges in cell.nodes
        )
        self._kernels: Kernels | None = None

    def learn_by_kernels(self) -> None:
        """Let the compiled program do what it can of the operators' work, and of the norms' while training."""
        operators = [edge.operator for edges in self.nodes for edge in _kept(edges)]
        self._kernels = Kernels(operators[0].num_fields, operators[0].width)
        for operator in operators:
            operator.kernels = self._kernels

    def forward(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Inputs (F, D, B) -> inner nodes (F, D, B), in order."""
        nodes = list(inputs)
        for edges in self.nodes:
            kept = _kept(edges)
            norms = [edge.norm for edge in kept if edge.norm is not None]
            if self._kernels is not None and self.training and norms:
                nodes.append(_add_up(self._kernels, kept, norms, nodes))
                continue
            parts = [edge(nodes[edge.source]) for edge in kept]
            nodes.append(parts[0] if len(parts) == 1 else torch.stack(parts).sum(0))
        return nodes[len(inputs) :]

    def count_flops(self) -> int:
        """Operators, batch norm (2 a number) and the sums, for one row."""
        total = 0
        for kept in map(_kept, self.nodes):
            size = kept[0].operator.num_fields * kept[0].operator.width
            total += sum(edge.operator.count_flops() + (2 * size if edge.norm is not None else 0) for edge in kept)
            total += (len(kept) - 1) * size
        return total


def _kept(edges: nn.Module) -> list[KeptEdge]:
    """Those of one node."""
    assert isinstance(edges, nn.ModuleList)
    return [edge for edge in edges if isinstance(edge, KeptEdge)]


def _add_up(
    kernels: Kernels, kept: Sequence[KeptEdge], norms: Sequence[nn.BatchNorm1d], nodes: Sequence[torch.Tensor]
) -> torch.Tensor:
    """A node (F, D, B) while training: what its edges yield, rectified, normalised and summed as one step; the norms follow."""
    running = []
    for norm in norms:
        assert norm.num_batches_tracked is not None
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.num_batches_tracked.add_(1)
        running.append((norm.running_mean.unsqueeze(0), norm.running_var.unsqueeze(0)))
    viewed = [edge.operator.view_all(nodes[edge.source]) for edge in kept]
    strength_1of = torch.stack([norm.weight for norm in norms]).unsqueeze(0)
    shift_1f = torch.stack([norm.bias for norm in norms]).sum(0, keepdim=True)
    is_rectified = [edge.operator.is_rectified for edge in kept]
    (node,) = mix_by_kernels(kernels, viewed, is_rectified, running, strength_1of, shift_1f, is_training=True)
    return node


class FoundNetwork(Ranker):
    """ids -> logits through one architecture.

    Of RankerParams, hidden_widths are those of a head between the cells and the output (none in the paper), dropout acts on
    what the head and each of its hidden layers is given, use_batch_norm is for the cells' edges and the head alike.
    """

    def __init__(self, field_sizes: tuple[int, ...], architecture: Architecture, params: RankerParams) -> None:
        """Raise ConfigError where the architecture does not fit the fields."""
        super().__init__()
        num_fields, width = len(field_sizes), params.embedding_width
        check_fits(architecture, num_fields, "architecture")
        self.embedding_1, self.embedding_2 = dual_embeddings(field_sizes, width, architecture.is_normalised, None)
        self.norm_1, self.norm_2 = (input_norm(num_fields, architecture.is_normalised) for _ in range(2))
        self.interaction = KeptCell(architecture.interaction, num_fields, width, params.use_batch_norm)
        self.ensemble = KeptCell(architecture.ensemble, num_fields, width, params.use_batch_norm)
        joined = len(architecture.interaction.nodes) * num_fields
        self.join_weight = uniform_weights((num_fields, joined), joined, None)
        self.join_bias = uniform_weights((num_fields, 1), joined, None)
        num_last = len(architecture.ensemble.nodes) * num_fields * width
        self.dropout = Dropout(params.dropout)
        self.head = hidden_layers(num_last, params.hidden_widths, params)
        self.output = nn.Linear((num_last, *params.hidden_widths)[-1], 1)
        # Last, so that what stands above begins with the same numbers with and without terms.
        self.terms = FieldTerms(field_sizes, architecture.terms, width) if architecture.terms else None

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        first = self.norm_1(self.embedding_1(ids_bf).permute(1, 2, 0).contiguous())
        second = self.norm_2(self.embedding_2(ids_bf).permute(1, 2, 0).contiguous())
        nodes = torch.cat(self.interaction([first]))
        joined = (torch.matmul(self.join_weight, nodes.flatten(1)) + self.join_bias).view(first.shape)
        last_hb = self.dropout(torch.cat(self.ensemble([joined, second])).flatten(0, 1))
        if len(self.head) > 0:
            last_hb = self.head(last_hb.t()).t()
        logits_b: torch.Tensor = torch.matmul(self.output.weight, last_hb)[0] + self.output.bias
        return logits_b if self.terms is None else logits_b + self.terms(ids_bf)

    def term_parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """See Ranker."""
        if self.terms is None:
            return [], []
        return self.terms.tables(), [self.terms.weights_t]

    def count_parameters(self) -> int:
        """Parameters beside the embeddings (Table 4 of the paper counts so)."""
        embeddings = {id(table) for table in self.embedding_parameters()}
        return sum(parameter.numel() for parameter in self.parameters() if id(parameter) not in embeddings)

    def count_flops(self) -> int:
        """Multiplications and additions for one row beside the look-ups, ReLU left out."""
        join = 2 * self.join_weight.numel() * self.embedding_1.width + len(self.join_bias) * self.embedding_1.width
        head = 0
        for layer in self.head:
            if isinstance(layer, nn.Linear):
                head += 2 * layer.weight.numel() + (layer.out_features if layer.bias is not None else 0)
            elif isinstance(layer, nn.BatchNorm1d):
                head += 2 * layer.num_features
        inputs = [norm for norm in (self.norm_1, self.norm_2) if isinstance(norm, FieldNorm)]
        norms = len(inputs) * 2 * self.embedding_1.width * len(self.join_bias)
        cells = self.interaction.count_flops() + join + self.ensemble.count_flops()
        terms = 0 if self.terms is None else self.terms.count_flops() + 1
        return norms + cells + head + 2 * self.output.in_features + terms
