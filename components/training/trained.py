"""The artifact of a training: a ranker's weights with all that is needed to build it again.

Shape letters: R rows of a table, F fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError

from components.artifact import read_json, write_json
from components.autopi.architecture import Architecture
from components.autopi.network import FoundNetwork
from components.errors import ConfigError, IntegrityError
from components.rankers import RANKERS, Ranker, RankerParams, parse_ranker_params
from components.rankers.ensemble import Ensemble
from components.strict import Strict, parse
from components.training.course import EpochRecord

AUTOPI = "autopi"

# Rows scored at once: bounds the memory, changes nothing else.
_SCORED_ROWS = 8192


def build_ranker(
    name: str, field_sizes: tuple[int, ...], params: RankerParams, architecture: Architecture | None
) -> Ranker:
    """Build a ranker with weights drawn from torch's default generator; raises ConfigError for a name nobody knows."""
    if name == AUTOPI:
        if architecture is None:
            raise ConfigError("params.yaml [train] ranker 'autopi' needs an architecture; run the search stage first")
        return FoundNetwork(field_sizes, architecture, params)
    if name not in RANKERS:
        raise unknown_ranker(name)
    return RANKERS[name](field_sizes, params)


def joined_weights(members: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """A ranker's weights by name, of those of its members: one's own, or several's as an Ensemble has them."""
    if len(members) == 1:
        return members[0]
    return {f"members.{number}.{name}": tensor for number, own in enumerate(members) for name, tensor in own.items()}


def unknown_ranker(name: str) -> ConfigError:
    """What to raise for a name that is no ranker's."""
    choices = ", ".join(sorted([AUTOPI, *RANKERS]))
    return ConfigError(f"params.yaml [train] ranker: there is no ranker '{name}'; choose one of {choices}")


@dataclass(frozen=True)
class Member(Strict):
    """One network's training; there is one, or as many as are averaged.

    seed            of its initial weights, dropout, order of rows and kept negatives
    num_train_rows  after downsampling
    best_epoch      the epoch in `history` whose weights were kept
    """

    seed: int
    num_train_rows: int
    best_epoch: int
    history: tuple[EpochRecord, ...]

    @property
    def num_rows_seen(self) -> int:
        """Rows of train that passed, each as often as it did."""
        return self.num_train_rows * len(self.history)


@dataclass(frozen=True)
class TrainedRanker:
    """A ranker as it was on the epoch with the best tune figure, or the mean of several such.

    name                "autopi" or a name in RANKERS
    architecture        of "autopi", else None
    negative_keep_rate  w: scores p of these logits stand for q = p / (p + (1 - p) / w), be it that a share w of the negatives
                        was kept or that each click counted 1 / w times
    tune_auc            of the ranker as a whole
    tune_log_loss       the same in nats, of scores corrected by w
    limit_batches       batches an epoch where the run was a quick look only, else None
    members             the trainings of the networks it is made of
    weights             a safetensors file's bytes
    """

    name: str
    field_sizes: tuple[int, ...]
    ranker_params: RankerParams
    architecture: Architecture | None
    negative_keep_rate: float
    tune_auc: float
    tune_log_loss: float
    limit_batches: int | None
    members: tuple[Member, ...]
    weights: bytes

    @property
    def num_rows_seen(self) -> int:
        """Rows of train that passed in all members' trainings, each as often as it did."""
        return sum(member.num_rows_seen for member in self.members)

    @property
    def num_epochs(self) -> int:
        """Of all members together."""
        return sum(len(member.history) for member in self.members)

    def build(self) -> Ranker:
        """Give the ranker, on the CPU and in eval mode; raises IntegrityError where the weights are not this ranker's."""
        with torch.random.fork_rng(devices=[]):
            members = [
                build_ranker(self.name, self.field_sizes, self.ranker_params, self.architecture) for _ in self.members
            ]
        ranker = members[0] if len(members) == 1 else Ensemble(members)
        try:
            ranker.load_state_dict(safetensors.torch.load(self.weights))
        except (SafetensorError, RuntimeError) as error:
            raise IntegrityError(f"the weights of ranker '{self.name}' do not fit it: {error}; train again") from error
        return ranker.eval().requires_grad_(False)

    def logits(self, ids_rf: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Give the logits (R,) of encoded rows (R, F), uncorrected for downsampling."""
        ranker = self.build()
        logits_r = np.empty(len(ids_rf), dtype=np.float64)
        with torch.inference_mode():
            for start in range(0, len(ids_rf), _SCORED_ROWS):
                # Copied, because torch warns of read-only maps.
                ids_bf = torch.from_numpy(np.array(ids_rf[start : start + _SCORED_ROWS]))
                logits_r[start : start + _SCORED_ROWS] = ranker(ids_bf).numpy()
        return logits_r

    def save(self, folder: Path) -> None:
        """Write ranker.json and weights.safetensors."""
        facts = {name: getattr(self, name) for name in _Facts.__dataclass_fields__}
        write_json(folder / "ranker.json", facts)
        (folder / "weights.safetensors").write_bytes(self.weights)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back what `save` wrote; raises IntegrityError for what is absent or damaged."""
        path = folder / "ranker.json"
        facts = parse(_Facts, read_json(path), str(path), IntegrityError)
        try:
            weights = (folder / "weights.safetensors").read_bytes()
            safetensors.torch.load(weights)
        except (OSError, SafetensorError) as error:
            raise IntegrityError(f"{folder / 'weights.safetensors'}: not readable ({error}); train again") from error
        shape = parse_ranker_params(facts.name, facts.ranker_params, str(path), IntegrityError)
        known = {name: getattr(facts, name) for name in _Facts.__dataclass_fields__}
        return cls(**known | {"ranker_params": shape}, weights=weights)


@dataclass(frozen=True)
class _Facts(Strict):
    name: str
    field_sizes: tuple[int, ...]
    ranker_params: dict[str, Any]  # which class they are depends on the name
    architecture: Architecture | None
    negative_keep_rate: float
    tune_auc: float
    tune_log_loss: float
    limit_batches: int | None
    members: tuple[Member, ...]
