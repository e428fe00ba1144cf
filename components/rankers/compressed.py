"""Compressed interaction network: products of whole vectors, one degree more a layer; alone and as xDeepFM.

Shape letters: B rows in a batch, F fields, D embedding width, M maps (vectors) of a layer.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from components.rankers.linear import Linear
from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams
from components.rankers.tower import Tower


@dataclass(frozen=True)
class CompressedParams(RankerParams):
    """RankerParams and

    cin_widths  M, maps of each layer of the compressed interaction network
    """

    cin_widths: tuple[int, ...]

    def promises(self) -> dict[str, bool]:
        """See RankerParams."""
        is_there = len(self.cin_widths) >= 1 and all(width >= 1 for width in self.cin_widths)
        return super().promises() | {"cin_widths >= 1, at least one": is_there}


class CompressedInteraction(nn.Module):
    """x^k_m = sum over maps h and fields f of W^k_mhf x^(k-1)_h * x^0_f; all layers' maps summed over D: (B, F, D) -> (B, sum M).

    Lian et al. 2018, eq. 6 and 8, with the identity as activation (their choice) and every map both passed on and read out
    (their code halves them).
    """

    def __init__(self, num_fields: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(num_maps * num_fields, width, bias=False)
            for num_maps, width in itertools.pairwise((num_fields, *widths))
        )

    def forward(self, x_bfd: torch.Tensor) -> torch.Tensor:
        """Read out every map."""
        # With D before the maps, each layer is one matrix product over all rows and dimensions.
        first_bdf = x_bfd.transpose(1, 2).contiguous()
        maps_bdm = first_bdf
        read: list[torch.Tensor] = []
        for layer in self.layers:
            products = maps_bdm.unsqueeze(3) * first_bdf.unsqueeze(2)
            maps_bdm = layer(products.flatten(start_dim=2))
            read.append(maps_bdm.sum(1))
        return torch.cat(read, dim=1)


class CompressedNetwork(Ranker):
    """logit = main effects + linear(compressed interactions) (Lian et al. 2018, section 3.2)."""

    params_kind: ClassVar[type[RankerParams]] = CompressedParams
    fields_needed = 2

    def __init__(self, field_sizes: tuple[int, ...], params: CompressedParams) -> None:
        super().__init__()
        self.main = Linear(field_sizes, params)
        self.embedding = FieldEmbedding(field_sizes, params.embedding_width, None)
        self.interaction = CompressedInteraction(len(field_sizes), params.cin_widths)
        self.output = nn.Linear(sum(params.cin_widths), 1, bias=False)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        return self.combine(ids_bf, self.embedding(ids_bf))

    def combine(self, ids_bf: torch.Tensor, x_bfd: torch.Tensor) -> torch.Tensor:
        """Main effects and compressed interactions of the embeddings (B, F, D): (B,)."""
        main_b: torch.Tensor = self.main(ids_bf)
        crossed_b1: torch.Tensor = self.output(self.interaction(x_bfd))
        return main_b + crossed_b1[:, 0]


class ExtremeDeepFactorizationMachine(CompressedNetwork):
    """xDeepFM: logit = main effects + compressed interactions + tower over the same embeddings (Lian et al. 2018, eq. 9)."""

    def __init__(self, field_sizes: tuple[int, ...], params: CompressedParams) -> None:
        super().__init__(field_sizes, params)
        self.deep = Tower(len(field_sizes) * params.embedding_width, params)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        x_bfd = self.embedding(ids_bf)
        deep_b: torch.Tensor = self.deep(x_bfd.flatten(start_dim=1))
        return self.combine(ids_bf, x_bfd) + deep_b
