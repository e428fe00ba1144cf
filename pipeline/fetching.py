"""Bringing a log near: which files the window needs, a copy of each named by its digest, and the manifest.

The only place that reads other people's storage; through fsspec, so a path may be local or s3://.
"""

from __future__ import annotations

import glob
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import polars as pl

from components import sources
from components.artifact import write_table
from components.errors import ConfigError, DataError, OutsideError
from components.log import LogRequest, Partition, RawLog
from components.sources import SourceFile
from components.sources.simulated import simulate_request
from components.workbench import Progress

_DATA_FOLDER = "$CTR_DATA"


def bring_log(request: LogRequest, home: Path, data_folder: Path, scratch: Path, progress: Progress) -> RawLog:
    """Copy what the request needs into `scratch` and describe it.

    home         what a relative path begins at: the project, wherever a run of it works
    data_folder  what `$CTR_DATA` in a path stands for

    Raises DataError for files that are missing or damaged, ConfigError for paths that cannot be, OutsideError where a
    storage does not answer.
    """
    files = scratch / "files"
    files.mkdir(parents=True)
    if request.source.format == "simulated":
        return _simulated(request, files, progress)
    found = _find(request, home, data_folder)
    names = sources.wanted(request, tuple(found))
    copies = []
    for number, name in enumerate(names):
        progress(number, len(names), name)
        copies.append(SourceFile(name, found[name](scratch)))
    partitions = sources.partitions(request, tuple(copies))
    for copy, partition in zip(copies, partitions, strict=True):
        copy.path.replace(files / partition.sha256)
    return RawLog(request, partitions, (), scratch)


def find_wanted(request: LogRequest, home: Path, data_folder: Path) -> tuple[str, ...]:
    """Which files the request needs, without touching one; raises DataError where one is not there (yet)."""
    if request.source.format == "simulated":
        return ()
    return tuple(sources.wanted(request, tuple(_find(request, home, data_folder))))


def _simulated(request: LogRequest, files: Path, progress: Progress) -> RawLog:
    partitions, truth = [], []
    num_rows = 0
    for made in simulate_request(request):
        partitions.append(_keep(made.name, made.rows, files))
        truth.append(_keep(f"truth of {made.name}", made.truth, files))
        num_rows += made.rows.height
        progress(0, 0, f"{made.name}: {num_rows:,} rows simulated")
    return RawLog(request, tuple(partitions), tuple(truth), files.parent)


def _keep(name: str, table: pl.DataFrame, files: Path) -> Partition:
    path = files / "new"
    write_table(path, table)
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    num_bytes = path.stat().st_size
    path.replace(files / digest)
    return Partition(name, digest, num_bytes, table.height, None)


def _find(request: LogRequest, home: Path, data_folder: Path) -> dict[str, Callable[[Path], Path]]:
    """Name of each file that the request's paths match -> how to copy it into a folder."""
    found: dict[str, Callable[[Path], Path]] = {}
    for pattern in request.source.paths:
        if _DATA_FOLDER in pattern and not data_folder.is_dir():
            raise ConfigError(
                f"logs/{request.log}.yaml [source.paths] '{pattern}': no folder {data_folder}; "
                "set CTR_DATA to the folder that holds the research data"
            )
        is_remote = "://" in pattern
        places = _remote(pattern) if is_remote else _local(pattern, home, data_folder)
        matches = dict(places)
        if not matches:
            place = pattern if is_remote else home / pattern.replace(_DATA_FOLDER, str(data_folder))
            raise DataError(f"raw_log {request.log}: no file at '{place}'; put it there or mend source.paths in logs/")
        names = [*found, *(name for name, _ in places)]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ConfigError(
                f"logs/{request.log}.yaml [source.paths] '{pattern}': several files are called {doubled[:5]}; "
                "a file's name must say which it is (a date, a number)"
            )
        found |= matches
    return found


def _local(pattern: str, home: Path, data_folder: Path) -> list[tuple[str, Callable[[Path], Path]]]:
    """Files at a place, in a folder, or that match a pattern; brackets in the name of a folder above are no pattern."""
    place = home / pattern.replace(_DATA_FOLDER, str(data_folder))
    if place.is_dir():
        found = [path for path in place.iterdir() if not path.name.startswith(".")]
    elif place.is_file():
        found = [place]
    else:
        wanted = pattern.replace(_DATA_FOLDER, glob.escape(str(data_folder)))
        found = [home / match for match in glob.glob(wanted, root_dir=home, recursive=True)]  # noqa: PTH207
    return [(path.name, _copier(path)) for path in sorted(found) if path.is_file()]


def _copier(path: Path) -> Callable[[Path], Path]:
    def copy(folder: Path) -> Path:
        return Path(shutil.copyfile(path, folder / path.name))

    return copy


def _remote(place: str) -> list[tuple[str, Callable[[Path], Path]]]:
    import fsspec
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        system, path = fsspec.core.url_to_fs(place)
        matches = system.glob(path) if "*" in path else ([path] if system.isfile(path) else system.glob(f"{path}/*"))
    except PermissionError as error:
        raise ConfigError(f"{place}: access was refused ({error}); check the credentials in the environment") from error
    except FileNotFoundError as error:
        raise ConfigError(f"{place}: there is no such place ({error}); correct source.paths in logs/") from error
    except (OSError, BotoCoreError, ClientError) as error:
        raise OutsideError(f"{place}: the storage did not answer ({error})") from error

    def downloader(match: str) -> Callable[[Path], Path]:
        def download(folder: Path) -> Path:
            target = folder / PurePosixPath(match).name
            try:
                system.get_file(match, str(target))
            except (OSError, BotoCoreError, ClientError) as error:
                raise OutsideError(f"{match}: the download broke off ({error}); run fetch again") from error
            return target

        return download

    return [(PurePosixPath(match).name, downloader(match)) for match in sorted(matches)]
