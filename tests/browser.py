"""A headless Chromium over its debugging pipe, and a server for the built site: what the browser tests stand on.

No package is needed: Chromium reads commands from file descriptor 3 and answers on 4, JSON texts that end with a zero
byte (`--remote-debugging-pipe`). The protocol: https://chromedevtools.github.io/devtools-protocol/
"""
import base64
import json
import os
import select
import shutil
import subprocess
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")  # a page that asks another host is caught, not served


def chromium() -> str | None:
    """The browser of this machine, if it has one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Site:
    """The built site as its host serves it: under `prefix`, with 404.html for what is not there."""

    def __init__(self, folder: Path, prefix: str):
        class Handler(SimpleHTTPRequestHandler):
            def translate_path(self, path):
                return super().translate_path(path[len(prefix):] if path.startswith(prefix + "/") else "/outside")

            def send_error(self, code, message=None, explain=None):
                body = (folder / "404.html").read_bytes()
                self.send_response(code)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD": self.wfile.write(body)

            def log_message(self, *args): pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server.server_port}{prefix}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Browser:
    """One Chromium with one tab. `errors` holds what reached its console, `requests` every address it asked for."""

    def __init__(self, program: str):
        self.folder = TemporaryDirectory(prefix="attnax-browser-", ignore_cleanup_errors=True)
        ours, theirs = os.pipe(), os.pipe()
        def pipes():   # in the child: 3 to read commands from, 4 to write answers to
            command, answer = os.dup(ours[0]), os.dup(theirs[1])  # out of the way first: they may be 3 and 4 themselves
            os.dup2(os.dup(command) if command in (3, 4) else command, 3)
            os.dup2(answer, 4)
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        command = [program, *FLAGS, f"--user-data-dir={self.folder.name}", "about:blank"]
        self.process = subprocess.Popen(command, pass_fds=(3, 4), preexec_fn=pipes, **quiet)
        os.close(ours[0])
        os.close(theirs[1])
        self.to, self.back, self.left, self.count = ours[1], theirs[0], b"", 0
        self.answers, self.errors, self.requests, self.loaded, self.session = {}, [], [], False, None
        tab = next(t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.send("Target.attachToTarget", targetId=tab["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"): self.send(f"{domain}.enable")

    # ---- The protocol

    def read(self, until: float) -> None:
        """Take in one message."""
        while b"\0" not in self.left:
            ready = select.select([self.back], [], [], max(0, until - time.monotonic()))[0]
            if not ready: raise TimeoutError("Chromium is silent")
            if not (got := os.read(self.back, 1 << 20)): raise ConnectionError("Chromium has ended")
            self.left += got
        text, self.left = self.left.split(b"\0", 1)
        m = json.loads(text)
        if "id" in m: self.answers[m["id"]] = m
        else: self.event(m["method"], m["params"])

    def event(self, name: str, p: dict) -> None:
        if name == "Page.loadEventFired": self.loaded = True
        elif name == "Network.requestWillBeSent": self.requests.append(p["request"]["url"])
        elif name == "Runtime.exceptionThrown":
            self.errors.append(p["exceptionDetails"].get("exception", {}).get("description", p["exceptionDetails"]["text"]))
        elif name == "Runtime.consoleAPICalled" and p["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in p["args"]))
        elif name == "Log.entryAdded": self.errors.append(f"{p['entry']['text']} {p['entry'].get('url', '')}".strip())

    def send(self, method: str, timeout: float = 60, **params) -> dict:
        """One command and its answer."""
        self.count += 1
        text = {"id": self.count, "method": method, "params": params} | ({"sessionId": self.session} if self.session else {})
        os.write(self.to, json.dumps(text).encode() + b"\0")
        until, number = time.monotonic() + timeout, self.count
        while number not in self.answers: self.read(until)
        m = self.answers.pop(number)
        if "error" in m: raise RuntimeError(f"{method}: {m['error']['message']}")
        return m["result"]

    # ---- What a reader does

    def open(self, url: str, timeout: float = 60) -> None:
        """Go to a page and wait until it has loaded; what an earlier page said is forgotten."""
        said = self.go(lambda: self.send("Page.navigate", url=url), timeout)
        if said.get("errorText"): raise RuntimeError(f"{url}: {said['errorText']}")

    def go(self, leave, timeout: float = 60):
        """Leave a page and wait until the next one has loaded."""
        self.errors, self.requests, self.loaded = [], [], False
        said, until = leave(), time.monotonic() + timeout
        while not self.loaded: self.read(until)
        return said

    def run(self, code: str, timeout: float = 60):
        """The value of a JavaScript expression, of a promise what it brings."""
        said = self.send("Runtime.evaluate", timeout, expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in said: raise RuntimeError(said["exceptionDetails"].get("exception", {}).get("description"))
        return said["result"].get("value")

    def window(self, width: int, height: int = 900, dark: bool = False) -> None:
        """A window of that size, for a reader who prefers dark pages or light ones."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=scheme)

    def picture(self, file: Path, whole: bool = False) -> None:
        """A screenshot, of what the window shows or of the whole page."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        Path(file).write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        self.process.terminate()
        try: self.process.wait(10)
        except subprocess.TimeoutExpired: self.process.kill()
        os.close(self.to)
        os.close(self.back)
        self.folder.cleanup()
