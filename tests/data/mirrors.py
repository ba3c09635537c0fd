"""A server on the loopback address whose directories behave well or badly, as their names say."""

import http.server

import numpy

CONTENT = {
    "first": numpy.random.default_rng(0).bytes(200_000),
    "second": numpy.random.default_rng(1).bytes(1_000),
}


class Handler(http.server.BaseHTTPRequestHandler):
    """Mirrors by the first part of the path. data: what is asked for; start: from where."""

    server: "Server"

    def do_GET(self) -> None:
        _, mirror, name = self.path.split("/")
        asked = self.headers.get("Range")
        self.server.requests.append((mirror, name, asked))
        self.data = CONTENT[name]
        self.start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        getattr(self, f"serve_{mirror}")()

    def answer(self, status: int, body: bytes, **headers: object) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def part(self, data: bytes, stop: int | None = None, shift: int = 0) -> None:
        """What was asked for, up to `stop`; shift: how wrong the stated range is."""
        body, length = data[self.start : stop], len(data) - self.start
        if self.start == 0:
            self.answer(200, body, Content_Length=length)
        else:
            stated = f"bytes {self.start + shift}-{len(data) - 1}/{len(data)}"
            self.answer(206, body, Content_Length=length, Content_Range=stated)

    def serve_good(self) -> None:
        self.part(self.data)

    def serve_breaking(self) -> None:
        """Breaks off after 60,000 bytes, whatever is asked for."""
        self.part(self.data, self.start + 60_000)

    def serve_silent(self) -> None:
        """Promises and gives nothing."""
        self.part(self.data, self.start)

    def serve_elsewhere(self) -> None:
        self.part(self.data, shift=-1)

    def serve_altered(self) -> None:
        self.part(self.data[:-1] + bytes([self.data[-1] ^ 1]))

    def serve_rangeless(self) -> None:
        self.answer(200, self.data, Content_Length=len(self.data))

    def serve_unsized(self) -> None:
        self.answer(200, self.data)

    def serve_short(self) -> None:
        self.answer(200, self.data[:-1], Content_Length=len(self.data) - 1)

    def serve_endless(self) -> None:
        self.answer(200, self.data + b"x")

    def serve_gone(self) -> None:
        self.answer(404, b"no")

    def serve_redirecting(self) -> None:
        self.answer(302, b"", Location=self.path.replace("redirecting", "good"))

    def serve_luring(self) -> None:
        self.answer(302, b"", Location="ftp://localhost/first")

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Server(http.server.ThreadingHTTPServer):
    """requests: mirror, file and Range of each, in order."""

    requests: list[tuple[str, str, str | None]]

    def mirror(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}/"
