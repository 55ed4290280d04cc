"""What is still done of a run after its :cancel has been answered, for figures. Every run makes one call after the other."""
import asyncio
import collections
import concurrent.futures
import threading
import time

RUNS, STEPS, STEP_SECONDS = 1000, 500, 2


class Outside:
    """An HTTP server that takes its time, and notes of each run when its requests came and when they were over."""

    def __init__(self, seconds=STEP_SECONDS):
        self.seconds = seconds
        self.begun, self.over = collections.defaultdict(float), collections.defaultdict(float)
        self.loop, ready = asyncio.new_event_loop(), threading.Event()

        async def serve():
            server = await asyncio.start_server(self.serve_one, "127.0.0.1", 0, backlog=2048)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            ready.set()

        def run():
            self.loop.run_until_complete(serve())
            self.loop.run_forever()
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        ready.wait()

    async def serve_one(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                run = head.partition("ropewalk-run:")[2].partition("\r\n")[0].strip()
                self.begun[run] = time.monotonic()
                await self.work_or_be_left(reader)
                self.over[run] = time.monotonic()
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass
        finally:
            writer.close()

    async def work_or_be_left(self, reader):
        """A client that goes ends what is done for it."""
        until = time.monotonic() + self.seconds
        while time.monotonic() < until and not reader.at_eof():
            await asyncio.sleep(0.02)

    def stop(self):
        async def end():
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


def quantiles(values):
    values = sorted(values)
    return "p50 {:.0f}, p99 {:.0f}, most {:.0f} ms".format(*(1000 * values[min(len(values) - 1, int(len(values) * q))] for q in (0.5, 0.99, 1)))


def figure(stack, table, sign_off):
    """One by one, and all with one request. `sign_off(run)` cancels one run."""
    outside = Outside()
    stack.save({"name": "busy", "steps": {f"s{i}": {"call": "http", "with": {"url": outside.url}, "timeout": "60s",
                                                    **({"needs": [f"s{i - 1}"]} if i else {})} for i in range(STEPS)}})
    for how in ("one by one", "with one request"):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            runs = list(pool.map(lambda _: stack.call("POST", "/v1/workflows/busy/runs", {"input": {}})["run_id"], range(RUNS)))
            deadline = time.monotonic() + 120
            while not all(outside.begun[run] for run in runs) and time.monotonic() < deadline:
                time.sleep(0.1)
            first = time.monotonic()
            if how == "one by one":
                def one(run):
                    sign_off(run)
                    return time.monotonic()
                answered = list(pool.map(one, runs))
            else:
                stack.call("POST", "/v1/runs:cancel", {"filter": {"workflow": "busy"}})
                answered = [time.monotonic()] * RUNS
        stack.wait_until_ended()
        time.sleep(2 * STEP_SECONDS)        # whoever begins later than that after its run's end would be seen
        table.row(f"{RUNS} runs cancelled {how}, answered within", f"{max(answered) - first:.2f} s",
                  f"{sum(bool(outside.begun[run]) for run in runs)} of them were making calls of {STEP_SECONDS} s")
        late = [max(0, outside.begun[run] - at) for run, at in zip(runs, answered)]
        table.row("  from its answer until a run's last call begins", quantiles(late), f"{sum(one > 0 for one in late)} began after it")
        table.row("  ... and until its last effect is over", quantiles([max(0, outside.over[run] - at) for run, at in zip(runs, answered)]))
    outside.stop()
