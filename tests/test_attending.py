"""What is served attends as what was trained, also where scores are far beyond what exp can hold."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from components.autopi.attending import SCORE_LIMIT, attend


class Attention(nn.Module):
    def forward(self, x_fdb: torch.Tensor, pairing_edd: torch.Tensor) -> torch.Tensor:
        return attend(x_fdb, pairing_edd)


@pytest.mark.parametrize("size", [0.1, 1.0, 10.0])
def test_the_exported_attention_is_the_trained_one(size: float) -> None:
    torch.manual_seed(3)
    x_fdb = size * torch.randn(4, 5, 6, dtype=torch.float64)
    pairing_edd = torch.randn(2, 5, 5, dtype=torch.float64)
    scores = torch.einsum("fdb,edc,gcb->fegb", x_fdb, pairing_edd, x_fdb)
    assert bool((scores.abs() > SCORE_LIMIT).any()) == (size == 10.0)
    exported = torch.export.export(Attention(), (x_fdb, pairing_edd)).module()(x_fdb, pairing_edd)
    torch.testing.assert_close(exported, attend(x_fdb, pairing_edd), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [0.1, 1.0, 10.0, 1000.0])
@pytest.mark.parametrize("rows", [1, 600, 2000])
def test_attention_is_softmax_whatever_the_scores_and_however_the_rows_are_sliced(size: float, rows: int) -> None:
    generator = torch.Generator().manual_seed(3)
    x_fdb = (size * torch.randn(4, 3, rows, dtype=torch.float64, generator=generator)).requires_grad_()
    pairing_edd = torch.randn(2, 3, 3, dtype=torch.float64, generator=generator).requires_grad_()
    scores = torch.einsum("fdb,edc,gcb->fegb", x_fdb, pairing_edd, x_fdb)
    expected = torch.einsum("fegb,gdb->fedb", scores.softmax(2), x_fdb)
    found = attend(x_fdb, pairing_edd)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn(found.shape, dtype=torch.float64, generator=generator)
    wanted = torch.autograd.grad((expected * upstream).sum(), (x_fdb, pairing_edd))
    given = torch.autograd.grad((found * upstream).sum(), (x_fdb, pairing_edd))
    for own, other in zip(given, wanted, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-7, atol=1e-9 * float(other.abs().max()))
