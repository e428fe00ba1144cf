"""Champions in a store that is a real S3 server on loopback: the same promises, and errors that name the store."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.errors import ConfigError, IntegrityError, OutsideError
from components.manifest import verify_manifest
from pipeline.registry import Registry
from pipeline.registry.collecting import collect, garbage
from tests.registry_world import bundle, challenger, promoted, registry_in
from tests.s3_world import BUCKET, S3, Failures, failing_s3, serving_s3

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
NUM_CASES = int(os.environ.get("CTR_FAULT_CASES", "3"))  # of each way to fail; `make faults` tries every request


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with tempfile.TemporaryDirectory() as folder, serving_s3(Path(folder)) as s3:
        yield s3


def at(folder: Path, prefix: str) -> Registry:
    return registry_in(folder, store=f"s3://{BUCKET}/{prefix}")


def test_bundles_are_pushed_read_back_fetched_and_tidied_up_in_s3(
    server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.into(monkeypatch)
    registry = at(tmp_path, "whole")
    one, two = promoted(registry, tmp_path, "1", "2")
    registry.fetch("v1.0.0", tmp_path / "fetched")
    assert verify_manifest(tmp_path / "fetched") == one
    got = tmp_path / "got"
    command = [str(Path(sys.executable).with_name("dvc")), "get", registry.git, "ctr-ranker-shop/bundle"]
    subprocess.run([*command, "--rev", "ctr-ranker-shop#prod#2", "-o", str(got)], check=True, capture_output=True)
    assert verify_manifest(got) == two
    assert garbage(registry) == []
    stray = registry.bundles()
    assert len(list(stray.objects())) == len({one.key for one in stray.objects()})
    refused = challenger(bundle(tmp_path / "three", "3"), two)

    def stop(effect: str) -> None:
        if effect == "after read back":
            raise OutsideError("stopped")

    with pytest.raises(OutsideError, match="stopped"):
        registry_in(tmp_path, stop, store=registry.store).promote(refused)
    left = garbage(registry)
    assert len(left) == 4, "list, manifest, verdict and weights of what was never promoted"
    assert collect(registry, [one.key for one in left]) == 4
    assert garbage(registry) == []
    registry.fetch("v1.0.1", tmp_path / "again")
    assert registry.promote(refused).version == "v1.0.2"


def test_a_wrong_secret_and_a_missing_bucket_are_for_a_person_to_mend(
    server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = challenger(bundle(tmp_path / "one", "1"), None)
    server.into(monkeypatch, secret="wrong")
    registry = at(tmp_path, "refused")
    with pytest.raises(ConfigError, match=r"s3://champions/refused.*AWS_ACCESS_KEY_ID"):
        registry.promote(trial)
    server.into(monkeypatch)
    missing = registry_in(tmp_path, store="s3://no-such-bucket/here")
    with pytest.raises(ConfigError, match=r"s3://no-such-bucket/here.*no bucket"):
        missing.promote(trial)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"s3://champions/refused.*credentials"):
        registry.promote(trial)
    assert registry.champion() is None


@pytest.mark.parametrize("status", [503, None])
def test_a_store_that_is_down_or_hangs_up_may_answer_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    with failing_s3(status) as s3:
        s3.into(monkeypatch)
        registry = at(tmp_path, "down")
        with pytest.raises(OutsideError, match=r"s3://champions/down.*did not answer"):
            registry.promote(challenger(bundle(tmp_path / "one", "1"), None))
    assert registry.champion() is None


@pytest.mark.parametrize("status", [503, None])
def test_a_store_that_fails_at_any_request_leaves_the_champion_and_the_next_start_finishes(
    server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    failures = Failures(status)
    with failures.between(server) as s3:
        s3.into(monkeypatch)
        registry = at(tmp_path, f"fails-{status}")
        (last,) = promoted(registry, tmp_path, "one")
        failures.begin(sys.maxsize)
        made = registry.promote(challenger(bundle(tmp_path / "counted", "counted"), last))
        num_requests, last = failures.num_asked, made.digest
        for number in range(0, num_requests, max(1, num_requests // NUM_CASES)):
            trial = challenger(bundle(tmp_path / f"trial-{number}", f"trial {number}"), last)
            failures.begin(number)
            with pytest.raises(OutsideError, match=registry.store):
                registry.promote(trial)
            champion = registry.champion()
            assert champion is not None
            assert champion.digest == last
            failures.begin(sys.maxsize)
            made = registry.promote(trial)
            last = registry.fetch(made.version, tmp_path / f"fetched-{number}").digest


def test_what_an_interrupted_push_left_damaged_in_s3_is_pushed_again(
    server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.into(monkeypatch)
    registry = at(tmp_path, "damaged")
    (one,) = promoted(registry, tmp_path, "1")
    whole = {stored.key for stored in registry.bundles().objects()}

    def damage(effect: str) -> None:
        if effect == "after push bundle":
            for stored in list(registry.bundles().objects()):
                if stored.key not in whole and not stored.key.endswith(".dir"):
                    client.put_object(Bucket=BUCKET, Key=f"damaged/{registry.name}/{stored.key}", Body=b"half")

    import boto3

    client = boto3.client("s3")
    damaged = registry_in(tmp_path, damage, store=registry.store)
    made = damaged.promote(challenger(bundle(tmp_path / "two", "2"), one))
    registry.fetch(made.version, tmp_path / "fetched")
    assert verify_manifest(tmp_path / "fetched") == made.digest
    client.close()


def test_an_object_that_is_gone_is_named(server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.into(monkeypatch)
    registry = at(tmp_path, "gone")
    promoted(registry, tmp_path, "1")
    registry.bundles().delete([one.key for one in registry.bundles().objects()])
    with pytest.raises(IntegrityError, match=r"s3://champions/gone/ctr-ranker-shop/files/md5/.*missing"):
        registry.fetch("v1.0.0", tmp_path / "fetched")


@pytest.mark.parametrize("store", ["gs://bucket/x", "http://host/x"])
def test_another_kind_of_store_is_refused(tmp_path: Path, store: str) -> None:
    with pytest.raises(ConfigError, match="local folder or s3://"):
        registry_in(tmp_path, store=store).promote(challenger(bundle(tmp_path / "one", "1"), None))
