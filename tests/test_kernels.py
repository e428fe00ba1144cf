"""The compiled kernels compute what torch computes, on any number of rows and threads, and say what they lack."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from components import compiling
from components.autopi.attending import attend, attend_by_kernels
from components.autopi.kernels import Kernels
from components.autopi.mixing import Mixture
from components.autopi.multiplying import multiply_others
from components.autopi.results import Biased, Gated
from components.autopi.searching import search_architecture
from components.errors import ConfigError
from tests.search_world import PARAMS, Log, bench, forget_programs, needs_compiler, stopped_at_random

F, D, E = 6, 7, 3
COMPILED = dataclasses.replace(PARAMS, kernels="compiled")
pytestmark = needs_compiler


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return Kernels(F, D)


@pytest.fixture(params=[1, 2])
def num_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def drawn(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def with_gradients(function: Any, *tensors: torch.Tensor) -> list[torch.Tensor]:
    """What `function` gives for the tensors, and the gradients of all of them for one drawn upstream."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    given = function(*leaves)
    return [given.detach(), *torch.autograd.grad((given * drawn(*given.shape, seed=9).to(given)).sum(), leaves)]


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 1023, 1024, 2060])
def test_attention_is_softmax_on_any_number_of_rows_and_threads(kernels: Kernels, rows: int, num_threads: int) -> None:
    def by_hand(x_fdb: torch.Tensor, pairing_edd: torch.Tensor, value_edd: torch.Tensor) -> torch.Tensor:
        scores_fegb = torch.einsum("fdb,edc,gcb->fegb", x_fdb, pairing_edd, x_fdb)
        return torch.einsum("fegb,gcb,edc->efdb", scores_fegb.softmax(2), x_fdb, value_edd)

    given = drawn(F, D, rows), drawn(E, D, D, seed=2), drawn(E, D, D, seed=3)
    found = with_gradients(lambda *tensors: attend_by_kernels(kernels, *tensors), *given)
    for own, other in zip(found, with_gradients(by_hand, *given), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-10 * float(other.abs().max()))


@pytest.mark.parametrize("size", [0.1, 1.0, 10.0, 1000.0])
def test_in_float32_attention_is_as_near_to_float64_as_torchs_own(kernels: Kernels, size: float) -> None:
    x_fdb, pairing_edd, value_edd = size * drawn(F, D, 500), drawn(E, D, D, seed=2), drawn(E, D, D, seed=3)
    exact = torch.matmul(value_edd, attend(x_fdb, pairing_edd)).transpose(0, 1)
    single = [tensor.float() for tensor in (x_fdb, pairing_edd, value_edd)]
    by_torch = torch.matmul(single[2], attend(*single[:2])).transpose(0, 1)
    error = float((attend_by_kernels(kernels, *single) - exact).abs().max())
    assert error <= 2 * float((by_torch - exact).abs().max()) + 1e-6 * float(exact.abs().max())


def test_what_is_no_number_stays_none_and_spoils_its_own_row_only(kernels: Kernels) -> None:
    x_fdb = drawn(F, D, 40, dtype=torch.float32)
    x_fdb[2, 3, 17] = torch.nan
    y_efdb = attend_by_kernels(kernels, x_fdb, drawn(E, D, D, seed=2).float(), drawn(E, D, D, seed=3).float())
    assert bool(y_efdb[..., 17].isnan().all())
    assert not bool(y_efdb[..., :17].isnan().any())
    assert not bool(y_efdb[..., 18:].isnan().any())


def test_the_bits_do_not_depend_on_the_number_of_threads(kernels: Kernels) -> None:
    given = [tensor.float() for tensor in (drawn(F, D, 3000), drawn(E, D, D, seed=2), drawn(E, D, D, seed=3))]
    y_grad = drawn(E, F, D, 3000, seed=4).float()
    before = torch.get_num_threads()
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found.append([kernels.attend(*given), *kernels.attend_backward(*given, y_grad, True, True)])
    torch.set_num_threads(before)
    assert all(torch.equal(one, other) for more in found[1:] for one, other in zip(found[0], more, strict=True))


@pytest.mark.parametrize("rows", [1, 9, 700])
def test_each_field_is_multiplied_by_the_sum_of_the_others(kernels: Kernels, rows: int, num_threads: int) -> None:
    def by_hand(x_fdb: torch.Tensor) -> torch.Tensor:
        return torch.stack([sum(x_fdb[f] * x_fdb[g] for g in range(F) if g != f) for f in range(F)])

    x_fdb = drawn(F, D, rows)
    found = with_gradients(lambda x: multiply_others(kernels, x), x_fdb)
    for own, other in zip(found, with_gradients(by_hand, x_fdb), strict=True):
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("num_edges", [1, E])
@pytest.mark.parametrize("rows", [2, 63, 64, 65, 130])
def test_the_mixture_is_batch_norm_of_each_result_weighted_and_added_up(
    kernels: Kernels, num_edges: int, rows: int, num_threads: int
) -> None:
    """Two results of each kind: own y with and without bias, shared y rectified and not, gated."""
    y, biased, bias = drawn(num_edges, F, D, rows), drawn(num_edges, F, D, rows, seed=2), drawn(num_edges, F, D, seed=3)
    shared, plain, base = drawn(1, F, D, rows, seed=4), drawn(1, F, D, rows, seed=5), drawn(F, D, rows, seed=6)
    gates, more = drawn(num_edges, F, rows, seed=7).abs(), drawn(num_edges, F, rows, seed=8).abs()
    strength = drawn(num_edges, 6, seed=10).softmax(1)
    is_rectified = [True, True, True, False, True, True]
    mixture = Mixture(is_rectified, [num_edges, num_edges, 1, 1, num_edges, num_edges], F, kernels).double()

    def by_kernels(*given: torch.Tensor) -> torch.Tensor:
        strength, y, biased, bias, shared, plain, base, gates, more = given
        viewed = [y, Biased(biased, bias), shared, plain, Gated(base, gates), Gated(base, more)]
        return torch.stack(mixture(viewed, strength))

    def by_hand(*given: torch.Tensor) -> torch.Tensor:
        strength, y, biased, bias, shared, plain, base, gates, more = given
        all_y = [y, biased + bias.unsqueeze(3), shared, plain, base * gates.unsqueeze(2), base * more.unsqueeze(2)]
        total = torch.zeros(num_edges, F, D, rows, dtype=torch.float64)
        for number, (one, rectified) in enumerate(zip(all_y, is_rectified, strict=True)):
            own = (one.relu() if rectified else one).expand(num_edges, -1, -1, -1)
            var, mean = torch.var_mean(own, (2, 3), correction=0, keepdim=True)
            total = total + strength[:, number, None, None, None] * (own - mean) / (var + 1e-5).sqrt()
        return total

    given = strength, y, biased, bias, shared, plain, base, gates, more
    for own, other in zip(with_gradients(by_kernels, *given), with_gradients(by_hand, *given), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-7, atol=1e-9 * float(other.abs().max()))


def test_a_search_by_kernels_that_is_stopped_ends_bit_for_bit_as_one_that_was_not(tmp_path: Path) -> None:
    log: Any = Log(2_000, 20, 1)
    whole = search_architecture(log, COMPILED, bench(tmp_path / "whole"))
    found, exit_codes = stopped_at_random(log, COMPILED, tmp_path / "stopped", 1, 4)
    assert len(exit_codes) >= 2
    assert found == whole


def test_a_search_by_kernels_takes_the_course_of_one_by_torch(tmp_path: Path) -> None:
    log: Any = Log(2_000, 20, 1)
    one = search_architecture(log, dataclasses.replace(COMPILED, max_epochs=1), bench(tmp_path / "one"))
    other = search_architecture(log, dataclasses.replace(PARAMS, max_epochs=1), bench(tmp_path / "other"))
    assert one.history[0].weight_loss == pytest.approx(other.history[0].weight_loss, rel=1e-3)
    assert one.history[0].tune_log_loss == pytest.approx(other.history[0].tune_log_loss, rel=1e-3)
    assert one != other, "kernels were asked for and torch did the work"


def test_without_a_compiler_a_search_says_so_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "COMPILER", "no-such-compiler")
    forget_programs()
    with pytest.raises(ConfigError, match="needs a C compiler, and there is no 'no-such-compiler' on the PATH"):
        search_architecture(Log(2_000, 20, 1), COMPILED, bench(tmp_path))  # type: ignore[arg-type]


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = tmp_path / "failing-cc"
    failing.write_text("#!/bin/sh\necho 'unknown target processor' >&2\nexit 3\n")
    failing.chmod(0o755)
    monkeypatch.setattr(compiling, "COMPILER", str(failing))
    forget_programs()
    with pytest.raises(ConfigError, match=r"ended with 3: unknown target processor; set them to 'torch'"):
        Kernels(F, D)
