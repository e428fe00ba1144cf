"""Hidden layers, and how they learn on a CPU: linear, batch norm, ReLU and dropout of a layer as one step.

Run one after another, those four modules write and read ten tensors of (B, H) that nobody asks for, which was nearly half of
a perceptron's step (3 x 400 units; the matrix products are the other half). Here a layer keeps three of them, and its
slopes are written out by hand. The numbers are the same but for rounding; a test holds that.
Shape letters: B rows in a batch, H hidden units, W numbers of input.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import nn

from components.rankers.dropout import Dropout
from components.rankers.hidden_kernels import CompiledPasses, Normed
from components.rankers.ranker import RankerParams

_BLOCK_ROWS = 256  # of 400 float32: a third of a usual second-level cache; for one thread


def hidden_layers(input_width: int, hidden_widths: tuple[int, ...], params: RankerParams) -> HiddenLayers:
    """[linear, batch norm, ReLU, dropout] for each hidden width: (B, W) -> (B, H of the last); of params the last two.

    A linear layer before batch norm has no bias: the norm would take it off again.
    """
    layers: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise((input_width, *hidden_widths)):
        layers.append(nn.Linear(width_in, width_out, bias=not params.use_batch_norm))
        if params.use_batch_norm:
            layers.append(nn.BatchNorm1d(width_out))
        layers.append(nn.ReLU(inplace=True))
        if params.dropout > 0:
            layers.append(Dropout(params.dropout))
    return HiddenLayers(*layers)


class HiddenLayers(nn.Sequential):
    """What `hidden_layers` makes; a plain sequence of modules but where it learns on a CPU with batch norm."""

    passes: Passes

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(*modules)
        self.passes = TorchPasses()

    def forward(self, x_bw: torch.Tensor) -> torch.Tensor:
        """(B, W) -> (B, H of the last)."""
        if not self.training or x_bw.device.type != "cpu" or not any(isinstance(one, nn.BatchNorm1d) for one in self):
            for module in self:
                x_bw = module(x_bw)
            return x_bw
        for linear, norm, dropout in self._layers():
            x_bw = self._learn(x_bw, linear, norm, dropout)
        return x_bw

    def learn_by_kernels(self) -> None:
        """Let the compiled program do what lies between the matrix products."""
        self.passes = CompiledPasses()

    def _layers(self) -> Iterator[tuple[nn.Linear, nn.BatchNorm1d, Dropout | None]]:
        modules = [*self, None]
        for place, module in enumerate(modules):
            if isinstance(module, nn.Linear):
                norm, dropout = modules[place + 1], modules[place + 3]
                assert isinstance(norm, nn.BatchNorm1d)
                yield module, norm, dropout if isinstance(dropout, Dropout) else None

    def _learn(
        self, x_bw: torch.Tensor, linear: nn.Linear, norm: nn.BatchNorm1d, dropout: Dropout | None
    ) -> torch.Tensor:
        if len(x_bw) < 2:
            raise ValueError("batch norm cannot learn from one row")
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        scale = 1.0 if dropout is None else dropout.scale
        kept_bh = None if dropout is None else dropout.draw_kept((len(x_bw), linear.out_features))
        y_bh: torch.Tensor = _LearningLayer.apply(  # type: ignore[no-untyped-call]
            x_bw, linear.weight, norm.weight, norm.bias, norm, kept_bh, scale, self.passes
        )
        return y_bh


class Passes(Protocol):
    """What a layer does between its matrix products, forwards and back; z is what batch norm is given, y what dropout yields."""

    def activate(
        self, z_bh: torch.Tensor, norm: nn.BatchNorm1d, kept_bh: torch.Tensor | None, scale: float
    ) -> tuple[torch.Tensor, Normed]:
        """Give y (B, H), and what its slopes need; the running figures of `norm` follow.

        `kept_bh` None: nothing is dropped; else it is the callee's to write to.
        """
        ...

    def slopes(self, slope_bh: torch.Tensor, normed: Normed) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """From y's slope: z's (B, H), and over the rows where y is above 0 the sums of slope and of slope (z - mean), (H,)."""
        ...


class TorchPasses:
    """See `Passes`."""

    def activate(
        self, z_bh: torch.Tensor, norm: nn.BatchNorm1d, kept_bh: torch.Tensor | None, scale: float
    ) -> tuple[torch.Tensor, Normed]:
        """Through batch norm, ReLU and dropout, some rows after the other."""
        assert norm.momentum is not None
        mean_h, variance_h = torch.batch_norm_update_stats(z_bh, norm.running_mean, norm.running_var, norm.momentum)
        rate_h = (variance_h + norm.eps).rsqrt()
        gain_h = norm.weight * rate_h * scale
        shift_h = norm.bias * scale - mean_h * gain_h
        y_bh = torch.empty_like(z_bh)
        for rows in _blocks(len(z_bh)):
            y_ch = torch.addcmul(shift_h, z_bh[rows], gain_h, out=y_bh[rows]).clamp_min_(0.0)
            if kept_bh is not None:
                values = y_ch.numpy()
                values *= kept_bh[rows].numpy()  # five times as fast as torch's product with booleans
        return y_bh, Normed(y_bh, z_bh, mean_h, gain_h, rate_h)

    def slopes(self, slope_bh: torch.Tensor, normed: Normed) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Back through the three."""
        passed_bh, z_bh, mean_h, gain_h, rate_h = normed
        num_rows = len(z_bh)
        slope_z_bh, product_ch = torch.empty_like(z_bh), z_bh.new_empty(_block_rows(num_rows), z_bh.shape[1])
        sum_h, sum_centred_h = torch.zeros_like(mean_h), torch.zeros_like(mean_h)
        for rows in _blocks(num_rows):
            own_ch = slope_z_bh[rows]
            torch.ops.aten.threshold_backward(slope_bh[rows], passed_bh[rows], 0.0, grad_input=own_ch)
            sum_h += own_ch.sum(0)
            sum_centred_h += torch.mul(own_ch, z_bh[rows], out=product_ch[: len(own_ch)]).sum(0)
        sum_centred_h -= mean_h * sum_h
        # Of z: gain * (slope - mean slope - (z - mean z) rate^2 mean(slope (z - mean z))).
        of_z_h = gain_h * rate_h.square() * sum_centred_h / num_rows
        constant_h = gain_h * sum_h / num_rows - mean_h * of_z_h
        for rows in _blocks(num_rows):
            slope_z_bh[rows].mul_(gain_h).addcmul_(z_bh[rows], of_z_h, value=-1).sub_(constant_h)
        return slope_z_bh, sum_h, sum_centred_h


class _LearningLayer(torch.autograd.Function):
    """dropout(max(0, gamma * (z - mean z) / std z + beta)) of z = x W'.

    Dropout's scale s is put into gamma and beta, since s * max(0, u) = max(0, s * u); a number above 0 at the end is then
    one that neither ReLU nor dropout left out, so no mask needs to be kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_bw: torch.Tensor,
        weight_hw: torch.Tensor,
        _gamma_h: torch.Tensor,
        _beta_h: torch.Tensor,
        norm: nn.BatchNorm1d,
        kept_bh: torch.Tensor | None,
        scale: float,
        passes: Passes,
    ) -> torch.Tensor:
        z_bh = torch.mm(x_bw, weight_hw.t())
        y_bh, normed = passes.activate(z_bh, norm, kept_bh, scale)
        ctx.save_for_backward(x_bw, weight_hw, *normed)
        ctx.scale, ctx.passes = scale, passes
        return y_bh

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_bw, weight_hw, *rest = ctx.saved_tensors
        normed = Normed(*rest)
        slope_bh, sum_h, sum_centred_h = ctx.passes.slopes(slopes[0], normed)
        slope_weight_hw = torch.mm(x_bw.t(), slope_bh).t()  # the faster order of the two
        slope_x_bw = torch.mm(slope_bh, weight_hw) if ctx.needs_input_grad[0] else None
        of_gamma_h, of_beta_h = sum_centred_h * normed.rate_h * ctx.scale, sum_h * ctx.scale
        return slope_x_bw, slope_weight_hw, of_gamma_h, of_beta_h, None, None, None, None


def _blocks(num_rows: int) -> Iterator[slice]:
    """Rows a few at a time, so that what one pass wrote is still in the cache when the next reads it."""
    size = _block_rows(num_rows)
    return (slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size))


def _block_rows(num_rows: int) -> int:
    """How many; all of them where several threads share each pass, since to wake them costs as much as a block's work."""
    return _BLOCK_ROWS if torch.get_num_threads() == 1 else num_rows
