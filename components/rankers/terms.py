"""Interactions of chosen fields as terms of the logit, and the rankers made of nothing else.

Shape letters: B rows in a batch, F fields, D embedding width, T terms.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence

import torch
from torch import nn

from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams

Terms = tuple[tuple[int, ...], ...]
"""Each term as the numbers of two or more different fields, ascending."""

# Products have no slope where all factors are zero, so they begin away from it: each product of one term with this standard
# deviation, whatever its number of factors (three factors of the size that suits two would hardly have moved after some
# epochs). But many terms that begin large are noise which takes epochs to unlearn (91 pairs at weight 1: tune AUC .53 after an
# epoch, .64 at weight .1; docs/log.md), so weights begin where all terms together have this standard deviation, in logits.
_INITIAL_PRODUCT, _INITIAL_SPREAD = 0.04, 0.15


def all_terms(num_fields: int, orders: Collection[int]) -> Terms:
    """Every combination of so many fields as each order says, those of fewer fields first."""
    return tuple(term for order in sorted(orders) for term in itertools.combinations(range(num_fields), order))


def num_terms(num_fields: int, orders: Collection[int]) -> int:
    """How many `all_terms` would give."""
    return sum(math.comb(num_fields, order) for order in orders)


class FieldTerms(nn.Module):
    """sum over fields of w_f + sum over terms t of r_t * sum over d of the product over f in t of v_f,d; ids (B, F) -> (B,).

    w_f is a number of the id in field f, and v_f a vector of it, another one in terms of two fields than in terms of three.
    With all pairs as terms this is the field-weighted factorization machine (Pan et al. 2018, equation 5), whose r_t say how
    much each pair of fields matters; a term of more fields has the product of a higher-order factorization machine (Blondel et
    al. 2016). Only fields that are in a term have vectors, and only those in a term that is left are looked up.
    """

    def __init__(self, field_sizes: tuple[int, ...], terms: Terms, width: int) -> None:
        super().__init__()
        self.width = width
        self.terms = terms
        self.main = FieldEmbedding(field_sizes, 1, None)
        nn.init.zeros_(self.main.table)
        orders = sorted({len(term) for term in terms})
        self._fields = {order: _fields_of([term for term in terms if len(term) == order]) for order in orders}
        embeddings: dict[str, FieldEmbedding] = {}
        for order, fields in self._fields.items():
            embedding = FieldEmbedding(tuple(field_sizes[field] for field in fields), width, None)
            nn.init.normal_(embedding.table, std=_INITIAL_PRODUCT ** (1 / order))
            embeddings[str(order)] = embedding
        self.embeddings = nn.ModuleDict(embeddings)
        spread = math.sqrt(width * len(terms)) * _INITIAL_PRODUCT
        self.weights_t = nn.Parameter(torch.full((len(terms),), min(1.0, _INITIAL_SPREAD / max(spread, 1e-9))))
        self.restrict(range(len(terms)))

    def restrict(self, places: Sequence[int]) -> None:
        """Go on with the terms at these places alone; the others' weights stay where they are, unused."""
        self.alive = tuple(sorted(places, key=lambda place: (len(self.terms[place]), place)))
        self._orders = sorted({len(self.terms[place]) for place in self.alive})
        for order in self._orders:
            of_order = [place for place in self.alive if len(self.terms[place]) == order]
            fields = _fields_of([self.terms[place] for place in of_order])
            sizes = self._embedding(order).field_sizes
            starts = dict(zip(self._fields[order], itertools.accumulate(sizes, initial=0), strict=False))
            factors = torch.tensor([[fields.index(field) for field in self.terms[place]] for place in of_order])
            # Not saved with the weights: the terms say it.
            self.register_buffer(f"places_{order}", torch.tensor(of_order), persistent=False)
            self.register_buffer(f"fields_{order}", torch.tensor(fields), persistent=False)
            self.register_buffer(
                f"offsets_{order}",
                torch.tensor([starts[field] for field in fields], dtype=torch.int32),
                persistent=False,
            )
            self.register_buffer(f"factors_{order}", factors.t().contiguous(), persistent=False)

    def _embedding(self, order: int) -> FieldEmbedding:
        embedding = self.embeddings[str(order)]
        assert isinstance(embedding, FieldEmbedding)
        return embedding

    def tables(self) -> list[nn.Parameter]:
        """Numbers and vectors of ids, which get a penalty; the weights get none."""
        return [module.table for module in self.modules() if isinstance(module, FieldEmbedding)]

    def parts(self, ids_bf: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Main effects (B,), and what each term in `alive` adds to the logit (B, T)."""
        main_b = self.main(ids_bf).sum(dim=(1, 2))
        parts = []
        for order in self._orders:
            fields_f, offsets_f, factors_kt, places_t = (
                getattr(self, f"{name}_{order}") for name in ("fields", "offsets", "factors", "places")
            )
            x_bfd = self._embedding(order).look_up(ids_bf.index_select(1, fields_f) + offsets_f)
            product_btd = x_bfd.index_select(1, factors_kt[0])
            for more in range(1, order):
                product_btd = product_btd * x_bfd.index_select(1, factors_kt[more])
            parts.append(product_btd.sum(2) * self.weights_t.index_select(0, places_t))
        return main_b, torch.cat(parts, dim=1) if parts else main_b.unsqueeze(1)[:, :0]

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """What main effects and terms add to the logit (B,)."""
        main_b, parts_bt = self.parts(ids_bf)
        logits_b: torch.Tensor = main_b + parts_bt.sum(1)
        return logits_b

    def count_flops(self) -> int:
        """A sum over fields; of each term of k fields (k - 1) D products, D - 1 sums, its weight and the sum with the others."""
        return len(self.main.field_sizes) - 1 + sum(len(self.terms[place]) * self.width + 1 for place in self.alive)


def _fields_of(terms: Sequence[tuple[int, ...]]) -> list[int]:
    """The fields that are in any of these terms, ascending."""
    return sorted({field for term in terms for field in term})


class TermNetwork(Ranker):
    """logit = bias + main effects + terms: what `FieldTerms` says, and nothing behind it."""

    fields_needed = 2

    def __init__(self, field_sizes: tuple[int, ...], terms: Terms, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.terms = FieldTerms(field_sizes, terms, width)

    def forward(self, ids_bf: torch.Tensor) -> torch.Tensor:
        """Give logits (B,)."""
        logits_b: torch.Tensor = self.bias + self.terms(ids_bf)
        return logits_b


class FieldWeightedFactorizationMachine(TermNetwork):
    """logit = bias + main effects + sum over pairs of fields of r_fg <v_f, v_g> (FwFM; Pan et al. 2018, equation 5).

    Of the params it reads embedding_width.
    """

    def __init__(self, field_sizes: tuple[int, ...], params: RankerParams) -> None:
        super().__init__(field_sizes, all_terms(len(field_sizes), (2,)), params.embedding_width)
