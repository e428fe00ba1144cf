"""The DVC remote, read and listed without DVC: what was pushed is read back from the remote alone, by another way.

DVC keeps a folder as one object `files/md5/AB/CD....dir`, a JSON list of its files' MD5 and path, and each file as
`files/md5/AB/CD...`. Every log has a prefix of its own, so that tidying up after one never touches another.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from components.errors import ConfigError, IntegrityError, OutsideError
from pipeline.registry.records import RegistryParams, StoredObject

_S3 = "s3://"
_DIGEST = re.compile(r"[0-9a-f]{32}(\.dir)?")
_MAX_LISTING_BYTES = 16 << 20
_DENIED = ("403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")
_ABSENT = ("404", "NoSuchBucket", "NoSuchKey", "NotFound")


class Store(ABC):
    """One log's part of a DVC remote."""

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def check(self) -> None:
        """Ask whether it is there and may be used; raises ConfigError or OutsideError naming it."""

    @abstractmethod
    def objects(self) -> Iterator[StoredObject]:
        """Everything below the prefix."""

    @abstractmethod
    def delete(self, keys: Sequence[str]) -> None:
        """Delete these; one that is gone already is no error."""

    @abstractmethod
    def read(self, key: str, target: Path) -> None:
        """Copy an object into a new file; raises IntegrityError where it is absent."""

    def bring(self, folder_md5: str, target: Path) -> None:
        """Copy the files of a folder that DVC pushed into the new folder `target`; raises IntegrityError."""
        target.mkdir(parents=True)
        for key, place in self.listing(folder_md5, target.parent).items():
            path = target / place
            path.parent.mkdir(parents=True, exist_ok=True)
            self.read(key[1], path)

    def listing(self, folder_md5: str, scratch: Path) -> dict[tuple[str, str], str]:
        """(path, key) -> path for each file of a folder that DVC pushed; raises IntegrityError for a damaged list."""
        copy = scratch / ".listing"
        self.read(key_of(folder_md5), copy)
        content = copy.read_bytes()
        copy.unlink()
        where = f"{self.url}/{key_of(folder_md5)}"
        if (
            len(content) > _MAX_LISTING_BYTES
            or hashlib.md5(content, usedforsecurity=False).hexdigest() != folder_md5[:32]
        ):
            raise IntegrityError(f"{where}: the list of the bundle's files is not what was pushed; restore the store")
        try:
            entries = [(str(entry["relpath"]), str(entry["md5"])) for entry in json.loads(content)]
        except (ValueError, TypeError, KeyError) as error:
            raise IntegrityError(f"{where}: not a list of files ({error}); restore the store") from error
        for place, _ in entries:
            if not place or PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
                raise IntegrityError(f"{where}: the path {place!r} leaves the bundle")
        return {(place, key_of(md5)): place for place, md5 in entries}

    def remove_damaged(self, folder_md5: str, scratch: Path) -> None:
        """Delete what is not what its key says, and the list last, so that DVC pushes both again; nothing else.

        A list that is damaged itself names no file: it is deleted alone, and the files are looked at once it is whole.
        """
        copy = scratch / ".damaged"
        try:
            listed = self.listing(folder_md5, scratch)
        except IntegrityError:
            listed = {}
        for _, key in listed:
            try:
                self.read(key, copy)
            except IntegrityError:
                continue
            with copy.open("rb") as content:
                md5 = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if key != key_of(md5):
                self.delete([key])
        copy.unlink(missing_ok=True)
        self.delete([key_of(folder_md5)])


class FolderStore(Store):
    """A local folder."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._root = Path(url)

    def check(self) -> None:
        with _disk(self.url):
            self._root.mkdir(parents=True, exist_ok=True)

    def objects(self) -> Iterator[StoredObject]:
        with _disk(self.url):
            for path in sorted(self._root.rglob("*")):
                if path.is_file():
                    yield StoredObject(path.relative_to(self._root).as_posix(), path.stat().st_size)

    def delete(self, keys: Sequence[str]) -> None:
        with _disk(self.url):
            for key in keys:
                (self._root / key).unlink(missing_ok=True)

    def read(self, key: str, target: Path) -> None:
        with _disk(self.url):
            try:
                content = (self._root / key).open("rb")
            except (FileNotFoundError, NotADirectoryError) as error:
                raise _is_missing(self.url, key) from error
            with content, target.open("wb") as copy:
                while part := content.read(1 << 20):
                    copy.write(part)


class S3Store(Store):
    """A bucket's prefix; endpoint, credentials and region come from the standard AWS environment."""

    def __init__(self, url: str, params: RegistryParams) -> None:
        super().__init__(url)
        self._bucket, _, prefix = url.removeprefix(_S3).partition("/")
        self._prefix = prefix.strip("/") + "/" if prefix else ""
        self._params = params
        self._client: Any = None

    def check(self) -> None:
        self._ask("head_bucket", Bucket=self._bucket)

    def objects(self) -> Iterator[StoredObject]:
        token: dict[str, str] = {}
        while True:
            page = self._ask("list_objects_v2", Bucket=self._bucket, Prefix=self._prefix, **token)
            for entry in page.get("Contents", ()):
                yield StoredObject(entry["Key"].removeprefix(self._prefix), entry["Size"])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._ask("delete_object", Bucket=self._bucket, Key=self._prefix + key)

    def read(self, key: str, target: Path) -> None:
        with self._answers(key):
            body = self._ask("get_object", Bucket=self._bucket, Key=self._prefix + key)["Body"]
            with _disk(str(target)), target.open("wb") as copy:
                for part in body.iter_chunks(1 << 20):
                    copy.write(part)

    def _ask(self, request: str, **arguments: Any) -> Any:
        with self._answers(arguments.get("Key")):
            return getattr(self._connected(), request)(**arguments)

    def _connected(self) -> Any:
        if self._client is None:
            import boto3
            from botocore.config import Config

            seconds = self._params.s3_timeout_seconds
            attempts = {"total_max_attempts": self._params.s3_attempts, "mode": "standard"}
            config = Config(connect_timeout=seconds, read_timeout=seconds, retries=attempts)
            self._client = boto3.session.Session().client("s3", config=config)
        return self._client

    @contextmanager
    def _answers(self, key: str | None) -> Iterator[None]:
        from botocore import exceptions

        try:
            yield
        except exceptions.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _DENIED:
                raise ConfigError(
                    f"{self.url}: access was refused ({error}); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                ) from error
            if (code in _ABSENT and key is None) or code == "NoSuchBucket":
                raise ConfigError(
                    f"{self.url}: there is no bucket '{self._bucket}'; make it or set CTR_STORE"
                ) from error
            if code in _ABSENT:
                raise _is_missing(self.url, str(key).removeprefix(self._prefix)) from error
            raise OutsideError(f"{self.url}: the store did not answer ({error}); try again later") from error
        except (
            exceptions.NoCredentialsError,
            exceptions.PartialCredentialsError,
            exceptions.NoRegionError,
            exceptions.ParamValidationError,
            exceptions.ProfileNotFound,
            ValueError,
        ) as error:
            raise ConfigError(f"{self.url}: {error}; check CTR_STORE and the AWS_... environment") from error
        except (exceptions.BotoCoreError, exceptions.HTTPClientError, OSError) as error:
            raise OutsideError(f"{self.url}: the store did not answer ({error}); try again later") from error


def store_at(url: str, name: str, params: RegistryParams) -> Store:
    """The part of the store at `url` that belongs to one artifact name; raises ConfigError for an unknown scheme."""
    if url.startswith(_S3):
        return S3Store(f"{url.rstrip('/')}/{name}", params)
    if "://" in url:
        raise ConfigError(f"{url}: a store is a local folder or s3://bucket/prefix; set CTR_STORE")
    return FolderStore(str(Path(url).absolute() / name))


def key_of(md5: str) -> str:
    """Where DVC keeps what has this MD5; raises IntegrityError for what is none."""
    if not _DIGEST.fullmatch(md5):
        raise IntegrityError(f"'{md5[:60]}' is no MD5 as DVC writes it")
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def _is_missing(url: str, key: str) -> IntegrityError:
    return IntegrityError(
        f"{url}/{key}: missing in the store; restore it from a backup or roll back to another version"
    )


@contextmanager
def _disk(place: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise ConfigError(f"{place}: may not be used ({error.strerror}); check CTR_STORE and the rights") from error
    except OSError as error:
        raise OutsideError(f"{place}: the disk refused ({error.strerror or error}); free space or repair it") from error
