"""Who may connect: the listening sockets, how many connections there may be, and which end to make room.

Rules
-----
1. There are never more than ``most`` connections, so that the journal and the external system find their descriptors
   whoever connects. ``most`` is the setting, or what the process's limit of descriptors leaves.
2. A newcomer finds room: the connection that was idle longest ends for it, among those over which no good token ever
   came first. Only where every connection is busy, newcomers wait in the backlog of the socket.
3. An address has at most ``per_address`` connections over which no good token came, so that one client does not take
   the room of all others. A balancer is one address; its connections count no more once NSPS's requests came over them.
4. Once a second the connections are looked at: a head that does not end, or answers that are not read, end them.
5. At a stop an idle connection ends when nothing was on its way for ``QUIET`` seconds since the stop began. A proxy
   uses the connections that it used last, and those end with their answers: the others are used next, however long
   they were idle before, and a request that meets the end of its connection has no answer.
"""

import asyncio
import contextlib
import errno
import resource
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from connector import log
from connector.errors import StartError
from connector.flood import flood
from connector.web.aiohttp_inside import Connection, Server
from connector.web.remote import plain

HEAD_TIMEOUT: Final = 15.0
"""Seconds for the head of a request to arrive, from its first byte."""

WRITE_TIMEOUT: Final = 20.0
"""Seconds without a byte of its answers read, after which a client is given up."""

HANDSHAKE_TIMEOUT: Final = 10.0
"""Seconds for the handshake of TLS."""

UNREAD_AT_STOP: Final = 3.0
"""The same at a stop."""

QUIET: Final = 1.0
"""Seconds that nothing was on its way over an idle connection before it ends at a stop."""

STRANGER: Final = 0.5
"""Seconds that a connection without a good token may be busy before it can end for a newcomer."""

BACKLOG: Final = 1024
"""Connections that the kernel keeps until they are taken."""

SPARE: Final = 64
"""Descriptors kept back for the journal, handlers and the external system, beside those open at the start."""

_LOOK: Final = 1.0
_STOP_LOOK: Final = 0.05
_BATCH: Final = 64
_TOO_MANY: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = log.get_logger()


def raise_descriptor_limit() -> int:
    """Lift the limit of descriptors to the highest one that this process may have; what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return int(min(soft, 2**31) if soft != resource.RLIM_INFINITY else 2**31)
    with contextlib.suppress(ValueError, OSError):  # macOS has a lower limit that it does not tell
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return int(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def most_connections(asked: int, spare: int) -> int:
    """How many connections there may be: ``asked``, or what the limit of descriptors leaves beside ``spare``."""
    limit = raise_descriptor_limit()
    in_use = len(list(Path("/dev/fd").iterdir()))
    return max(1, min(asked, limit - in_use - min(SPARE + spare, limit // 4)))


class Listener:
    """Takes the connections of a server.

    ``most``         connections at the same time
    ``per_address``  those of one address over which no good token came
    ``tls``          gives the context for a new connection; None: without TLS
    """

    def __init__(
        self,
        server: Server,
        *,
        most: int,
        per_address: int,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._server = server
        self._most = most
        self._per_address = per_address
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._taken: dict[Connection, _Taken] = {}
        self._by_address: Counter[str] = Counter()
        self._newcomer: tuple[socket.socket, str] | None = None  # who finds no room
        self._paused = False
        self._looks: asyncio.TimerHandle | None = None
        self._none_left = asyncio.Event()
        server.ended = self._ended  # type: ignore[method-assign]

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._sockets[0].getsockname()[1])

    def __len__(self) -> int:
        return len(self._taken)

    async def listen(self, host: str, port: int) -> None:
        """Begin to listen. Raises StartError."""
        try:
            self._sockets = _bound(await _resolved(host, port))
        except OSError as error:
            text = error.strerror or str(error)
            raise StartError(f"HOST, PORT: cannot listen on {host}:{port}: {text}") from None
        self._go_on()
        self._look()

    def close(self) -> None:
        """Take what has connected, and nobody after that: the port is closed."""
        for listening in self._sockets:
            self._loop.remove_reader(listening.fileno())
            if not self._paused:
                self._take(listening, BACKLOG)
            listening.close()
        self._sockets.clear()
        if self._newcomer is not None:
            self._newcomer[0].close()
            self._newcomer = None

    async def end(self, timeout: float) -> None:
        """End all connections: idle ones as they become quiet, all others in ``timeout`` seconds at the latest."""
        self._server.leave()
        deadline = self._loop.time() + timeout
        while self._taken and self._loop.time() < deadline:
            self._end_quiet(QUIET)
            self._give_up_slow_ones(QUIET, UNREAD_AT_STOP)
            self._none_left.clear()
            if self._taken:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_STOP_LOOK):
                        await self._none_left.wait()
        for connection in list(self._taken):
            self._give_up(connection)
        if self._looks is not None:
            self._looks.cancel()

    # --- taking ---

    def _go_on(self) -> None:
        newcomer, self._newcomer = self._newcomer, None  # making room for it comes here again
        if newcomer is not None:
            if not self._has_room():
                self._newcomer = newcomer
                return
            self._begin(*newcomer)
        self._paused = False
        for listening in self._sockets:
            self._loop.add_reader(listening.fileno(), self._take, listening, _BATCH)

    def _pause(self) -> None:
        self._paused = True
        for listening in self._sockets:
            self._loop.remove_reader(listening.fileno())

    def _take(self, listening: socket.socket, batch: int) -> None:
        for _ in range(batch):
            newcomer = self._accepted(listening)
            if newcomer is None:
                return
            if not self._has_room():
                self._newcomer = newcomer
                self._pause()
                return
            self._begin(*newcomer)

    def _accepted(self, listening: socket.socket) -> tuple[socket.socket, str] | None:
        try:
            client, address = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return None
        except OSError as error:
            if error.errno not in _TOO_MANY:
                raise
            self._say_full(f"The system has no room for another one: {error.strerror}")
            self._pause()
            return None
        return client, plain(str(address[0]))

    def _begin(self, client: socket.socket, address: str) -> None:
        client.setblocking(False)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(WRITE_TIMEOUT * 1000))
        if self._by_address[address] >= self._per_address:
            self._keep_to_its_share(address)
        connection = self._server()
        connect = self._loop.create_task(self._connect(connection, client, address))
        self._taken[connection] = _Taken(address, self._loop.time(), connect, client)
        self._by_address[address] += 1

    async def _connect(self, connection: Connection, client: socket.socket, address: str) -> None:
        try:
            context = self._tls() if self._tls is not None else None
            await self._loop.connect_accepted_socket(
                lambda: connection,
                client,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT if context is not None else None,
            )
        except (OSError, asyncio.CancelledError) as error:
            client.close()
            self._ended(connection)
            if isinstance(error, ssl.SSLError):
                flood.line(
                    "tls",
                    f"No TLS connection: {error.reason or 'handshake failed'}",
                    action="connection.refused",
                    remote=address,
                )

    def _ended(self, connection: Connection) -> None:
        taken = self._taken.pop(connection, None)
        if taken is None:
            return
        self._by_address[taken.address] -= 1
        if not self._by_address[taken.address]:
            del self._by_address[taken.address]
        if not self._taken:
            self._none_left.set()
        if self._paused:
            self._go_on()

    # --- making room ---

    def _has_room(self) -> bool:
        """Whether there is room for one more connection, made where there was none."""
        if len(self._taken) < self._most:
            return True
        victim = self._idle_longest(self._taken) or self._stuck() or self._idle_longest(self._taken, trusted=True)
        if victim is None:
            self._say_full("All are busy; newcomers wait")
            return False
        self._say_full("The one that was idle longest ends for a newcomer")
        self._give_up(victim)
        return True

    def _stuck(self) -> Connection | None:
        """A stranger's connection that is busy for long: it lingers, or waits for the answer to a wrong token."""
        least = self._loop.time() - STRANGER
        stuck = (each for each in self._taken if not each.trusted and self._since(each) < least)
        return min(stuck, key=self._since, default=None)

    def _keep_to_its_share(self, address: str) -> None:
        theirs = [each for each, taken in self._taken.items() if taken.address == address and not each.trusted]
        if len(theirs) >= self._per_address and (victim := self._idle_longest(theirs)) is not None:
            flood.line(
                "address",
                f"An address has {len(theirs)} connections without a good token; its oldest one ends",
                action="connections.per_address",
                remote=address,
                connections=len(theirs),
            )
            self._give_up(victim)

    def _idle_longest(self, among: Iterable[Connection], *, trusted: bool = False) -> Connection | None:
        waiting = (each for each in among if each.trusted == trusted and not each.busy)
        return min(waiting, key=self._since, default=None)

    def _give_up(self, connection: Connection) -> None:
        taken = self._taken[connection]
        if connection.transport is None:
            taken.connecting.cancel()
            taken.client.close()
        connection.abort()
        self._ended(connection)

    def _say_full(self, what: str) -> None:
        flood.line(
            "full",
            f"{len(self._taken)} connections are the most there may be. {what}",
            action="connections.full",
            remote=None,
            connections=len(self._taken),
        )

    # --- looking after them ---

    def _look(self) -> None:
        self._give_up_slow_ones(HEAD_TIMEOUT, WRITE_TIMEOUT)
        if self._paused:
            self._go_on()
        self._looks = self._loop.call_later(_LOOK, self._look)

    def _give_up_slow_ones(self, head_timeout: float, write_timeout: float) -> None:
        now = self._loop.time()
        for connection, taken in list(self._taken.items()):
            if what := connection.check(now, head_timeout, write_timeout):
                flood.line(
                    what,
                    f"A connection was given up: {what.replace('_', ' ')}",
                    action="connection.given_up",
                    remote=taken.address,
                    reason=what,
                )

    def _end_quiet(self, quiet: float) -> None:
        now = self._loop.time()
        for connection in list(self._taken):
            if connection.quiet and now - self._since(connection) >= quiet and not connection.has_unread:
                connection.force_close()

    def _since(self, connection: Connection) -> float:
        """Since when a connection that is not busy has been so, or since the stop began."""
        since = connection.answered_at or self._taken[connection].since
        return max(since, self._server.draining or since)


class _Taken:
    __slots__ = ("address", "client", "connecting", "since")

    def __init__(self, address: str, since: float, connecting: asyncio.Task[None], client: socket.socket) -> None:
        self.address = address
        self.since = since
        self.connecting = connecting
        self.client = client


async def _resolved(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[object, ...]]]:
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bound(addresses: Sequence[tuple[socket.AddressFamily, tuple[object, ...]]]) -> list[socket.socket]:
    """A socket for each address; ``::`` alone takes IPv4 too, whatever the system's default is."""
    sockets: list[socket.socket] = []
    takes_both = socket.has_dualstack_ipv6() and [address[0] for _, address in addresses] == ["::"]
    try:
        for family, address in addresses:
            each = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(each)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not takes_both)
            each.bind(address)
            each.listen(BACKLOG)
            each.setblocking(False)
    except OSError:
        for each in sockets:
            each.close()
        raise
    return sockets
