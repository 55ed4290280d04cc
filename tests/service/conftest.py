"""Shared by the service tests: a private stack that lives as long as the session, and clients of its API."""
import os
import pathlib
import sys
import uuid

import pytest
import requests

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import drive  # noqa: E402


class Api:
    """The API of one gateway as one key sees it; every call gives the answer, whatever its status."""

    def __init__(self, url, key=None):
        self.url = url
        self.key = key
        self.session = requests.Session()
        self.session.trust_env = False

    def __call__(self, method, path, value=None, data=None, headers=None, timeout=30, stream=False):
        sent = dict(headers or {})
        if self.key:
            sent.setdefault("Authorization", "Bearer " + self.key)
        return self.session.request(method, self.url + path, json=value, data=data, headers=sent, timeout=timeout, stream=stream)

    def as_role(self, role, url=None):
        """The same organisation with a new key of another role."""
        made = self("POST", "/v1/api-keys", {"name": "test " + role, "role": role})
        assert made.status_code == 201, made.text
        client = Api(url or self.url, made.json()["key"])
        client.key_id = made.json()["id"]
        return client


@pytest.fixture(scope="session")
def stack(request):
    """Two gateways, a scheduler, a worker, for this session alone; or one of the stacks below ROPEWALK_STACK_POOL, while the
    session lasts; or the stack that ROPEWALK_TEST_STACK names."""
    if os.environ.get("ROPEWALK_TEST_STACK"):
        yield drive.Drive(os.environ["ROPEWALK_TEST_STACK"])
        return
    if os.environ.get("ROPEWALK_STACK_POOL"):
        with drive.lent_stack(pathlib.Path(os.environ["ROPEWALK_STACK_POOL"]), lambda: request.session.testsfailed == 0) as one:
            yield one
        return
    with drive.private_stack(gateways=2, schedulers=1, workers=1) as one:
        yield one
        assert one.orphans() == {}, "the watch has repaired a run that no test has harmed"


@pytest.fixture
def api(stack):
    return Api(stack.urls[0], stack.key)


@pytest.fixture
def other(stack):
    """The second gateway."""
    return Api(stack.urls[1], stack.key)


@pytest.fixture(scope="session")
def stranger(stack):
    """The admin of another organisation."""
    made = Api(stack.url, stack.key)("POST", "/v1/organisations", {"name": "strangers-" + uuid.uuid4().hex[:8]})
    assert made.status_code == 201, made.text
    client = Api(stack.url, made.json()["api_key"])
    client.organisation = made.json()["name"]
    return client


def events_of(answer):
    """Server-sent events of a streamed answer: (id, event, data) each; data "" is a heartbeat."""
    fields = {}
    for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            yield fields.get("id"), fields.get("event"), fields.get("data", "")
            fields = {}
