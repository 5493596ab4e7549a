"""The viewer in a browser, served to this machine only, with what a running job adds."""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from paraloss.converters import open_surface
from paraloss.errors import InputError, ParalossError
from paraloss.files import check_input
from paraloss.picture_options import GridOptions, PictureOptions
from paraloss.rendering.web import data_of, page

_HOSTS = ("127.0.0.1", "localhost")
_LONGEST_S = 20.0  # a connection that takes longer for its one request and answer is closed
_MOST = 400  # connections at once; more are closed unanswered


class ViewServer:
    """Serves a page of ``files`` at ``url`` on 127.0.0.1 until it is shut down.

    Args:
        files: surface files; the page follows them while they grow.
        labels: one title per file.
        options: options of heights, as shown first.
        picture: options of the picture, as shown first.
        port: port of this machine; 0 takes a free one.

    Every request needs the token in ``url``, and a host name of this machine: a page of another site that is open in the same
    browser can neither read nor guess it.

    Raises:
        InputError: the port is taken, or a file cannot be shown.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Sequence[str],
        options: GridOptions,
        picture: PictureOptions | None = None,
        port: int = 0,
    ) -> None:
        self._files, self._labels = list(files), list(labels)
        self._options, self._picture = options, picture or PictureOptions()
        self._token = secrets.token_urlsafe(24)
        self._made: dict[Callable[[str], str], tuple[str, str]] = {}
        self._making = threading.Lock()
        self._latest(self._page)  # what cannot be shown is reported here, not in the browser
        try:
            self._server = _Server(("127.0.0.1", port), self._handler())
        except OSError as error:
            raise InputError(f"port {port}: {error.strerror}; choose another with --port, or none") from error
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/?token={self._token}"

    def run(self) -> None:
        """Serve until ``close`` or an interrupt."""
        self._server.serve_forever()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def _latest(self, make: Callable[[str], str]) -> str:
        """What ``make`` gives for the files as they are, made once for each state of them."""
        with self._making:
            for file in self._files:
                check_input(file)
            stamp = self._stamp()
            made, text = self._made.get(make, ("", ""))
            if made != stamp:
                text = make(stamp)
                self._made[make] = stamp, text
        return text

    def _stamp(self) -> str:
        """What changes when a file does."""
        return ",".join(str(file.stat().st_mtime_ns) for file in self._files)

    def _page(self, stamp: str) -> str:
        surfaces = [open_surface(file).drawable() for file in self._files]
        return page(surfaces, self._labels, self._options, self._picture, f"data?token={self._token}", stamp)

    def _data(self, stamp: str) -> str:
        surfaces = [open_surface(file).drawable() for file in self._files]
        return json.dumps(data_of(surfaces, self._labels, self._options, self._picture, stamp))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            server_version, sys_version = "paraloss", ""

            def do_GET(self) -> None:
                where = urlsplit(self.path)
                token = parse_qs(where.query).get("token", [""])[0]
                host = (self.headers.get("Host") or "").rsplit(":", 1)[0]
                if not hmac.compare_digest(token.encode(), outer._token.encode()) or host not in _HOSTS:
                    self._answer(403, "text/plain", "open the address that paraloss printed")
                    return
                makers = {"/": ("text/html; charset=utf-8", outer._page), "/data": ("application/json", outer._data)}
                if where.path not in makers:
                    self._answer(404, "text/plain", "there is nothing here")
                    return
                kind, make = makers[where.path]
                try:
                    if where.path == "/data" and parse_qs(where.query).get("since", [""])[0] == outer._stamp():
                        self._answer(204, "text/plain", "")  # nothing new
                        return
                    text = outer._latest(make)
                except (ParalossError, OSError) as error:
                    self._answer(503, "text/plain", str(error))
                    return
                self._answer(200, kind, text)

            do_HEAD = do_GET

            def _answer(self, code: int, kind: str, text: str) -> None:
                body = text.encode()
                self.send_response(code)
                for name, value in (
                    ("Content-Type", kind),
                    ("Content-Length", str(len(body))),
                    ("Cache-Control", "no-store"),
                    ("X-Content-Type-Options", "nosniff"),
                    ("Referrer-Policy", "no-referrer"),
                ):
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler


class _Server(ThreadingHTTPServer):
    """One thread per connection, for a limited time and for a limited number of connections."""

    request_queue_size = 512  # connections that the system keeps waiting
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._since: dict[socket.socket, float] = {}
        super().__init__(*arguments)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        if len(self._since) >= _MOST:
            return False
        self._since[request] = time.monotonic()
        return True

    def shutdown_request(self, request: Any) -> None:
        self._since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Twice a second: end the connections that have had their time."""
        for request, since in list(self._since.items()):
            if time.monotonic() - since > _LONGEST_S:
                self._since.pop(request, None)
                try:
                    request.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
                except OSError:
                    continue  # closed already

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a browser that left before its answer is no error of this side
            super().handle_error(request, client_address)
