"""What every ranker is: a network from the ids of a row's fields to one logit; no labels, devices or bars in here.

Stands between the batches and the training. Shape letters: B rows in a batch, F fields, D embedding width, V ids of all
fields together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from components.strict import Strict

# Small beside what training makes of it, so that an id that is seen rarely says little (the public boards start so too).
_INITIAL_STD = 1e-4


@dataclass(frozen=True)
class RankerParams(Strict):
    """The shape of a ranker, beyond its name; a family that needs more to know has a subclass beside it.

    embedding_width  D, numbers per id and table
    hidden_widths    units of each hidden layer, from the embeddings on; empty for none
    dropout          share of hidden units left out in learning, 0 <= dropout < 1
    use_batch_norm   normalise hidden units over the rows of a batch
    """

    embedding_width: int
    hidden_widths: tuple[int, ...]
    dropout: float
    use_batch_norm: bool

    def promises(self) -> dict[str, bool]:
        """What must hold of these numbers before a ranker is built, in words, and whether it does."""
        return {
            "embedding_width >= 1": self.embedding_width >= 1,
            "hidden_widths >= 1": all(width >= 1 for width in self.hidden_widths),
            "0 <= dropout < 1": 0 <= self.dropout < 1,
        }


class Ranker(nn.Module):
    """A network that ranks rows; each family is a subclass with the constructor (field_sizes, params).

    Initial weights are drawn from torch's default generator; who builds a ranker seeds it.

    params_kind   the class of its params
    fields_needed fewer fields than these give it nothing to do
    """

    params_kind: ClassVar[type[RankerParams]] = RankerParams
    fields_needed: ClassVar[int] = 1

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,) float32 of ids (B, F) int32 or int64."""
        raise NotImplementedError

    def embedding_parameters(self) -> list[nn.Parameter]:
        """The tables of embeddings: they alone get the L2 penalty, and are not counted among a ranker's parameters."""
        return [module.table for module in self.modules() if isinstance(module, FieldEmbedding)]

    def term_parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Tables and weights of terms beside a network, which learn by a rate and penalty of their own; most rankers have none."""
        return [], []


class FieldEmbedding(nn.Module):
    """One table for all fields: field f's id i stands in row offset_f + i; ids (B, F) -> (B, F, D)."""

    offsets_f: torch.Tensor

    def __init__(self, field_sizes: tuple[int, ...], width: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.field_sizes = tuple(field_sizes)
        self.width = width
        self.table = nn.Parameter(torch.empty(sum(field_sizes), width))
        nn.init.normal_(self.table, std=_INITIAL_STD, generator=generator)
        starts = [sum(field_sizes[:field]) for field in range(len(field_sizes))]
        # Not saved with the weights: the field sizes say it. int32, so that int32 ids stay int32 (half the traffic).
        self.register_buffer("offsets_f", torch.tensor(starts, dtype=torch.int32), persistent=False)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Look up each field's vector."""
        return self.look_up(ids_bf + self.offsets_f)

    def look_up(self, places_bf: torch.Tensor) -> torch.Tensor:
        """Rows of the table, any number of columns of places (B, .) -> (B, ., D)."""
        is_learning = torch.is_grad_enabled() and self.table.requires_grad and not torch.compiler.is_exporting()
        if is_learning and self.table.device.type == "cpu":
            x_bfd: torch.Tensor = _Lookup.apply(places_bf, self.table)  # type: ignore[no-untyped-call]
            return x_bfd
        return functional.embedding(places_bf, self.table)


class _Lookup(torch.autograd.Function):
    """`functional.embedding`, whose slopes torch adds up on a CPU at two to thirty times the price, to the same bits."""

    @staticmethod
    def forward(ctx: Any, places_bf: torch.Tensor, table_vd: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(places_bf)
        ctx.shape = table_vd.shape
        return functional.embedding(places_bf, table_vd)

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[None, torch.Tensor]:
        (places_bf,) = ctx.saved_tensors
        num_ids, width = ctx.shape
        if width == 1:
            sums_v = slopes[0].new_zeros(num_ids).index_add_(0, places_bf.flatten(), slopes[0].flatten())
            return None, sums_v[:, None]
        # By int64, because int32 takes a path five times as slow.
        sums_vd = slopes[0].new_zeros(ctx.shape)
        return None, sums_vd.index_add_(0, places_bf.flatten().long(), slopes[0].reshape(-1, width))
