"""github-to-chat on all that GitHub has recorded of its webhooks (npm @octokit/webhooks-examples): each is taken once, and told as
its workflow says, or not."""
import concurrent.futures
import contextlib
import html
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import uuid

import pytest
import requests

from drive import BUILD, CHECKOUT, until

EXAMPLE = CHECKOUT / "examples/github-to-chat"
PACKAGE = "@octokit/webhooks-examples"
TOKEN, SECRET = "planted chat " + uuid.uuid4().hex, "planted github " + uuid.uuid4().hex


def program(name):
    loader = importlib.machinery.SourceFileLoader("example_" + name, str(EXAMPLE / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


send = program("send")


@pytest.fixture(scope="module")
def package():
    folder = BUILD / "github-examples"
    try:
        if not (folder / "node_modules" / PACKAGE).is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), PACKAGE + "@7"], check=True,
                           timeout=150, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("npm could not fetch " + PACKAGE)
    return folder / "node_modules" / PACKAGE


@contextlib.contextmanager
def chat_that_runs():
    process = subprocess.Popen([str(EXAMPLE / "chat")], env={**os.environ, "CHAT_TOKEN": TOKEN}, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        assert process.wait(10) == 0
        process.stdout.close()


@pytest.fixture
def chat(stack, tmp_path):
    with chat_that_runs() as url:
        stack.ask("PUT", "/v1/secrets/chat_token", {"value": TOKEN})
        stack.ask("PUT", "/v1/secrets/github_webhook", {"value": SECRET})
        path = tmp_path / "workflow.yaml"
        path.write_text((EXAMPLE / "workflow.yaml").read_text().replace("http://chat.example", url))
        done = subprocess.run([str(BUILD / "bin/ropewalk"), "apply", str(path)], env={**stack.env, "PATH": "/usr/bin:/bin"},
                              capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stdout + done.stderr
        yield url


def line(text):
    first = (text or "").split("\n")[0].removesuffix("\r")
    return html.escape(first if len(first) <= 120 else first[:119] + "…", quote=False)


def told(event, p):
    """What the workflow should say, by somebody who has not read it: None for nothing."""
    who = (p.get("sender") or {}).get("login") or "somebody"
    where = (p.get("repository") or {}).get("full_name") or (p.get("organization") or {}).get("login") or who
    action = p.get("action")
    said = None
    if event == "ping":
        said = "GitHub will tell here what happens: " + line(p["zen"])
    elif event == "push":
        branch = html.escape(p["ref"].split("/", 2)[2], quote=False)
        said = f"{who} deleted {branch}" if p["deleted"] else f"{who} pushed {len(p['commits'])} commits to {branch}: {p['compare']}" + "".join(
            f"\n• {commit['id'][:7]} {line(commit['message'])}" for commit in p["commits"][:5])
    elif (event, action) in {(e, a) for e in ("pull_request", "issues") for a in ("opened", "closed", "reopened")}:
        thing = p["pull_request" if event == "pull_request" else "issue"]
        verb = "merged" if action == "closed" and thing.get("merged") else action
        said = f"{who} {verb} {'pull request' if event == 'pull_request' else 'issue'} #{thing['number']}: {line(thing['title'])} {thing['html_url']}"
    elif (event, action) == ("issue_comment", "created"):
        said = f"{who} commented on #{p['issue']['number']}: {line(p['comment']['body'])} {p['comment']['html_url']}"
    elif (event, action) == ("release", "published"):
        said = f"{who} released {line(p['release']['name'] or p['release']['tag_name'])}: {p['release']['html_url']}"
    elif (event, action) == ("workflow_run", "completed") and p["workflow_run"]["conclusion"] in ("failure", "timed_out"):
        run = p["workflow_run"]
        said = f"{run['name']} ended in {run['conclusion']} on {html.escape(run['head_branch'], quote=False)}: {run['html_url']}"
    return said and f"[{where}] {said}"


def messages(url):
    return requests.get(url + "/messages", headers={"Authorization": TOKEN}, timeout=10).json()


def test_everything_that_github_has_recorded_is_taken_once_and_told_as_it_should(stack, package, chat):
    recorded = {body: event for event, _, body in send.recorded(package)}      # some are the same bytes
    assert len(recorded) > 250 and {"push", "ping", "issues", "pull_request"} < set(recorded.values())
    url = "{}/hooks/default/github-to-chat/github"

    def each(secret=SECRET):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            return set(pool.map(lambda one: send.post(url.format(stack.urls[one[0] % 2]), one[1][1], one[1][0], secret),
                                enumerate(recorded.items())))
    assert each("another") == {401}
    assert each() == {202}
    assert each() == {409}                          # "Redeliver"
    runs = "select id::text, status, trigger -> 'headers' ->> 'x-github-event', trigger -> 'body' from run where workflow = 'github-to-chat'"
    rows = until("all runs to end", lambda: (found := stack.sql(runs)) and all(row[1] not in ("pending", "active") for row in found) and found, 120)
    assert len(rows) == len(recorded) and {row[1] for row in rows} == {"succeeded"}
    expected = {}
    for run, _, event, payload in rows:
        expected[run] = told(event, payload if isinstance(payload, dict) else json.loads(payload))
    assert sorted(messages(chat)) == sorted(text for text in expected.values() if text)
    assert 20 < sum(text is not None for text in expected.values()) < len(expected)
    for run in (next(run for run, text in expected.items() if text), next(run for run, text in expected.items() if not text)):
        shown = stack.run(run)
        assert shown["output"] == {"told": expected[run]}
        assert shown["steps"]["post"]["status"] == ("succeeded" if expected[run] else "skipped")
    kept = stack.sql("select count(*) from delivery where workflow = 'github-to-chat' and request::text like '%%x-hub-signature-256%%'")
    assert kept == [(0,)]


def test_the_programs_say_what_they_do(stack, package, chat):
    url = f"{stack.url}/hooks/default/github-to-chat/github"
    env = {"PATH": "/usr/bin:/bin", "GITHUB_SECRET": "another"}
    done = subprocess.run([str(EXAMPLE / "send"), url, str(package), "ping"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and set(done.stdout.split()) >= {"401", "ping"}, done
    assert subprocess.run([str(EXAMPLE / "send"), url, str(package)], env={"PATH": "/usr/bin:/bin"}, capture_output=True).returncode == 1
    assert subprocess.run([str(EXAMPLE / "chat")], env={"PATH": "/usr/bin:/bin"}, capture_output=True).returncode == 1
    post = lambda **more: requests.post(chat + "/messages", headers={"Authorization": TOKEN, **more.pop("headers", {})}, timeout=10, **more)  # noqa: E731
    assert requests.post(chat + "/messages", json={"text": "a"}, timeout=10).status_code == 401
    assert post(data="{").status_code == post(json={"text": ""}).status_code == 422
    ids = [post(json={"text": "a"}, headers={"Idempotency-Key": key}).json()["id"] for key in ("k", "k", "l")]
    assert ids == [1, 1, 2] and messages(chat) == ["a", "a"]
