"""A proxy in front of the S3 server that can keep a worker's parts on the way: what arrives is taken whole, and handed on
only when it is let go, however dead or late the worker is by then."""

import selectors
import socket
import threading


class HeldPuts:
    """Forwards HTTP/1.1 to `target`. After `hold()`, the next put of a part on each connection is kept until `let_go()`;
    reads pass. `whole()` counts the kept puts whose last byte is there, `landed()` those that the server then took."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.holding = False
        self.lines: list[Line] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        self.holding = True

    def whole(self) -> int:
        return sum(line.whole for line in self.lines)

    def let_go(self) -> None:
        self.holding = False
        for line in self.lines:
            line.let_go()

    def landed(self) -> int:
        return sum(line.landed for line in self.lines)

    def close(self) -> None:
        self.holding = False
        self.listener.close()
        for line in self.lines:
            line.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
            except OSError:
                return
            line = Line(self, client, server)
            self.lines.append(line)
            threading.Thread(target=line.run, daemon=True).start()


class Line:
    """One connection through the proxy."""

    def __init__(self, proxy: HeldPuts, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.kept: bytearray | None = None
        self.whole = self.released = self.landed = False
        self.lock = threading.Lock()

    def run(self) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(self.client, selectors.EVENT_READ)
            ready.register(self.server, selectors.EVENT_READ)
            try:
                while True:
                    for key, _ in ready.select():
                        data = key.fileobj.recv(1 << 16)
                        if key.fileobj is self.client:
                            if not data:
                                # The worker is gone; what it had sent whole lands all the same.
                                ready.unregister(self.client)
                                if self.kept is None or not self.whole:
                                    return
                            else:
                                self._from_client(data)
                        else:
                            if not data:
                                return
                            self.landed |= self.released and data.startswith(b"HTTP/1.1 200")
                            self._to_client(data)
            except (OSError, ValueError):
                pass
            finally:
                self.close()

    def _from_client(self, data: bytes) -> None:
        with self.lock:
            begins = data.startswith(b"PUT ") and b"partNumber=" in data.split(b"\r\n", 1)[0]
            if self.kept is None and self.proxy.holding and begins:
                self.kept = bytearray()
            if self.kept is None:
                self.server.sendall(data)
                return
            self.kept += data
            head, separator, body = bytes(self.kept).partition(b"\r\n\r\n")
            lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            self.whole = bool(separator and lengths) and len(body) >= int(lengths[0])

    def _to_client(self, data: bytes) -> None:
        try:
            self.client.sendall(data)
        except OSError:
            pass

    def let_go(self) -> None:
        with self.lock:
            if self.kept is not None:
                self.released = self.whole
                kept, self.kept = self.kept, None
                try:
                    self.server.sendall(kept)
                except OSError:
                    pass

    def close(self) -> None:
        for end in (self.client, self.server):
            end.close()
