"""A log is brought near from a folder or from a real S3 server: the window's files, copied under their digests, or words on why not."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import boto3
import fsspec
import pytest

from components import sources
from components.errors import ConfigError, DataError, OutsideError
from components.log import Field, LogRequest, LogSchema, RawLog, SourceParams, TimeColumn, Window
from pipeline.fetching import bring_log, find_wanted
from tests.s3_world import BUCKET, KEY, S3, SECRET, failing_s3, serving_s3

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

SCHEMA = LogSchema(
    "clicked",
    TimeColumn("shown_at", "iso8601"),
    None,
    None,
    None,
    (Field("device", "categorical", None, 1.0, None, None),),
)
OPTIONS = {"separator": None, "ignored_columns": None, "partition_pattern": "%Y-%m-%d"}
DAYS = ("2026-03-02", "2026-03-03", "2026-03-04")
LAST_TWO_DAYS = Window(datetime(2026, 3, 3, tzinfo=UTC), datetime(2026, 3, 5, tzinfo=UTC), None)


def day_file(day: str) -> bytes:
    rows = "".join(f"{day}T{hour:02}:00:00Z,{hour % 2},phone\n" for hour in range(24))
    return gzip.compress(f"shown_at,clicked,device\n{rows}".encode(), mtime=0)


def request_at(*paths: str) -> LogRequest:
    return LogRequest("shop", SourceParams("table", paths, dict(OPTIONS)), SCHEMA, LAST_TWO_DAYS)


def brought(request: LogRequest, folder: Path, data: Path) -> RawLog:
    folder.mkdir()
    return bring_log(request, data.parent, data, folder, lambda done, total, note: None)


def assert_last_two_days(raw_log: RawLog) -> None:
    assert [partition.name for partition in raw_log.partitions] == [f"shop-{day}.csv.gz" for day in DAYS[1:]]
    for partition, day in zip(raw_log.partitions, DAYS[1:], strict=True):
        assert partition.sha256 == hashlib.sha256(day_file(day)).hexdigest()
        assert raw_log.path_of(partition).read_bytes() == day_file(day)
        assert partition.num_rows == 24
    rows = sources.scan(raw_log, raw_log.folder / "plain").collect()
    assert rows["_click"].sum() == 24


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for day in DAYS:
        (folder / f"shop-{day}.csv.gz").write_bytes(day_file(day))
    return folder


@pytest.mark.parametrize("path", ["$CTR_DATA/shop-*.csv.gz", "$CTR_DATA"])
def test_the_windows_files_of_a_folder_are_copied_under_their_digests(path: str, data: Path, tmp_path: Path) -> None:
    assert find_wanted(request_at(path), tmp_path, data) == tuple(f"shop-{day}.csv.gz" for day in DAYS[1:])
    assert_last_two_days(brought(request_at(path), tmp_path / "raw", data))


@pytest.mark.parametrize("path", ["data/shop-*.csv.gz", "data", "data/shop-2026-03-0[34].csv.gz", "$CTR_DATA/shop-*"])
def test_a_relative_path_begins_at_the_project_wherever_a_run_of_it_works(
    path: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a worktree under Airflow, and of `reproduce`; a bracket in the name of a folder above is no pattern."""
    home = tmp_path / "project [1]"
    home.mkdir()
    data.rename(home / "data")
    monkeypatch.chdir(tmp_path)
    assert find_wanted(request_at(path), home, home / "data") == tuple(f"shop-{day}.csv.gz" for day in DAYS[1:])
    (tmp_path / "raw").mkdir()
    raw_log = bring_log(request_at(path), home, home / "data", tmp_path / "raw", lambda done, total, note: None)
    assert_last_two_days(raw_log)


def test_a_folder_that_is_not_there_a_pattern_without_files_and_two_files_of_one_name_are_said(
    data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"no folder .*; set CTR_DATA to the folder that holds the research data"):
        brought(request_at("$CTR_DATA/shop-*"), tmp_path / "1", tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"raw_log shop: no file at '.*/none-\*'; put it there or mend source.paths"):
        brought(request_at("$CTR_DATA/none-*"), tmp_path / "2", data)
    again = data / "again"
    again.mkdir()
    (again / f"shop-{DAYS[1]}.csv.gz").write_bytes(day_file(DAYS[1]))
    with pytest.raises(ConfigError, match=rf"several files are called \['shop-{DAYS[1]}.csv.gz'\]"):
        brought(request_at("$CTR_DATA/shop-*", "$CTR_DATA/again/shop-*"), tmp_path / "3", data)


def test_a_day_of_the_window_that_has_not_arrived_is_named(data: Path, tmp_path: Path) -> None:
    (data / f"shop-{DAYS[2]}.csv.gz").unlink()
    with pytest.raises(DataError, match=rf"1 partition\(s\) of the window .* are missing: \['{DAYS[2]}'\]"):
        brought(request_at("$CTR_DATA/shop-*"), tmp_path / "raw", data)


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with tempfile.TemporaryDirectory() as folder, serving_s3(Path(folder)) as s3:
        client = boto3.client(
            "s3",
            endpoint_url=s3.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )
        for day in DAYS:
            client.put_object(Bucket=BUCKET, Key=f"logs/shop-{day}.csv.gz", Body=day_file(day))
        client.close()
        yield s3


@pytest.fixture(autouse=True)
def no_file_system_of_an_earlier_test() -> None:
    """fsspec keeps connections by address; each test has credentials of its own."""
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.mark.parametrize("path", [f"s3://{BUCKET}/logs/shop-*.csv.gz", f"s3://{BUCKET}/logs"])
def test_a_bucket_gives_the_same_raw_log_as_a_folder(
    path: str, server: S3, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.into(monkeypatch)
    far = brought(request_at(path), tmp_path / "far", data)
    assert_last_two_days(far)
    near = brought(request_at("$CTR_DATA"), tmp_path / "near", data)
    assert replace(far, request=near.request) == near


def test_a_wrong_secret_a_missing_bucket_and_a_store_that_fails_are_named(
    server: S3, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"s3://{BUCKET}/logs/shop-*.csv.gz"
    server.into(monkeypatch, secret="wrong")
    with pytest.raises(ConfigError, match=f"s3://{BUCKET}/logs.*access was refused.*credentials"):
        brought(request_at(place), tmp_path / "1", data)
    server.into(monkeypatch)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(ConfigError, match=r"s3://nowhere/logs.*there is no such place"):
        brought(request_at("s3://nowhere/logs/shop-*.csv.gz"), tmp_path / "2", data)
    with failing_s3(503) as failing:
        failing.into(monkeypatch)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        with pytest.raises(OutsideError, match=f"s3://{BUCKET}/logs.*the storage did not answer"):
            brought(request_at(place), tmp_path / "3", data)
