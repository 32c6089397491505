"""A real browser for tests of pages: the system's Chromium over its debugging pipe, no library.

    with Browser(found_chromium()) as browser, browser.page(file.as_uri()) as page:
        page.press("ArrowRight")
        assert page.evaluate("document.title") == "replay"
        assert page.errors == [] and page.requests == []

Chromium reads commands from its file descriptor 3 and writes answers and events to 4: JSON, each
message ended by a NUL byte (Chrome DevTools Protocol, `--remote-debugging-pipe`). Tests take the
fixture `browser` of `conftest.py`, one Chromium a session.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PROFILE = "canvasbench-browser-"
_FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",  # the pages are this project's own, and root has no other way
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-sync",
    "--disable-breakpad",
    "--hide-scrollbars",
    "--mute-audio",
)
_TO_BROWSER, _FROM_BROWSER = 3, 4
_TIMEOUT_S = 60.0
_CLOSE_S = 5.0
_VIRTUAL_KEYS = {
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    " ": 32,
    "PageUp": 33,
    "PageDown": 34,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}
_SHIFT = 8


class BrowserError(RuntimeError):
    """The browser refused a command, a script in it failed, or it is gone."""


def found_chromium() -> str | None:
    """The path of this machine's Chromium or Chrome, None without one."""
    return next((path for name in EXECUTABLES if (path := shutil.which(name))), None)


class Browser:
    """One running Chromium with a profile of its own; leaving the context ends both, come what may.

    Raises:
        BrowserError: it does not start; the message ends with what it said.
    """

    def __init__(self, executable: str) -> None:
        self.profile = Path(tempfile.mkdtemp(prefix=_PROFILE))
        self._log = self.profile / "stderr.log"
        self._next_id = 0
        self._unread = b""
        self._events: dict[str, list[dict[str, Any]]] = defaultdict(list)
        try:
            self._start(executable)
            self.version = str(self.call("Browser.getVersion")["product"])
        except BaseException:
            self.close()
            raise

    def _start(self, executable: str) -> None:
        reads, self._commands = _high_pipe()
        self._answers, writes = _high_pipe()
        arguments = [executable, *_FLAGS, f"--user-data-dir={self.profile}", "about:blank"]
        try:
            self._pid = os.posix_spawn(
                executable,
                arguments,
                {**os.environ, "HOME": str(self.profile)},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, reads, _TO_BROWSER),
                    (os.POSIX_SPAWN_DUP2, writes, _FROM_BROWSER),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, str(self._log), os.O_WRONLY | os.O_CREAT, 0o600),
                ],
                setpgroup=0,  # an interrupt of the tests reaches this class, not the browser
            )
        finally:
            os.close(reads)
            os.close(writes)

    def page(self, address: str, *, width_px: int = 1280, height_px: int = 800) -> "Page":
        """A new tab that has loaded `address`; a context manager that closes it.

        Raises:
            BrowserError: the address cannot be loaded.
        """
        return Page(self, address, width_px, height_px)

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Sends one command and waits for its answer; events that come before it are kept.

        Args:
            session: of the tab it is for; none for the browser itself.

        Raises:
            BrowserError: an error, no answer in a minute, or the browser is gone.
        """
        self._next_id += 1
        message: dict[str, Any] = {"id": self._next_id, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        left = memoryview(json.dumps(message).encode() + b"\0")
        try:
            while left:
                left = left[os.write(self._commands, left) :]
        except BrokenPipeError:
            raise self._gone(method) from None
        deadline_s = time.monotonic() + _TIMEOUT_S
        while True:
            found = self._message(method, deadline_s)
            if found.get("id") == self._next_id:
                if "error" in found:
                    raise BrowserError(f"{method}: {found['error'].get('message')}")
                return dict(found["result"])

    def wait_for(self, event: str, session: str) -> None:
        """Waits until a tab has reported `event` at least once.

        Raises:
            BrowserError: it has not in a minute, or the browser is gone.
        """
        deadline_s = time.monotonic() + _TIMEOUT_S
        while not any(e["method"] == event for e in self._events[session]):
            self._message(event, deadline_s)

    def events(self, session: str, method: str) -> list[dict[str, Any]]:
        """Parameters of every event of one kind that a tab has reported so far, in order."""
        return [e["params"] for e in self._events[session] if e["method"] == method]

    def _message(self, waiting_for: str, deadline_s: float) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select(
                [self._answers], [], [], max(0.0, deadline_s - time.monotonic())
            )
            if not ready:
                raise BrowserError(f"{waiting_for}: no answer in {_TIMEOUT_S:g} s")
            read = os.read(self._answers, 1 << 20)
            if not read:
                raise self._gone(waiting_for)
            self._unread += read
        one, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(one)
        if "method" in message:
            self._events[message.get("sessionId", "")].append(message)
        return message

    def _gone(self, waiting_for: str) -> BrowserError:
        said = self._log.read_text(errors="replace")[-1000:] if self._log.exists() else ""
        return BrowserError(f"{waiting_for}: the browser has ended. It said: {said.strip()}")

    def close(self) -> None:
        """Ends every process of this browser and removes its profile; more than once is fine."""
        for descriptor in ("_commands", "_answers"):  # without its pipe it quits by itself
            if (number := self.__dict__.pop(descriptor, None)) is not None:
                os.close(number)
        if (pid := self.__dict__.pop("_pid", None)) is not None:
            _gone_in(pid, _CLOSE_S)
            deadline_s = time.monotonic() + _CLOSE_S
            while (left := self.processes()) and time.monotonic() < deadline_s:
                for process in left:
                    _kill(process)
                time.sleep(0.01)  # one that is killed is there until it has run once more
            _gone_in(pid, _CLOSE_S)
        shutil.rmtree(self.profile, ignore_errors=True)

    def processes(self) -> list[psutil.Process]:
        """Every process started with this profile, also those that left the browser's group."""
        mark = f"--user-data-dir={self.profile}"
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if any(mark in argument for argument in process.info["cmdline"] or ())
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Page:
    """One tab. Everything it said, threw and asked for since it was opened is kept."""

    def __init__(self, browser: Browser, address: str, width_px: int, height_px: int) -> None:
        self._browser = browser
        self._address = address
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._target, self._session = target, str(attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self._call("Performance.enable", timeDomain="threadTicks")
        self.resize(width_px, height_px)
        answer = self._call("Page.navigate", url=address)
        if answer.get("errorText"):
            raise BrowserError(f"{address}: {answer['errorText']}")
        browser.wait_for("Page.loadEventFired", self._session)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited where it is a promise.

        Raises:
            BrowserError: it throws.
        """
        answer = self._call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise BrowserError(_thrown(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def press(self, key: str, *, shift: bool = False) -> None:
        """One key down and up where the focus is: a name as in KeyboardEvent.key, or a character.

        Raises:
            ValueError: a name that is not known here.
        """
        if len(key) != 1 and key not in _VIRTUAL_KEYS:
            raise ValueError(f"key {key!r} is unknown; valid: one character, {list(_VIRTUAL_KEYS)}")
        code = {" ": "Space"}.get(key, key)
        if len(key) == 1 and key.isalnum():
            code = f"Digit{key}" if key.isdigit() else f"Key{key.upper()}"
        event = {
            "key": key,
            "code": code,
            "windowsVirtualKeyCode": _VIRTUAL_KEYS.get(key, ord(key[0].upper())),
            "modifiers": _SHIFT if shift else 0,
        }
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self._call("Input.dispatchKeyEvent", **event, **down)
        self._call("Input.dispatchKeyEvent", **event, type="keyUp")

    def click(self, selector: str) -> None:
        """A click of the left mouse button on the middle of an element, scrolled into view.

        Raises:
            BrowserError: there is no such element.
        """
        x, y = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center', behavior: 'instant'});"
            " const r = e.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def resize(self, width_px: int, height_px: int) -> None:
        """The viewport in CSS pixels, one device pixel each."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width_px,
            height=height_px,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(
        self, *, dark: bool = False, printed: bool = False, reduced_motion: bool = False
    ) -> None:
        """What style sheets are told of the reader and the medium, until it is said again."""
        self._call(
            "Emulation.setEmulatedMedia",
            media="print" if printed else "screen",
            features=[
                {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                {
                    "name": "prefers-reduced-motion",
                    "value": "reduce" if reduced_motion else "no-preference",
                },
            ],
        )

    def screenshot(self, into: Path, *, whole: bool = False) -> None:
        """A PNG of the viewport, or of the `whole` page however long."""
        shot = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        into.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self) -> bytes:
        """The page as printed, in the paper size its style sheet asks for."""
        printed = self._call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        return base64.b64decode(printed["data"])

    @property
    def errors(self) -> list[str]:
        """Console errors and warnings, uncaught exceptions and what the browser itself logged."""
        self.evaluate("0")  # events come in order, so everything up to now is here after it
        found = [
            f"console.{said['type']}: " + " ".join(_argument(a) for a in said["args"])
            for said in self._events("Runtime.consoleAPICalled")
            if said["type"] in ("error", "warning", "assert")
        ]
        found += [
            f"exception: {_thrown(thrown['exceptionDetails'])}"
            for thrown in self._events("Runtime.exceptionThrown")
        ]
        found += [
            f"{logged['entry']['source']}: {logged['entry']['text']}"
            for logged in self._events("Log.entryAdded")
            if logged["entry"]["level"] in ("error", "warning")
        ]
        return found

    @property
    def console(self) -> list[str]:
        """Every console message, as text."""
        self.evaluate("0")
        return [
            " ".join(_argument(a) for a in said["args"])
            for said in self._events("Runtime.consoleAPICalled")
        ]

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for, refused ones included; not itself, not data in it."""
        self.evaluate("0")
        asked = [sent["request"]["url"] for sent in self._events("Network.requestWillBeSent")]
        own = self._address.partition("#")[0]
        return [u for u in asked if u != own and not u.startswith(("data:", "blob:"))]

    @property
    def busy_s(self) -> float:
        """Processor seconds that the tab's main thread has spent: scripts, styles and layout.

        Other load on the machine does not lengthen them, as it does what a page's own clock tells.
        """
        metrics = self._call("Performance.getMetrics")["metrics"]
        return float(next(m["value"] for m in metrics if m["name"] == "TaskDuration"))

    def _events(self, method: str) -> list[dict[str, Any]]:
        return self._browser.events(self._session, method)

    def close(self) -> None:
        """Closes the tab."""
        self._browser.call("Target.closeTarget", targetId=self._target)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, BrowserError):
            self.close()


def _high_pipe() -> tuple[int, int]:
    """A pipe (read, write) whose numbers lie above those that the browser expects it under."""
    low = os.pipe()
    high = tuple(fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 10) for number in low)
    for number in low:
        os.close(number)
    return high[0], high[1]


def _gone_in(pid: int, seconds: float) -> bool:
    """Whether our child ended within so long; it is reaped then."""
    try:
        psutil.Process(pid).wait(seconds)
    except psutil.TimeoutExpired:
        return False
    except psutil.NoSuchProcess:
        pass
    return True


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def _thrown(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details.get("text"))


def _argument(remote: dict[str, Any]) -> str:
    return str(remote["value"] if "value" in remote else remote.get("description", remote["type"]))
