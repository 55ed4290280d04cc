"""Fault proxies: one TCP listener per link between two processes, all on one loop in a thread of its own. A link can be
cut (refused, and what is open is reset), held (the other side is there and silent; both directions or one), delayed,
slowed down and reset. Calls are safe from any thread and return when they hold."""
import asyncio
import contextlib
import os
import random
import socket
import struct
import threading

CHUNK = 65536
PORTS = range(20000, 32000)         # below what the kernel gives to outgoing connections
TO_SERVER, TO_CLIENT = "to_server", "to_client"


def free_socket(host, chance=random.SystemRandom()):
    """A listening socket on a free port."""
    while True:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # it listens again while old connections linger
            made.bind((host, chance.choice(PORTS)))
            made.listen(512)
            made.setblocking(False)
            return made
        except OSError:
            made.close()


def abort(writer):
    """Ends a connection by RST, whatever is still on its way."""
    sock = writer.get_extra_info("socket")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass                        # it has gone by itself
    writer.transport.abort()


class Link:
    def __init__(self, proxies, name, target, host):
        self.proxies, self.name, self.target = proxies, name, target
        self.sock = free_socket(host)
        self.host, self.port = self.sock.getsockname()
        self.open = set()           # pairs of writers
        self.gates = {TO_SERVER: asyncio.Event(), TO_CLIENT: asyncio.Event()}
        self.delay_s = 0.0
        self.bytes_per_s = 0
        self.accepted = 0
        self.cut_now = False
        for gate in self.gates.values():
            gate.set()
        self.acceptor = proxies.loop.create_task(self._accept())

    # --- what a fault asks for --------------------------------------------------------------------------------------

    def cut(self):
        self.proxies.do(self._cut)

    def hold(self, *directions):
        self.proxies.do(lambda: [self.gates[d].clear() for d in directions or self.gates])

    def slow(self, delay_s=0.0, bytes_per_s=0):
        def change():
            self.delay_s, self.bytes_per_s = delay_s, bytes_per_s
        self.proxies.do(change)

    def reset(self):
        self.proxies.do(self._reset)

    def restore(self, reset=False):
        """As new. With reset: what was held is lost with its connections instead of coming late."""
        def change():
            self.delay_s, self.bytes_per_s = 0.0, 0
            if reset:
                self._reset()
            for gate in self.gates.values():
                gate.set()
            if self.cut_now:
                self.cut_now = False
                self.sock.listen(512)
                self.acceptor = self.proxies.loop.create_task(self._accept())
        self.proxies.do(change)

    def close(self):
        def change():
            self.acceptor.cancel()
            self._reset()
            self.sock.close()
        self.proxies.do(change)

    # --- on the loop ------------------------------------------------------------------------------------------------

    def _cut(self):
        if not self.cut_now:
            self.cut_now = True
            self.acceptor.cancel()
            self.proxies.loop.remove_reader(self.sock)  # it would still be called for what comes now
            self.sock.shutdown(socket.SHUT_RDWR)        # no listener any more, and the port stays ours
        self._reset()

    def _reset(self):
        for pair in list(self.open):
            for writer in pair:
                abort(writer)

    async def _accept(self):
        while True:
            try:
                connection, _ = await self.proxies.loop.sock_accept(self.sock)
            except ConnectionError:
                continue                                # the client has gone already
            self.accepted += 1
            task = self.proxies.loop.create_task(self._serve(connection))
            self.proxies.tasks.add(task)
            task.add_done_callback(self.proxies.tasks.discard)

    async def _serve(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        from_client, to_client = await asyncio.open_connection(sock=connection, limit=CHUNK)
        try:
            from_server, to_server = await asyncio.open_connection(*self.target, limit=CHUNK)
        except OSError:
            abort(to_client)
            return
        to_server.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (to_client, to_server)
        if self.cut_now:
            for writer in pair:
                abort(writer)
            return
        self.open.add(pair)
        try:
            await asyncio.gather(self._pump(from_client, to_server, TO_SERVER), self._pump(from_server, to_client, TO_CLIENT))
            for writer in pair:
                writer.close()
        except OSError:
            for writer in pair:
                abort(writer)
        finally:
            self.open.discard(pair)

    async def _pump(self, reader, writer, direction):
        gate = self.gates[direction]
        while data := await reader.read(min(CHUNK, max(self.bytes_per_s // 4, 256)) if self.bytes_per_s else CHUNK):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self.bytes_per_s:
                await asyncio.sleep(len(data) / self.bytes_per_s)
            if not gate.is_set():
                await gate.wait()
            writer.write(data)
            await writer.drain()
        if not gate.is_set():
            await gate.wait()
        if writer.can_write_eof() and not writer.transport.is_closing():
            writer.write_eof()


class Proxies:
    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.tasks = set()
        self.links = {}
        self.thread = threading.Thread(target=self._run, daemon=True, name="proxies")
        self.thread.start()

    def _run(self):
        with contextlib.suppress(OSError):              # on a busy machine the links must not be what is slow
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -10)
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def do(self, call):
        """Runs call() on the loop and gives its result; what it raises is raised here."""
        async def wrapped():
            return call()
        return asyncio.run_coroutine_threadsafe(wrapped(), self.loop).result(30)

    def add(self, name, target, host="127.0.0.1"):
        link = self.do(lambda: Link(self, name, target, host))
        self.links[name] = link
        return link

    def close(self):
        for link in self.links.values():
            link.close()
        self.do(lambda: [task.cancel() for task in self.tasks])
        self.do(lambda: None)                           # a turn of the loop, in which they end
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
