"""A real S3 store on this host for as long as a test module runs: SeaweedFS from its package, in a fresh folder."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

WEED = Path(sys.executable).with_name("weed")
_KEY, _SECRET = "tester", "tester-secret"
_START_SEC = 90.0


@dataclass(frozen=True)
class Store:
    """The running store: its address and the environment in which clients find it."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """What a client's environment needs."""
        return {
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def client(self) -> Any:
        """A client that is not the one under test."""
        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=_KEY,
            aws_secret_access_key=_SECRET,
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
        )


def _free_ports(count: int) -> list[int]:
    """Ports that are free, with those 10000 above, which the store takes for its own talk."""
    found: list[int] = []
    for port in range(20_000 + os.getpid() % 10_000, 50_000, 7):
        if all(_is_free(one) for one in (port, port + 10_000)):
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def running_store(folder: Path) -> Iterator[Store]:
    """Start the store with its data in `folder`, wait until it takes an object, and end it by its process id."""
    master, volume, filer, s3 = _free_ports(4)
    identity = {"name": "tests", "credentials": [{"accessKey": _KEY, "secretKey": _SECRET}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    command = [
        *(str(WEED), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-master.telemetry=false"),
        *(f"-master.port={master}", f"-volume.port={volume}", "-filer=true", f"-filer.port={filer}", "-s3"),
        *(f"-s3.port={s3}", f"-s3.config={folder / 's3.json'}", "-s3.iam=false", "-s3.port.iceberg=0"),
        *("-master.volumeSizeLimitMB=64", "-volume.max=50"),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    store = Store(f"http://127.0.0.1:{s3}")
    try:
        _wait(store, process, folder / "log")
        yield store
    finally:
        # A polite stop takes 20 seconds, and nothing of the data is kept.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(store: Store, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SEC
    client = store.client()
    while True:
        try:
            client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"ready")
        except (BotoCoreError, ClientError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                words = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the store did not start: {error}\n{words}") from error
            time.sleep(0.2)
        else:
            return
