"""Looks at who holds and who waits for slots, many times a second, in a thread: what is true of each moment is written down,
and judged at the end (operations.py)."""
import json
import threading
import time

import psycopg

EVERY_S = 0.1
LOOK = "SELECT key::text, run_id::text, number, granted, told FROM ropewalk.admission ORDER BY key, number"


class Looks:
    def __init__(self, dsn, path):
        self.dsn, self.path, self.ended = dsn, path, threading.Event()
        self.thread = threading.Thread(target=self.look_for_ever, daemon=True, name="slots")
        self.thread.start()

    def look_for_ever(self):
        with open(self.path, "a", buffering=1) as out:
            while not self.ended.is_set():
                try:
                    with psycopg.connect(self.dsn, autocommit=True, connect_timeout=3, options="-c statement_timeout=3000") as db:
                        self.look(db, out)
                except psycopg.Error:       # it is away; that is what a campaign is for
                    self.ended.wait(1)

    def look(self, db, out):
        before = None
        while not self.ended.wait(EVERY_S):
            rows = [list(row) for row in db.execute(LOOK)]
            if rows != before:
                out.write(json.dumps({"ns": time.monotonic_ns(), "rows": rows}, separators=(",", ":")) + "\n")
            before = rows

    def close(self):
        self.ended.set()
        self.thread.join(10)
