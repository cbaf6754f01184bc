"""A line to an S3 server that counts what passes, and can slow the requests for copies down."""

import re
import selectors
import socket
import threading
import time
from collections.abc import Callable

from proxy import Proxy

SOURCE = re.compile(rb"^x-amz-copy-source: *(\S+)\r?$", re.IGNORECASE | re.MULTILINE)
RANGE = re.compile(rb"^x-amz-copy-source-range: *bytes=(\d+)-(\d+)\r?$", re.IGNORECASE | re.MULTILINE)


class Line(Proxy):
    """`sent` and `received` are bytes as the client sees them, `copied` those that it asked the server to copy.

    With `pace` a copy waits so many seconds for the one before. `before` hears of each source before its copy is handed on.
    """

    def __init__(self, target: tuple[str, int], pace: float = 0, before: Callable[[str], None] | None = None) -> None:
        self.sent = self.received = self.copies = self.copied = 0
        self.counting, self.turn = threading.Lock(), threading.Lock()
        self.pace, self.before = pace, before
        super().__init__(target)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            try:
                while True:
                    for key, _ in ready.select():
                        data = key.fileobj.recv(1 << 18)
                        if not data:
                            return
                        if key.fileobj is client:
                            self._from_client(data)
                        else:
                            with self.counting:
                                self.received += len(data)
                        key.data.sendall(data)
            except (OSError, ValueError):
                pass
            finally:
                with self.lock:
                    self.pairs = [pair for pair in self.pairs if pair[0] is not client]
                client.close()
                server.close()

    def _from_client(self, data: bytes) -> None:
        with self.counting:
            self.sent += len(data)
        if not data.startswith(b"PUT ") or not (source := SOURCE.search(data)):
            return
        with self.counting:
            self.copies += 1
            if found := RANGE.search(data):
                self.copied += int(found[2]) + 1 - int(found[1])
        if self.before:
            self.before(source[1].decode())
        if self.pace:
            with self.turn:
                time.sleep(self.pace)
