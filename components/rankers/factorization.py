"""Factorization machines: every combination of two (or more) fields has a weight, made of the fields' vectors.

Shape letters: B rows in a batch, F fields, D embedding width, P pairs of fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from components.rankers.linear import Linear
from components.rankers.pairs import Pairs, summed_pairs
from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams


class FactorizationMachine(Ranker):
    """logit = main effects + sum over pairs of <v_i, v_j> (Rendle 2010, eq. 1, computed as in its lemma 3.1).

    Of the params it reads embedding_width.
    """

    fields_needed = 2

    def __init__(self, field_sizes: tuple[int, ...], params: RankerParams) -> None:
        super().__init__()
        self.main = Linear(field_sizes, params)
        self.embedding = FieldEmbedding(field_sizes, params.embedding_width, None)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        main_b: torch.Tensor = self.main(ids_bf)
        return main_b + summed_pairs(self.embedding(ids_bf)).sum(1)


class FieldAwareFactorizationMachine(Ranker):
    """logit = main effects + sum over pairs of <v_{i,f_j}, v_{j,f_i}>: an id has a vector for each other field (Juan et al. 2016, eq. 4).

    The paper leaves main effects out; its own libffm has none, later work adds them, as here. Of the params it reads
    embedding_width: the table holds (F - 1) * D numbers an id.
    """

    fields_needed = 2
    left_places_p: torch.Tensor
    right_places_p: torch.Tensor

    def __init__(self, field_sizes: tuple[int, ...], params: RankerParams) -> None:
        super().__init__()
        num_fields = len(field_sizes)
        self.width = params.embedding_width
        num_others = num_fields - 1
        self.num_vectors = num_fields * num_others
        self.main = Linear(field_sizes, params)
        self.embedding = FieldEmbedding(field_sizes, num_others * self.width, None)
        pairs = Pairs(num_fields)
        # Field i keeps its vectors for the others in order: that for j > i in place j - 1, that for j < i in place j.
        left_p = pairs.left_p * num_others + pairs.right_p - 1
        right_p = pairs.right_p * num_others + pairs.left_p
        self.register_buffer("left_places_p", left_p, persistent=False)
        self.register_buffer("right_places_p", right_p, persistent=False)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        main_b: torch.Tensor = self.main(ids_bf)
        vectors_bvd = self.embedding(ids_bf).view(-1, self.num_vectors, self.width)
        left_bpd = vectors_bvd.index_select(1, self.left_places_p)
        right_bpd = vectors_bvd.index_select(1, self.right_places_p)
        pairs_b: torch.Tensor = (left_bpd * right_bpd).sum(dim=(1, 2))
        return main_b + pairs_b


@dataclass(frozen=True)
class HigherOrderParams(RankerParams):
    """RankerParams and

    order  the most fields that a combination may have, 2 <= order <= 5
    """

    order: int

    def promises(self) -> dict[str, bool]:
        """See RankerParams; beyond 5 the power sums lose too many digits in float32."""
        return super().promises() | {"2 <= order <= 5": 2 <= self.order <= 5}


class HigherOrderFactorizationMachine(Ranker):
    """logit = main effects + for each order m from 2 on the ANOVA kernel of degree m over its own vectors (Blondel et al. 2016, eq. 4).

    The kernel, the sum over all m-sets of fields of the product of their numbers, comes from power sums by Newton's
    identities instead of the paper's dynamic programme over fields: a loop over orders only. A row's values are all 1,
    as they are where fields are categories.
    """

    params_kind: ClassVar[type[RankerParams]] = HigherOrderParams
    fields_needed = 2

    def __init__(self, field_sizes: tuple[int, ...], params: HigherOrderParams) -> None:
        super().__init__()
        self.order = params.order
        self.width = params.embedding_width
        self.main = Linear(field_sizes, params)
        self.embedding = FieldEmbedding(field_sizes, (params.order - 1) * params.embedding_width, None)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        logits_b: torch.Tensor = self.main(ids_bf)
        vectors_bfv: torch.Tensor = self.embedding(ids_bf)
        for place, degree in enumerate(range(2, self.order + 1)):
            own_bfd = vectors_bfv[:, :, place * self.width : (place + 1) * self.width]
            logits_b = logits_b + anova_kernel(own_bfd, degree).sum(1)
        return logits_b


def anova_kernel(x_bfd: torch.Tensor, degree: int) -> torch.Tensor:
    """The elementary symmetric polynomial of `degree` over the fields, number by number: (B, F, D) -> (B, D).

    Newton: m e_m = sum over k = 1..m of (-1)^(k-1) e_(m-k) p_k with the power sums p_k = sum over fields of x^k.
    """
    powers_bfd = x_bfd
    power_sums: list[torch.Tensor] = []
    polynomials: list[torch.Tensor] = []
    for m in range(1, degree + 1):
        power_sums.append(powers_bfd.sum(1))
        terms = [polynomials[m - k - 1] * power_sums[k - 1] * (1 if k % 2 == 1 else -1) for k in range(1, m)] + [
            power_sums[m - 1] * (1 if m % 2 == 1 else -1)
        ]
        polynomials.append(torch.stack(terms).sum(0) / m)
        powers_bfd = powers_bfd * x_bfd
    return polynomials[-1]
