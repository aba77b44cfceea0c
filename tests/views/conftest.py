"""A headless browser for the tests of what is seen in one."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# WebGL without a graphics card; without a sandbox, since continuous integration is root.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


class Browser:
    """One page of a Chromium, driven over the DevTools protocol."""

    def __init__(self, program: str, size: tuple[int, int]) -> None:
        self._folder = tempfile.mkdtemp(prefix="zarrdock-browser-")
        self._size = size
        command = [program, *FLAGS, f"--user-data-dir={self._folder}"]
        self._process = subprocess.Popen(
            [*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._loop = asyncio.new_event_loop()
        self._n = 0
        self._is_loaded = False
        self.messages: list[str] = []

    def __enter__(self) -> Self:
        try:
            self._loop.run_until_complete(self._connect(self._address()))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_session"):
            self._loop.run_until_complete(self._session.close())
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)
        self._loop.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _address(self) -> str:
        port = Path(self._folder, "DevToolsActivePort")
        until = time.monotonic() + 60
        while not (port.exists() and port.read_text().count("\n")):
            assert self._process.poll() is None, f"the browser ended with {self._process.returncode}"
            assert time.monotonic() < until, "the browser did not start within a minute"
            time.sleep(0.05)
        return f"http://127.0.0.1:{port.read_text().split()[0]}"

    async def _connect(self, address: str) -> None:
        import aiohttp

        self._session = aiohttp.ClientSession()
        async with self._session.get(f"{address}/json") as response:
            pages = [page for page in await response.json() if page["type"] == "page"]
        self._socket = await self._session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)
        for domain in ("Page", "Runtime", "Log"):
            await self._call(f"{domain}.enable")
        width, height = self._size
        shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self._call("Emulation.setDeviceMetricsOverride", **shape)

    async def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._n += 1
        number = self._n
        await self._socket.send_str(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = await self._receive()
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                result: dict[str, Any] = message["result"]
                return result

    async def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads((await asyncio.wait_for(self._socket.receive(), 60)).data)
        if message.get("method") in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.messages.append(json.dumps(message["params"])[:500])
        self._is_loaded |= message.get("method") == "Page.loadEventFired"
        return message

    def open(self, url: str) -> None:
        """Go there, and wait until the page is loaded."""
        self._loop.run_until_complete(self._open(url))

    async def _open(self, url: str) -> None:
        self._is_loaded = False
        await self._call("Page.navigate", url=url)
        while not self._is_loaded:
            await self._receive()

    def evaluate(self, code: str) -> Any:
        """The value of an expression in the page, awaited where it is a promise."""
        call = self._call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        result = self._loop.run_until_complete(call)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def screenshot(self) -> npt.NDArray[np.uint8]:
        """Shape (height, width, 3)."""
        from PIL import Image

        data = self._loop.run_until_complete(self._call("Page.captureScreenshot", format="png"))["data"]
        with Image.open(BytesIO(base64.b64decode(data))) as image:
            pixels: npt.NDArray[np.uint8] = np.asarray(image.convert("RGB"))
        return pixels


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A page of 400 x 300 pixels."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        said = "no Chromium on this machine, so nothing was seen in a browser: apt-get install chromium"
        if "CI" in os.environ:
            pytest.fail(said)
        pytest.skip(said)
    with Browser(program, (400, 300)) as page:
        yield page
