"""A wire between a client and mongod that breaks at a chosen command."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import bson
from pymongo.uri_parser import parse_uri

HEADER = struct.Struct("<iiii")
BODY = HEADER.size + 5  # flags and the kind of the first section
HOUSEKEEPING = {"hello", "ismaster", "saslStart", "saslContinue", "ping", "endSessions"}


class Fault(Enum):
    """What happens at the chosen command."""

    DEAD = "the client dies before it sends it"
    LAST = "mongod does it, but the client dies before the reply"
    DEAF = "mongod does it, but the reply is lost and the connection with it"


class Proxy:
    """Passes messages on, one request and one reply at a time, and counts commands."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._fault: tuple[range, Fault] | None = None
        self._dead = False
        self.commands: list[str] = []
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, at: int, fault: Fault, times: int = 1) -> None:
        """Count from here on and break at command number `at`, from 1, and so many; 0: never."""
        with self._lock:
            self.commands.clear()
            self._dead = False
            self._fault = (range(at, at + times), fault)

    def close(self) -> None:
        self._dead = True
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server:
            while (request := _message(client)) is not None and not self._dead:
                broken = self._breaks(request)
                if broken is Fault.DEAD:
                    return
                server.sendall(request)
                reply = _message(server)
                if reply is None or broken is not None:
                    return
                client.sendall(reply)

    def _breaks(self, request: bytes) -> Fault | None:
        name = next(iter(bson.decode(_first_document(request))))
        if name in HOUSEKEEPING:
            return None
        with self._lock:
            self.commands.append(name)
            if self._fault is None or len(self.commands) not in self._fault[0]:
                return None
            fault = self._fault[1]
            self._dead = fault is not Fault.DEAF
            return fault


@contextmanager
def proxied(uri: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy to the server of an address, and the address of the proxy."""
    (host, port) = parse_uri(uri)["nodelist"][0]
    proxy = Proxy(host, port)
    credentials = uri.split("@", maxsplit=1)[0]
    options = "authSource=admin&directConnection=true&serverMonitoringMode=poll"
    try:
        yield proxy, f"{credentials}@127.0.0.1:{proxy.port}/?{options}"
    finally:
        proxy.close()


def _message(source: socket.socket) -> bytes | None:
    try:
        head = _exactly(source, 4)
        return None if head is None else head + (_exactly(source, _length(head) - 4) or b"")
    except OSError:
        return None


def _exactly(source: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        part = source.recv(count - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)


def _first_document(request: bytes) -> bytes:
    opcode = HEADER.unpack_from(request)[3]
    start = BODY if opcode == 2013 else request.index(b"\0", HEADER.size + 4) + 9
    return request[start : start + _length(request[start : start + 4])]


def _length(head: bytes) -> int:
    return int(struct.unpack("<i", head)[0])
