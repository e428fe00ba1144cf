"""AutoRec's space as one ranker: at most six blocks (perceptron, FM, cross layers, self-attention, product), each reading earlier ones.

A network is one line of text, such as "mlp*2(0); fm(0); product(1, 2)": block 1 is two perceptron layers over the embeddings
(source 0), block 2 the pairs of all fields, block 3 the product of the two. What no other block reads goes into one linear unit.

Wang et al. 2020, "AutoRec: an automated recommender system" (RecSys), whose space AutoPI compares itself with. Not as there:
every block gives tokens of the embeddings' width, so that any block may read any other; a perceptron's width is one for all
networks; of AutoRec's element-wise interactions the product is here (a sum is what the last unit does anyway); how blocks are
joined is part of the search. Shape letters: B rows in a batch, F fields, D embedding width, T tokens of a block.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from components.errors import ConfigError
from components.rankers.attention import InteractingLayer
from components.rankers.cross import VectorCross
from components.rankers.hidden import hidden_layers
from components.rankers.pairs import summed_pairs
from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams

MAX_BLOCKS = 6
MAX_DEPTH = 3
KINDS = ("mlp", "fm", "crossnet", "self_attention", "product")
DEEP_KINDS = ("mlp", "crossnet", "self_attention")
"""Those that may have more than one layer."""

_BLOCK = re.compile(r"([a-z_]+)(?:\*([0-9]+))?\(([0-9]+)(?:, ([0-9]+))?\)")


@dataclass(frozen=True)
class Block:
    """One block: its kind, its layers, and which tokens it reads (0: the embeddings, n: block n); a product reads two."""

    kind: str
    depth: int
    sources: tuple[int, ...]

    def to_text(self) -> str:
        """Such as "mlp*2(0)"."""
        depth = f"*{self.depth}" if self.depth > 1 else ""
        return f"{self.kind}{depth}({', '.join(map(str, self.sources))})"


def to_line(blocks: Sequence[Block]) -> str:
    """A network as one line."""
    return "; ".join(block.to_text() for block in blocks)


def read_line(line: str) -> tuple[Block, ...]:
    """Read what `to_line` wrote; raises ConfigError for what is no network, saying why."""
    blocks: list[Block] = []
    for number, text in enumerate(line.split("; "), start=1):
        match = _BLOCK.fullmatch(text)
        if match is None or match[1] not in KINDS:
            raise _broken(
                line, f"block {number} {text!r} is not KIND*DEPTH(SOURCES) with KIND one of {', '.join(KINDS)}"
            )
        kind, depth = match[1], int(match[2] or 1)
        sources = tuple(int(source) for source in match.groups()[2:] if source is not None)
        if max(sources) >= number:
            raise _broken(line, f"block {number} reads block {max(sources)}, only earlier ones can be read")
        if len(sources) != (2 if kind == "product" else 1):
            raise _broken(line, f"block {number}: a product reads two sources, every other block one")
        if not 1 <= depth <= (MAX_DEPTH if kind in DEEP_KINDS else 1):
            raise _broken(line, f"block {number}: {kind} has 1 to {MAX_DEPTH if kind in DEEP_KINDS else 1} layers")
        blocks.append(Block(kind, depth, sources))
    if len(blocks) > MAX_BLOCKS:
        raise _broken(line, f"{len(blocks)} blocks, at most {MAX_BLOCKS} are allowed")
    return tuple(blocks)


def _broken(line: str, why: str) -> ConfigError:
    return ConfigError(f"autorec network {line!r}: {why}")


def num_tokens(blocks: Sequence[Block], num_fields: int, mlp_tokens: int) -> list[int]:
    """T of the embeddings and of each block."""
    counts = [num_fields]
    for block in blocks:
        read = [counts[source] for source in block.sources]
        counts.append({"mlp": mlp_tokens, "fm": 1}.get(block.kind, min(read)))
    return counts


def may_read(kind: str, count: int) -> bool:
    """Whether a block of this kind has anything to do with so many tokens: pairs of one token are none."""
    return kind != "fm" or count >= 2


@dataclass(frozen=True)
class AutoRecParams(RankerParams):
    """RankerParams (of which perceptron blocks read dropout and use_batch_norm; hidden_widths is not read) and

    network     one line, see the module
    mlp_tokens  a perceptron layer has so many times D units
    """

    network: str
    mlp_tokens: int

    def promises(self) -> dict[str, bool]:
        """See RankerParams; what is wrong with a network is said when it is read."""
        return super().promises() | {"mlp_tokens >= 1": self.mlp_tokens >= 1}


class BlockNetwork(Ranker):
    """ids -> embeddings -> blocks -> one linear unit over all tokens that no block reads -> logits (B,)."""

    params_kind: ClassVar[type[RankerParams]] = AutoRecParams

    def __init__(self, field_sizes: tuple[int, ...], params: AutoRecParams) -> None:
        """Raise ConfigError where the line is no network for these fields."""
        super().__init__()
        blocks, width = read_line(params.network), params.embedding_width
        counts = num_tokens(blocks, len(field_sizes), params.mlp_tokens)
        for number, block in enumerate(blocks, start=1):
            if not all(may_read(block.kind, counts[source]) for source in block.sources):
                raise _broken(
                    params.network, f"block {number} makes pairs of a single token (of {len(field_sizes)} fields)"
                )
        self.embedding = FieldEmbedding(field_sizes, width, None)
        self.sources = [block.sources for block in blocks]
        self.blocks = nn.ModuleList(
            _module_of(block, [counts[source] for source in block.sources], params) for block in blocks
        )
        read = {source for block in blocks for source in block.sources}
        self.last = [number for number in range(1, len(blocks) + 1) if number not in read]
        self.output = nn.Linear(sum(counts[number] for number in self.last) * width, 1)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        tokens = [self.embedding(ids_bf)]
        for block, sources in zip(self.blocks, self.sources, strict=True):
            tokens.append(block(*(tokens[source] for source in sources)))
        last_bw = torch.cat([tokens[number] for number in self.last], dim=1).flatten(start_dim=1)
        logits_b1: torch.Tensor = self.output(last_bw)
        return logits_b1[:, 0]


def _module_of(block: Block, counts: Sequence[int], params: AutoRecParams) -> nn.Module:
    width = params.embedding_width
    if block.kind == "mlp":
        return _PerceptronBlock(counts[0] * width, block.depth, params)
    if block.kind == "fm":
        return _PairsBlock()
    if block.kind == "crossnet":
        return _CrossBlock(counts[0] * width, block.depth)
    if block.kind == "self_attention":
        return nn.Sequential(*(InteractingLayer(width, 1, width) for _ in range(block.depth)))
    return _ProductBlock(*counts)


class _PerceptronBlock(nn.Module):
    """Flat tokens through hidden layers, cut into tokens again: (B, T, D) -> (B, mlp_tokens, D)."""

    def __init__(self, input_width: int, depth: int, params: AutoRecParams) -> None:
        super().__init__()
        self.shape = params.mlp_tokens, params.embedding_width
        units = params.mlp_tokens * params.embedding_width
        self.hidden = hidden_layers(input_width, (units,) * depth, params)

    def forward(self, x_btd: torch.Tensor) -> torch.Tensor:
        hidden_bh: torch.Tensor = self.hidden(x_btd.flatten(start_dim=1))
        return hidden_bh.view(-1, *self.shape)


class _PairsBlock(nn.Module):
    """The sum over pairs of tokens of their products, number by number, as one token: (B, T, D) -> (B, 1, D)."""

    def forward(self, x_btd: torch.Tensor) -> torch.Tensor:
        return summed_pairs(x_btd).unsqueeze(1)


class _CrossBlock(nn.Module):
    """CrossNet's layers over the flat tokens: (B, T, D) -> (B, T, D)."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.crosses = nn.ModuleList(VectorCross(width) for _ in range(depth))

    def forward(self, x_btd: torch.Tensor) -> torch.Tensor:
        first_bw = x_btd.flatten(start_dim=1)
        x_bw = first_bw
        for cross in self.crosses:
            x_bw = cross(first_bw, x_bw)
        return x_bw.view(x_btd.shape)


class _ProductBlock(nn.Module):
    """Two sources multiplied number by number, (B, T, D) and (B, U, D) -> (B, min(T, U), D).

    Of different lengths, the longer one is first mixed down, each new token a learned sum of its tokens.
    """

    def __init__(self, first_count: int, second_count: int) -> None:
        super().__init__()
        counts = first_count, second_count
        self.mixed = None if first_count == second_count else counts.index(max(counts))
        self.mix = None if self.mixed is None else nn.Linear(max(counts), min(counts), bias=False)

    def forward(self, first_btd: torch.Tensor, second_bud: torch.Tensor) -> torch.Tensor:
        both = [first_btd, second_bud]
        if self.mix is not None and self.mixed is not None:
            both[self.mixed] = self.mix(both[self.mixed].transpose(1, 2)).transpose(1, 2)
        return both[0] * both[1]
