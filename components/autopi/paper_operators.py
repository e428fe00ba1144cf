"""The six operators of the AutoPI paper (Meng et al. 2021, section 3.2); see `edge_operator` for what all of them share.

`X` below is the node, x_f the vector of field f. Letters: B rows in a batch, F fields, D embedding width, E edges, H hidden.
"""

from __future__ import annotations

import math

import torch

from components.autopi.attending import attend, attend_by_kernels
from components.autopi.edge_operator import AllFieldsOperator, Operator, uniform_weights
from components.autopi.multiplying import multiply_others
from components.autopi.results import Biased, Gated

# FiBiNET's reduction in the squeeze-and-excitation layer: H = F / 3.
SENET_REDUCTION = 3


class Skip(Operator):
    """X itself."""

    is_rectified = False

    def forward(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """See Operator."""
        return x_fdb.unsqueeze(0)

    def count_flops(self) -> int:
        """Nothing is computed."""
        return 0


class Senet(Operator):
    """FiBiNET's squeeze and excitation: x_f * a_f, where a = relu(W2 relu(W1 z)) and z_f is the mean of x_f."""

    def make_weights(self, generator: torch.Generator | None) -> None:
        """W1 (E, H, F) and W2 (E, F, H), without biases."""
        num_hidden = max(1, self.num_fields // SENET_REDUCTION)
        self.squeeze_ehf = uniform_weights((self.num_edges, num_hidden, self.num_fields), self.num_fields, generator)
        self.excite_efh = uniform_weights((self.num_edges, self.num_fields, num_hidden), num_hidden, generator)

    def forward(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """See Operator."""
        return x_fdb * self.gates(x_fdb).unsqueeze(2)

    def view_all(self, x_fdb: torch.Tensor) -> Gated:
        """See Operator; y = X * gates need not be made."""
        return Gated(x_fdb, self.gates(x_fdb))

    def gates(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """How much of each field passes: (F, D, B) -> (E, F, B), none below 0."""
        means_fb = x_fdb.mean(1)
        hidden_ehb = torch.matmul(self.squeeze_ehf, means_fb).relu()
        return torch.matmul(self.excite_efh, hidden_ehb).relu()

    def count_flops(self) -> int:
        """Means, two matrix products and the scaling."""
        hidden = self.squeeze_ehf.shape[1]
        return self.num_fields * self.width + 4 * hidden * self.num_fields + self.num_fields * self.width


class SelfAttention(Operator):
    """One head of scaled dot-product attention among the fields: sum_g softmax_g(<Q x_f, K x_g> / sqrt D) V x_g."""

    def make_weights(self, generator: torch.Generator | None) -> None:
        """Q, K and V (E, D, D), without biases."""
        shape = (self.num_edges, self.width, self.width)
        self.query_edd = uniform_weights(shape, self.width, generator)
        self.key_edd = uniform_weights(shape, self.width, generator)
        self.value_edd = uniform_weights(shape, self.width, generator)

    def forward(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """See Operator; Q and K are multiplied first, and V is applied after the weighted sum: the same, but cheaper."""
        pairing_edd = torch.matmul(self.query_edd.transpose(1, 2), self.key_edd) / math.sqrt(self.width)
        if self.kernels is not None:
            return attend_by_kernels(self.kernels, x_fdb, pairing_edd, self.value_edd)
        return torch.matmul(self.value_edd, attend(x_fdb, pairing_edd)).transpose(0, 1)

    def count_flops(self) -> int:
        """Three projections, scores and weighted sums; softmax as exp, sum and division (3 a score)."""
        fields, width = self.num_fields, self.width
        return 3 * 2 * fields * width * width + 2 * 2 * fields * fields * width + 3 * fields * fields


class FactorizationMachine(Operator):
    """Each field times all the others: x_f * sum over g != f of x_g.

    Summed over f and D and halved this is the second-order term of a factorization machine; kept apart by field and
    dimension it maps a node to a node, as every operator must.
    """

    def forward(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """See Operator."""
        if self.kernels is not None:
            return multiply_others(self.kernels, x_fdb).unsqueeze(0)
        return (x_fdb * (x_fdb.sum(0, keepdim=True) - x_fdb)).unsqueeze(0)

    def count_flops(self) -> int:
        """One sum over fields, one subtraction, one product."""
        return 3 * self.num_fields * self.width


class SingleLayerPerceptron(AllFieldsOperator):
    """W vec(X) + b over all fields at once."""

    def forward(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """See Operator."""
        return self.mix(x_fdb)

    def view_all(self, x_fdb: torch.Tensor) -> torch.Tensor | Biased:
        """See Operator."""
        if self.kernels is None:
            return self(x_fdb)  # type: ignore[no-any-return]
        shape = (self.num_edges, self.num_fields, self.width)
        mixed = torch.mm(self.weight.flatten(0, 1), x_fdb.flatten(0, 1))
        return Biased(mixed.view(*shape, -1), self.bias.view(shape))

    def count_flops(self) -> int:
        """The mixture alone."""
        return self.count_mix_flops()


class Convolution1d(Operator):
    """A 1x1 convolution with the fields as channels: sum_g W_fg x_g + b_f."""

    def make_weights(self, generator: torch.Generator | None) -> None:
        """W (E, F, F) and b (E, F)."""
        self.weight_eff = uniform_weights(
            (self.num_edges, self.num_fields, self.num_fields), self.num_fields, generator
        )
        self.bias_ef = uniform_weights((self.num_edges, self.num_fields), self.num_fields, generator)

    def forward(self, x_fdb: torch.Tensor) -> torch.Tensor:
        """See Operator."""
        mixed = torch.addmm(self.bias_ef.reshape(-1, 1), self.weight_eff.flatten(0, 1), x_fdb.flatten(1, 2))
        return mixed.view(self.num_edges, self.num_fields, self.width, -1)

    def view_all(self, x_fdb: torch.Tensor) -> torch.Tensor | Biased:
        """See Operator."""
        if self.kernels is None:
            return self(x_fdb)  # type: ignore[no-any-return]
        shape = (self.num_edges, self.num_fields, self.width)
        mixed = torch.mm(self.weight_eff.flatten(0, 1), x_fdb.flatten(1, 2))
        return Biased(mixed.view(*shape, -1), self.bias_ef.unsqueeze(2).expand(shape))

    def count_flops(self) -> int:
        """One matrix product and the bias."""
        return 2 * self.num_fields * self.num_fields * self.width + self.num_fields * self.width
