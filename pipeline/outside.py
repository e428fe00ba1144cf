"""Where the world is: the only place that reads the environment, and what lies at its addresses.

CTR_DATA      folder of research data, `$CTR_DATA` in a log's paths      default ../shared/data
CTR_REGISTRY  git repository of champions, path or URL                   default .registry/git
CTR_STORE     DVC remote of bundles, folder or s3://bucket/prefix        default .registry/store
CTR_SERVED    folder of the served log                                   default .ctr/served
CTR_ENV       label of the environment in warnings                       default dev
CTR_ALERTS    state and outbox of alerts                                 default .ctr/alerts
CTR_METRICS   folder of the node exporter's textfile collector           default .ctr/metrics
CTR_ALERTMANAGER, CTR_PAGERDUTY_KEY, CTR_SLACK_WEBHOOK, CTR_SMTP, CTR_WEBHOOK  who is told (pipeline/alerting/receivers.py)
CTR_SIGNING_KEY, CTR_PUBLIC_KEY  PEM files: sign what is promoted; ask for its signature when it is loaded
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import ConfigError, IntegrityError
from pipeline.params import read_settings
from pipeline.run import Workspace

if TYPE_CHECKING:
    from components.champion import Champion
    from pipeline.alerting.book import Book
    from pipeline.alerting.warning import Desk
    from pipeline.registry import Registry

# Where `dvc exp run --temp` and `--queue` check the project out.
_EXPERIMENTS = (".dvc", "tmp", "exps")


@dataclass(frozen=True)
class Outside:
    """The addresses of the world, as the environment gives them."""

    home: Path
    data: Path
    registry: str
    store: str
    served: Path
    environment: str
    signing_key: Path | None
    public_key: Path | None


def read_environment(root: Path) -> Outside:
    """Read every address from the environment, once; defaults lie below `root`."""
    return Outside(
        home=root.absolute(),
        data=Path(os.environ.get("CTR_DATA", root / ".." / "shared" / "data")).resolve(),
        registry=os.environ.get("CTR_REGISTRY", str(root / ".registry" / "git")),
        store=os.environ.get("CTR_STORE", str(root / ".registry" / "store")),
        served=Path(os.environ.get("CTR_SERVED", root / ".ctr" / "served")),
        environment=os.environ.get("CTR_ENV", "dev"),
        signing_key=_path_in("CTR_SIGNING_KEY"),
        public_key=_path_in("CTR_PUBLIC_KEY"),
    )


def _path_in(variable: str) -> Path | None:
    text = os.environ.get(variable)
    return Path(text) if text else None


def home_of(workspace: Workspace) -> Path:
    """Where registry and served log lie by default: the project, also for a workspace that `prepare` or DVC's queue made."""
    pointer = workspace.root / ".home"
    if pointer.is_file():
        return Path(pointer.read_text(encoding="utf-8"))
    parts = workspace.root.parts
    for number in range(len(parts) - len(_EXPERIMENTS)):
        if parts[number : number + len(_EXPERIMENTS)] == _EXPERIMENTS:
            return Path(*parts[:number])
    return workspace.root


def registry_of(workspace: Workspace) -> Registry:
    """The champions of the workspace's log, where the environment says they are."""
    from pipeline.registry import Keys, Registry, RegistryParams

    settings, outside = read_settings(workspace.root), read_environment(home_of(workspace))
    return Registry(
        outside.registry,
        outside.store,
        settings.log,
        workspace.state("registry"),
        settings.section("registry", RegistryParams),
        Keys(outside.signing_key, outside.public_key),
        lambda _effect: None,
    )


def desk_of(workspace: Workspace) -> Desk:
    """Where this log's alerts are kept, and who is told of them."""
    from pipeline.alerting.params import WarnParams
    from pipeline.alerting.warning import desk_at

    home, settings = home_of(workspace), read_settings(workspace.root)
    params = settings.section("warn", WarnParams)
    return desk_at(home, os.environ, params, read_environment(home).environment, settings.log)


def book_of(workspace: Workspace) -> Book:
    """Where this log's alerts are kept, without those who are told of them."""
    from pipeline.alerting.book import book_at

    home = home_of(workspace)
    return book_at(home, os.environ, read_environment(home).environment, read_settings(workspace.root).log)


def incident_of(workspace: Workspace, check: str, slice_name: str) -> str:
    """The name of an incident of this log's champion, as the book has it."""
    from pipeline.alerting.alert import dedup_key
    from pipeline.alerting.book import model_of

    environment = read_environment(home_of(workspace)).environment
    return dedup_key(environment, model_of(read_settings(workspace.root).log), check, slice_name)


def champion_near(workspace: Workspace, scratch: Path) -> Champion:
    """The champion's bundle brought into scratch; raises ConfigError before the first promotion."""
    place = scratch / "champion"
    place.mkdir()
    registry = registry_of(workspace)
    champion = registry.fetch_champion(place)
    if champion.is_none:
        raise ConfigError(
            f"{registry.git}: no champion of log '{registry.log}' yet; promote one first, or give --bundle"
        )
    return champion


def champion_architecture(root: Path) -> str | None:
    """The champion's architecture as one line of text; None before the first promotion and for a ranker that none found."""
    from components.artifact import read_json
    from components.packing.bundle import BundledArchitecture
    from components.strict import parse

    with tempfile.TemporaryDirectory(prefix="ctr-champion-") as folder:
        champion = registry_of(Workspace(root.absolute())).fetch_champion(Path(folder))
        if champion.folder is None:
            return None
        where = champion.folder / "architecture.json"
        return parse(BundledArchitecture, read_json(where), str(where), IntegrityError).line
