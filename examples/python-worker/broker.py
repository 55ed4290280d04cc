"""RabbitMQ on asyncio: connections that come back by themselves, and messages that are confirmed."""
import asyncio
import contextlib
import json
import logging
import time

import pika
from pika.adapters.asyncio_connection import AsyncioConnection

CONNECT_AGAIN_S = 1
AMQP_HEARTBEAT_S = 5

log = logging.getLogger("broker")


def settle(future, value):
    if not future.done():
        future.set_result(value)


async def ask(method, *args, **named):
    """Calls a method of pika that answers by callback, and waits for the answer."""
    answer = asyncio.get_running_loop().create_future()
    method(*args, **named, callback=lambda value: settle(answer, value))
    return await answer


class Link:
    """One connection with one channel, made again whenever either is lost. Subclasses say what to do with it."""

    def __init__(self, url, name):
        self.parameters = pika.URLParameters(url)
        self.parameters.heartbeat = AMQP_HEARTBEAT_S
        self.parameters.client_properties = {"connection_name": name}
        self.name = name
        self.channel = None             # while it is up
        self.closing = False
        self.fault = None               # the last one, while it lasts

    async def opened(self, channel):
        """Declares what is needed; the link is up when it returns."""

    def lost(self):
        """The channel is gone, and with it whatever it had not confirmed or acknowledged."""

    async def run(self):
        while not self.closing:
            try:
                await self._session()
            except Exception as error:  # whatever it was: connect again
                self._tell(error)
            if not self.closing:
                await asyncio.sleep(CONNECT_AGAIN_S)

    def _tell(self, error):
        """Once, not with every attempt to connect."""
        fault = str(error) or repr(error)
        if fault != self.fault:
            log.warning("%s: %s", self.name, fault)
        self.fault = fault

    async def _session(self):
        loop = asyncio.get_running_loop()
        gone = loop.create_future()     # why, when it is
        connected = loop.create_future()
        connection = AsyncioConnection(
            self.parameters, custom_ioloop=loop, on_open_callback=lambda _: settle(connected, True),
            on_open_error_callback=lambda _, why: settle(gone, why), on_close_callback=lambda _, why: settle(gone, why))
        setup = asyncio.ensure_future(self._setup(connection, connected, gone))
        try:
            await asyncio.wait({setup, gone}, return_when=asyncio.FIRST_COMPLETED)
            if setup.done():
                self.channel = setup.result()
                self.fault = None
                log.info("%s: up", self.name)
            why = await gone
            if not self.closing:
                self._tell(why)
        finally:
            setup.cancel()
            if self.channel is not None:
                self.channel = None
                self.lost()
            if connection.is_open:
                connection.close()

    async def _setup(self, connection, connected, gone):
        await connected
        channel = await ask(lambda callback: connection.channel(on_open_callback=callback))
        channel.add_on_close_callback(lambda _, why: settle(gone, why))
        await self.opened(channel)
        return channel

    def close(self):
        self.closing = True
        if self.channel is not None:
            self.channel.connection.close()


class Publisher(Link):
    """Sends messages; each is answered by whether the broker has taken it over."""

    def __init__(self, url, name, exchange):
        super().__init__(url, name)
        self.exchange = exchange
        self.sent = 0
        self.unconfirmed = {}           # number of the message on its channel: future

    async def opened(self, channel):
        self.sent = 0
        channel.add_on_return_callback(self._on_return)
        await ask(channel.confirm_delivery, self._on_confirm)
        await ask(channel.exchange_declare, self.exchange, "fanout", durable=True)

    def lost(self):
        for future in self.unconfirmed.values():
            settle(future, False)
        self.unconfirmed.clear()

    def publish(self, queue, kind, body, **properties):
        """To a queue, persistent. Gives a future: True when the broker has it, False when it may not."""
        future = asyncio.get_running_loop().create_future()
        if self.channel is None or not self.channel.is_open:
            future.set_result(False)
            return future
        self.sent += 1
        self.unconfirmed[self.sent] = future
        self.channel.basic_publish("", queue, body, mandatory=True, properties=pika.BasicProperties(
            type=kind, content_type="application/json", delivery_mode=2, timestamp=int(time.time()),
            headers={"number": self.sent}, **properties))
        return future

    def broadcast(self, kind, body):
        """To the exchange; nobody minds when it is lost."""
        if self.channel is not None and self.channel.is_open:
            self.sent += 1              # the broker counts it too
            self.channel.basic_publish(self.exchange, "", body, properties=pika.BasicProperties(
                type=kind, content_type="application/json", timestamp=int(time.time())))

    def _on_return(self, _channel, _method, properties, _body):
        """There is no such queue. A confirm follows all the same, so this comes first."""
        if future := self.unconfirmed.pop(properties.headers["number"], None):
            settle(future, False)

    def _on_confirm(self, frame):
        confirm = frame.method
        numbers = [confirm.delivery_tag]
        if confirm.multiple:
            numbers = [n for n in self.unconfirmed if n <= confirm.delivery_tag]
        for number in numbers:
            if future := self.unconfirmed.pop(number, None):
                settle(future, confirm.NAME == "Basic.Ack")


class Intake(Link):
    """Takes tasks from their queues, and control messages from a queue of this worker's own."""

    def __init__(self, url, name, queues, queue_type, prefetch, control_queue, on_task, on_control, on_lost):
        super().__init__(url, name)
        self.queues, self.queue_type, self.prefetch, self.control_queue = queues, queue_type, prefetch, control_queue
        self.on_task, self.on_control, self.on_lost = on_task, on_control, on_lost
        self.consumers = []
        self.stopped = False

    async def opened(self, channel):
        arguments = {"x-queue-type": self.queue_type}
        await ask(channel.queue_declare, self.control_queue, exclusive=True)
        channel.basic_consume(self.control_queue, self._on_control, auto_ack=True)
        await ask(channel.basic_qos, prefetch_count=self.prefetch)      # of each consumer that follows
        self.consumers = []
        for queue in self.queues:
            await ask(channel.queue_declare, queue, durable=True, arguments=arguments)
            if not self.stopped:
                self.consumers.append(channel.basic_consume(queue, self.on_task))

    def lost(self):
        self.on_lost()

    def stop(self):
        """No more tasks; the channel stays for what is in hand, and for control messages."""
        self.stopped = True
        if self.channel is not None:
            for consumer in self.consumers:
                self.channel.basic_cancel(consumer)

    def _on_control(self, _channel, _method, properties, body):
        with contextlib.suppress(ValueError, RecursionError):
            message = json.loads(body)
            if isinstance(message, dict) and message.get("v") == 1:
                self.on_control(properties.type, message)
