"""Operators beyond the paper's six: what it names and leaves out (products, cross and logarithmic layer, 2d convolution), a
gate, and hidden width.

`X` below is the node, x_f the vector of field f, vec(X) all fields one after another. Letters: B rows in a batch, F fields,
D embedding width, E edges, H hidden.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from components.autopi.edge_operator import AllFieldsOperator, Operator, uniform_weights

# Hidden numbers of the two-layer perceptron to one of its inputs: 400 beside 10 fields of width 10, as the tuned plain
# perceptrons of the public boards have it.
WIDENING = 4

# The logarithmic layer takes numbers for no smaller than this, and a product of powers for no larger than e^10: float32 and the
# gradient stay finite.
SMALLEST, LARGEST_LOG = 1e-4, 10.0

KERNEL = 3  # places beside one another that the 2d convolution sees, along fields and along the embedding


class HadamardProduct(Operator):
    """Each field times a learned mixture of all fields: x_f * sum_g W_fg x_g.

    A layer of xDeepFM's compressed interaction network (Lian et al. 2018) whose first factor is the field itself; with ones
    beside the diagonal and zeros on it, it is the operator `fm`.
    """

    def make_weights(self, generator: torch.Generator | None) -> None:
        """W (E, F, F)."""
        self.weight_eff = uniform_weights(
            (self.num_edges, self.num_fields, self.num_fields), self.num_fields, generator
        )

    def forward(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """See Operator."""
        mixed = torch.mm(self.weight_eff.flatten(0, 1), x_fdb.flatten(1, 2))
        return x_fdb * mixed.view(self.num_edges, self.num_fields, self.width, -1)

    def count_flops(self) -> int:
        """One matrix product and one product a number."""
        return 2 * self.num_fields * self.num_fields * self.width + self.num_fields * self.width


class OuterProduct(Operator):
    """Weighted sums of the outer product of the fields' sum with itself: W vec(s s'), s = sum_f x_f.

    The outer product layer of PNN (Qu et al. 2016) in its cheap form (superposition), with as many outputs as the node has
    numbers.
    """

    def make_weights(self, generator: torch.Generator | None) -> None:
        """W (E, F D, D D)."""
        size, pairs = self.num_fields * self.width, self.width * self.width
        self.weight = uniform_weights((self.num_edges, size, pairs), pairs, generator)

    def forward(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """See Operator."""
        sum_db = x_fdb.sum(0)
        outer_pb = (sum_db.unsqueeze(1) * sum_db).flatten(0, 1)
        return torch.mm(self.weight.flatten(0, 1), outer_pb).view(self.num_edges, self.num_fields, self.width, -1)

    def count_flops(self) -> int:
        """The sum over fields, the outer product, one matrix product."""
        size, pairs = self.num_fields * self.width, self.width * self.width
        return size + pairs + 2 * size * pairs


class CrossLayer(AllFieldsOperator):
    """vec(X) * (W vec(X) + b) + vec(X): a layer of DCN-V2 (Wang et al. 2021, equation 1) whose first input is its own.

    Not rectified, as in that paper.
    """

    is_rectified = False

    def forward(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """See Operator."""
        return torch.addcmul(x_fdb, x_fdb, self.mix(x_fdb))

    def count_flops(self) -> int:
        """The mixture, one product and one sum a number."""
        return self.count_mix_flops() + 2 * self.num_fields * self.width


class Gate(AllFieldsOperator):
    """vec(X) * sigmoid(W vec(X) + b): all fields decide how much of each number passes.

    The bit-wise gate of GateNet (Huang et al. 2020) on the hidden layer's own input. Not rectified: it passes numbers on.
    """

    is_rectified = False

    def forward(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """See Operator."""
        return x_fdb * self.mix(x_fdb).sigmoid()

    def count_flops(self) -> int:
        """The mixture, a sigmoid (exp, sum, division) and one product a number."""
        return self.count_mix_flops() + 4 * self.num_fields * self.width


class TwoLayerPerceptron(Operator):
    """W2 relu(W1 vec(X) + b1) + b2 with H = WIDENING * F * D hidden numbers."""

    def make_weights(self, generator: torch.Generator | None) -> None:
        """W1 (E, H, F D), b1 (E, H), W2 (E, F D, H) and b2 (E, F D)."""
        size = self.num_fields * self.width
        num_hidden = WIDENING * size
        self.widen_ehn = uniform_weights((self.num_edges, num_hidden, size), size, generator)
        self.widen_bias_eh = uniform_weights((self.num_edges, num_hidden), size, generator)
        self.narrow_enh = uniform_weights((self.num_edges, size, num_hidden), num_hidden, generator)
        self.narrow_bias_en = uniform_weights((self.num_edges, size), num_hidden, generator)

    def forward(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """See Operator."""
        hidden = torch.addmm(self.widen_bias_eh.reshape(-1, 1), self.widen_ehn.flatten(0, 1), x_fdb.flatten(0, 1))
        hidden_ehb = hidden.relu().view(self.num_edges, -1, x_fdb.shape[-1])
        mixed_enb = torch.baddbmm(self.narrow_bias_en.unsqueeze(2), self.narrow_enh, hidden_ehb)
        return mixed_enb.view(self.num_edges, self.num_fields, self.width, -1)

    def count_flops(self) -> int:
        """Two matrix products and two biases."""
        size = self.num_fields * self.width
        return 2 * (2 * WIDENING * size * size) + WIDENING * size + size


class LogarithmicLayer(Operator):
    """Products of learned powers: exp(sum_g W_fg log|x_g| + b_f), number by number.

    The logarithmic transformation layer of AFN (Cheng et al. 2020, equation 6), with as many neurons as there are fields.
    Positive as it is, so not rectified.
    """

    is_rectified = False

    def make_weights(self, generator: torch.Generator | None) -> None:
        """W (E, F, F) and b (E, F)."""
        self.weight_eff = uniform_weights(
            (self.num_edges, self.num_fields, self.num_fields), self.num_fields, generator
        )
        self.bias_ef = uniform_weights((self.num_edges, self.num_fields), self.num_fields, generator)

    def forward(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """See Operator."""
        logs = x_fdb.abs().clamp_min(SMALLEST).log().flatten(1, 2)
        powers = torch.addmm(self.bias_ef.reshape(-1, 1), self.weight_eff.flatten(0, 1), logs)
        return powers.clamp_max(LARGEST_LOG).exp().view(self.num_edges, self.num_fields, self.width, -1)

    def count_flops(self) -> int:
        """A logarithm and an exponential a number, one matrix product and the bias."""
        size = self.num_fields * self.width
        return 2 * size + 2 * self.num_fields * size + size


class Convolution2d(Operator):
    """A 3 x 3 kernel over the table of fields and embedding numbers, zeros around it, and a bias.

    As in CCPM and FGCNN it sees neighbouring fields, so the order of a log's fields matters; the paper names it and leaves it out.
    """

    def make_weights(self, generator: torch.Generator | None) -> None:
        """The kernel (E, 9) and b (E,)."""
        self.kernel_ek = uniform_weights((self.num_edges, KERNEL * KERNEL), KERNEL * KERNEL, generator)
        self.bias_e = uniform_weights((self.num_edges,), KERNEL * KERNEL, generator)

    def forward(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """See Operator."""
        padded = functional.pad(x_fdb, (0, 0, 1, 1, 1, 1))
        shifted = [
            padded[field : field + self.num_fields, place : place + self.width]
            for field in range(KERNEL)
            for place in range(KERNEL)
        ]
        seen_kl = torch.stack(shifted).flatten(1)
        convolved = torch.addmm(self.bias_e.unsqueeze(1), self.kernel_ek, seen_kl)
        return convolved.view(self.num_edges, self.num_fields, self.width, -1)

    def count_flops(self) -> int:
        """Nine products and sums a number, zeros around the table included, and the bias."""
        return (2 * KERNEL * KERNEL + 1) * self.num_fields * self.width
