"""Bundles in DVC, in process: tracked in a clone and pushed to the store. Reading is `store.Store`'s, without DVC."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from components.errors import ConfigError, IntegrityError, OutsideError

_CONFIG = """\
[core]
    analytics = false
    check_update = false
    remote = store
['remote "store"']
    url = {url}
"""
_OWN_CONFIG = """\
[core]
    site_cache_dir = {folder}/.dvc/tmp/site
['remote "store"']
    url = {url}
"""


def make_dvc(folder: Path, url: str, name: str) -> None:
    """Make the clone in `folder` a DVC repository whose remote is `url`, and declare the artifact for `dvc artifacts get`."""
    (folder / ".dvc").mkdir(exist_ok=True)
    (folder / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n", encoding="utf-8")
    (folder / ".dvc" / "config").write_text(_CONFIG.format(url=url), encoding="utf-8")
    (folder / ".dvc" / "config.local").write_text(_OWN_CONFIG.format(folder=folder, url=url), encoding="utf-8")
    (folder / ".dvcignore").write_text("/project\n", encoding="utf-8")
    declared = {
        "artifacts": {name: {"path": f"{name}/bundle", "type": "model", "desc": "Scorer and all that is known of it"}}
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump(declared, sort_keys=False), encoding="utf-8")


def push_bundle(folder: Path, url: str, name: str, bundle: Path) -> str:
    """Track a copy of `bundle` in the clone with DVC and push it; gives its MD5 as DVC writes it."""
    from dvc.repo import Repo

    _be_quiet()
    place = folder / name / "bundle"
    with dvc_errors(url):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(bundle, place)
        with Repo(str(folder)) as repo:
            _remember_nothing(repo)
            outs = [out for stage in repo.add(targets=[str(place)]) for out in stage.outs]
            tree = outs[0].get_obj()
            files = {tree.hash_info, *(file for _, _, file in tree)}
            if not all(repo.cache.local.exists(file.value) for file in files):
                raise OutsideError(
                    f"{folder}: the bundle could not be copied (DVC says why above); nothing was promoted"
                )
            result = repo.cloud.transfer(repo.cache.local, repo.cloud.get_remote_odb("store", "push"), files)
        shutil.rmtree(place)
    if result.failed:
        raise OutsideError(f"{url}: {len(result.failed)} files of the bundle could not be pushed; nothing was promoted")
    return str(outs[0].hash_info.value)


def pushed_md5(dvc_file: str, where: str) -> str:
    """The MD5 in a .dvc file; raises IntegrityError."""
    try:
        return str(yaml.safe_load(dvc_file)["outs"][0]["md5"])
    except (yaml.YAMLError, TypeError, KeyError, IndexError) as error:
        raise IntegrityError(f"{where}: not a .dvc file ({error})") from error


@contextmanager
def dvc_errors(url: str) -> Iterator[None]:
    """What DVC, its file systems and its databases raise, as ConfigError or OutsideError naming the remote."""
    import sqlite3

    from botocore.exceptions import BotoCoreError, ClientError
    from dvc.exceptions import DvcException
    from dvc_objects.errors import ObjectDBError
    from scmrepo.exceptions import SCMError

    try:
        yield
    except (DvcException, SCMError, ObjectDBError, BotoCoreError, ClientError, OSError, sqlite3.Error) as error:
        denied = next((one for one in _chain(error) if isinstance(one, PermissionError)), None)
        if denied is not None:
            raise ConfigError(f"{url}: may not be used ({denied}); check CTR_STORE, the rights and AWS_...") from error
        raise OutsideError(f"{url}: the bundle could not be pushed ({_words(error)}); nothing was promoted") from error


def _remember_nothing(repo: Any) -> None:
    """Let DVC remember hashes nowhere: this clone is used once, and on a full disk DVC tries to remember for ever."""
    from dvc.cachemgr import CacheManager
    from dvc_data.hashfile.state import StateNoop

    repo.state.close()
    repo.state = StateNoop()
    repo.cache = CacheManager(repo)


def _words(error: BaseException) -> str:
    return ": ".join(dict.fromkeys(str(one) or type(one).__name__ for one in _chain(error)))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _be_quiet() -> None:
    logging.getLogger("dvc").setLevel(logging.WARNING)
