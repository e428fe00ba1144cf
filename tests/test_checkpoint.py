"""The state of a long work on disk is whole, exact, and never taken for another run's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from components.checkpoint import FILE_NAME, flatten_optimizer, load_checkpoint, restore_optimizer, save_checkpoint
from components.errors import ConfigError, IntegrityError

IDENTITY = {"data": "a1", "params": {"rate": 0.1}, "code": "c1"}


def silence(text: str) -> None:
    raise AssertionError(f"nothing should be said, but: {text}")


def test_tensors_and_facts_come_back_exactly(tmp_path: Path) -> None:
    tensors = {"w": torch.rand(3, 2), "half": torch.rand(4).to(torch.bfloat16), "state": torch.get_rng_state()}
    facts = {"loss": 0.1 + 0.2, "epoch": 3, "best": None, "lines": ["a"]}
    save_checkpoint(tmp_path, IDENTITY, tensors, facts)
    found = load_checkpoint(tmp_path, IDENTITY, "always", silence)
    assert found is not None
    assert found.facts == facts
    assert found.tensors.keys() == tensors.keys()
    assert all(torch.equal(found.tensors[name], tensors[name]) for name in tensors)


def test_tensors_that_share_memory_can_be_saved(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    save_checkpoint(tmp_path, IDENTITY, {"a": whole, "b": whole[2:]}, {})
    found = load_checkpoint(tmp_path, IDENTITY, "auto", silence)
    assert found is not None
    assert torch.equal(found.tensors["b"], whole[2:])


def test_another_runs_checkpoint_is_discarded_aloud_under_auto_and_refused_under_always(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, IDENTITY, {}, {})
    other = {**IDENTITY, "params": {"rate": 0.2}}
    said: list[str] = []
    assert load_checkpoint(tmp_path, other, "auto", said.append) is None
    assert said == ["checkpoint discarded, it belongs to another run: params.rate is 0.1, expected 0.2; starting anew"]
    with pytest.raises(ConfigError, match=r"params\.rate is 0\.1, expected 0\.2"):
        load_checkpoint(tmp_path, other, "always", silence)


def test_what_differs_deep_within_long_params_is_named_and_nothing_that_agrees(tmp_path: Path) -> None:
    many = {f"param_{number}": number for number in range(100)}
    save_checkpoint(tmp_path, {"params": {**many, "by_order": {"2": 1.0, "3": 2.0}, "old": True}}, {}, {})
    said: list[str] = []
    new = {"params": {**many, "by_order": {"2": 1.0, "3": 2.5}, "kernels": "compiled"}}
    assert load_checkpoint(tmp_path, new, "auto", said.append) is None
    differences = 'params.by_order.3 is 2.0, expected 2.5; params.kernels is absent, expected "compiled"; params.old is true, expected absent'
    assert differences in said[0]
    assert "param_" not in said[0]


def test_never_does_not_look_and_always_insists(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, IDENTITY, "auto", silence) is None
    with pytest.raises(ConfigError, match="no checkpoint"):
        load_checkpoint(tmp_path, IDENTITY, "always", silence)
    save_checkpoint(tmp_path, IDENTITY, {}, {})
    assert load_checkpoint(tmp_path, IDENTITY, "never", silence) is None


@pytest.mark.parametrize("keep", [0, 4, 60])
def test_a_damaged_checkpoint_is_never_used(tmp_path: Path, keep: int) -> None:
    save_checkpoint(tmp_path, IDENTITY, {"w": torch.rand(100)}, {})
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:keep])
    said: list[str] = []
    assert load_checkpoint(tmp_path, IDENTITY, "auto", said.append) is None
    assert "not readable" in said[0]
    with pytest.raises(IntegrityError):
        load_checkpoint(tmp_path, IDENTITY, "always", silence)


def test_a_writer_killed_before_the_rename_leaves_the_older_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, IDENTITY, {}, {"epoch": 1})
    leftover = tmp_path / f"{FILE_NAME}.12345.unfinished"
    leftover.write_bytes(b"half")
    found = load_checkpoint(tmp_path, IDENTITY, "auto", silence)
    assert found is not None
    assert found.facts == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def adam(weights: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(weights, lr=0.1, betas=(0.5, 0.99))


def momentum(weights: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(weights, lr=0.1, momentum=0.9)


@pytest.mark.parametrize("make", [adam, momentum])
def test_an_optimizer_restored_goes_on_bit_for_bit(
    tmp_path: Path, make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]
) -> None:
    def steps(weights: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            sum(((weight - 1) ** 4).sum() for weight in weights).backward()  # type: ignore[union-attr]
            optimizer.step()

    through = [torch.nn.Parameter(torch.arange(3.0)), torch.nn.Parameter(torch.ones(2, 2) * 3)]
    optimizer = make(through)
    steps(through, optimizer, 4)
    tensors, facts = flatten_optimizer("optimizer", optimizer)
    save_checkpoint(tmp_path, IDENTITY, {**tensors, "w0": through[0], "w1": through[1]}, {"optimizer": facts})
    steps(through, optimizer, 3)

    found = load_checkpoint(tmp_path, IDENTITY, "auto", silence)
    assert found is not None
    resumed = [torch.nn.Parameter(found.tensors["w0"]), torch.nn.Parameter(found.tensors["w1"])]
    optimizer = make(resumed)
    restore_optimizer("optimizer", optimizer, found.tensors, found.facts["optimizer"])
    steps(resumed, optimizer, 3)
    assert all(torch.equal(a, b) for a, b in zip(through, resumed, strict=True))
