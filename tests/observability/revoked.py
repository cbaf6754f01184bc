"""An S3 endpoint on loopback whose answers become those of a store that takes the credentials no more."""

import re
import socket
import threading

ANSWER = (b"<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>InvalidAccessKeyId</Code>"
          b"<Message>The AWS Access Key Id you provided does not exist in our records.</Message></Error>")
LENGTH = re.compile(rb"^content-length:\s*(\d+)", re.I | re.M)


class Endpoint:
    """Forwards to `target`; after `revoke()` every request is answered with 403, also on connections that are open."""

    def __init__(self, target):
        self.target, self.revoked, self.open = target, False, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def revoke(self):
        self.revoked = True
        # Those that are under way are answered by nobody: their clients ask again.
        for end in self.open:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._refuse if self.revoked else self._forward, args=(client,), daemon=True).start()

    def _forward(self, client):
        server = socket.create_connection(self.target)
        self.open += [client, server]
        threading.Thread(target=_copy, args=(server, client), daemon=True).start()
        _copy(client, server)

    def _refuse(self, client):
        with client:
            data = b""
            while b"\r\n\r\n" not in data:
                if not (more := client.recv(65536)):
                    return
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            length = LENGTH.search(head)
            left = (int(length[1]) if length else 0) - len(body)
            while left > 0 and (more := client.recv(65536)):
                left -= len(more)
            client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: "
                           + str(len(ANSWER)).encode() + b"\r\n\r\n" + (b"" if head.startswith(b"HEAD") else ANSWER))

    def close(self):
        self.listener.close()


def _copy(source, to):
    try:
        while data := source.recv(65536):
            to.sendall(data)
    except OSError:
        pass
    for end in (source, to):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
