"""The bucket at an S3 server, below the path of the destination."""

import configparser
import json
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

# S3 takes no smaller part of an object but the last, and no more parts of one.
LEAST_PART = 5 << 20
MOST_PARTS = 10_000


class Settings(NamedTuple):
    """Where the copies go to, as the files settings.json and credentials say."""

    destination: str
    endpoint: str | None
    region: str
    encryption: str | None
    access_key_id: str
    secret_access_key: str

    def __repr__(self) -> str:
        return f"Settings({self.destination!r})"


def read_settings(folder: str) -> Settings | None:
    """None where no destination is set."""
    try:
        with open(f"{folder}/settings.json", encoding="utf-8") as file:
            settings = json.load(file)
        with open(f"{folder}/credentials", encoding="utf-8") as file:
            credentials = configparser.ConfigParser(interpolation=None)
            credentials.read_file(file)
    except FileNotFoundError:
        return None
    encryption = settings.get("encryption", "off")
    return Settings(
        settings["destination"].rstrip("/"),
        settings.get("endpoint"),
        settings.get("region") or "us-east-1",
        None if encryption == "off" else encryption,
        credentials["default"]["aws_access_key_id"],
        credentials["default"]["aws_secret_access_key"],
    )


class Object(NamedTuple):
    # Below the prefix that was asked for.
    key: str
    # When it was written, by the server's clock, in seconds since 1970.
    modified: float


class Bucket:
    def __init__(self, settings: Settings):
        # It takes a second and 30 MiB: only where it is used.
        import boto3
        from botocore.config import Config

        self.url = settings.destination
        self._name, _, path = settings.destination.removeprefix("s3://").partition("/")
        self._path = f"{path}/" if path else ""
        self._encrypted = {"ServerSideEncryption": settings.encryption} if settings.encryption else {}
        self._client = boto3.session.Session().client(
            "s3",
            endpoint_url=settings.endpoint,
            region_name=settings.region,
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=settings.secret_access_key,
            config=Config(
                connect_timeout=10,
                read_timeout=60,
                max_pool_connections=8,
                retries={"mode": "standard", "max_attempts": 3},
            ),
        )

    def listing(self, prefix: str) -> Iterator[Object]:
        whole = self._path + prefix
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=whole)
        for page in pages:
            for found in page.get("Contents", []):
                yield Object(found["Key"][len(whole) :], found["LastModified"].timestamp())

    def folders(self, prefix: str) -> list[str]:
        whole = self._path + prefix
        paginator = self._client.get_paginator("list_objects_v2")
        pages = paginator.paginate(Bucket=self._name, Prefix=whole, Delimiter="/")
        return [
            found["Prefix"][len(whole) :].rstrip("/")
            for page in pages
            for found in page.get("CommonPrefixes", [])
        ]

    def put(self, key: str, data: bytes) -> None:
        self._client.put_object(Bucket=self._name, Key=self._path + key, Body=data, **self._encrypted)

    def open(self, key: str) -> BinaryIO:
        return self._client.get_object(Bucket=self._name, Key=self._path + key)["Body"]

    def start(self, key: str) -> "Upload":
        """An object that is written in parts; it is there when it is complete."""
        return Upload(self._client, {"Bucket": self._name, "Key": self._path + key}, self._encrypted)

    def delete(self, keys: Iterable[str]) -> None:
        """One that is gone already is no error."""
        batch: list[dict[str, str]] = []
        for key in keys:
            batch.append({"Key": self._path + key})
            if len(batch) == 1000:
                self._delete(batch)
                batch = []
        if batch:
            self._delete(batch)

    def _delete(self, batch: list[dict[str, str]]) -> None:
        answer = self._client.delete_objects(Bucket=self._name, Delete={"Objects": batch, "Quiet": True})
        for error in answer.get("Errors", []):
            raise RuntimeError(
                f"{error.get('Key')} cannot be deleted: {error.get('Message') or error.get('Code')}"
            )


class Upload:
    def __init__(self, client, target: dict[str, str], encrypted: dict[str, str]):
        self._client = client
        answer = client.create_multipart_upload(**target, **encrypted)
        self._target = {**target, "UploadId": answer["UploadId"]}
        self._parts: list[dict[str, object]] = []

    def add(self, part: bytes) -> None:
        number = len(self._parts) + 1
        answer = self._client.upload_part(**self._target, PartNumber=number, Body=part)
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})

    def complete(self) -> None:
        self._client.complete_multipart_upload(**self._target, MultipartUpload={"Parts": self._parts})

    def abort(self) -> None:
        self._client.abort_multipart_upload(**self._target)
