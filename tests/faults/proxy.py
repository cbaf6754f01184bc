"""A TCP proxy on loopback whose line can be cut, stalled and mended."""

import selectors
import socket
import threading


class Proxy:
    """Forwards to `target`. `cut()` resets every connection and refuses new ones, `stall()` keeps them open and lets
    nothing pass, `mend()` ends both."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.open = True
        self.flows = threading.Event()
        self.flows.set()
        self.connections = 0
        self.broken = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> int:
        """Breaks the line; returns how many live connections that broke."""
        with self.lock:
            self.open = False
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for end in pair:
                _reset(end)
        self.broken += len(pairs)
        return len(pairs)

    def stall(self) -> int:
        """Lets nothing pass; returns how many live connections wait."""
        self.flows.clear()
        with self.lock:
            return len(self.pairs)

    def mend(self) -> None:
        self.open = True
        self.flows.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if not self.open:
                _reset(client)
                continue
            try:
                server = socket.create_connection(self.target, timeout=5)
                server.settimeout(None)
            except OSError:
                _reset(client)
                continue
            with self.lock:
                self.pairs.append((client, server))
                self.connections += 1
            threading.Thread(target=self._forward, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            try:
                while True:
                    for key, _ in ready.select():
                        self.flows.wait()
                        data = key.fileobj.recv(1 << 16)
                        if not data:
                            return
                        key.data.sendall(data)
            except (OSError, ValueError):
                pass
            finally:
                with self.lock:
                    self.pairs = [pair for pair in self.pairs if pair[0] is not client]
                client.close()
                server.close()

    def close(self) -> None:
        self.listener.close()
        self.flows.set()
        self.cut()


def _reset(end: socket.socket) -> None:
    """Closes with a reset, as a machine does that is gone."""
    try:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    end.close()
