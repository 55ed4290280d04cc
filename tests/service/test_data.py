"""Data on its way through a run: not a digit is lost where no expression computes, every bound holds at n and at n + 1
and says so, and outputs are told apart by the step that made them. Bodies are compared as text: Python would round."""
import http.server
import json
import threading

import pytest

MIB = 1 << 20
DIGITS = ('{"small": 0.1, "pi": 3.14, "beyond_double": 9007199254740993, "negative": -9007199254740993, "one": 1, "one_point": 1.0, '
          '"trailing": 2.50, "exponent": 1E+2, "tiny": 1e-300, "minus_zero": -0, "long": 123456789012345678901234567890.123456789012345678901234567890, '
          '"nested": [[0.1, {"deep": 0.10}], []], "unicode": "Zo\\u00eb \\ud83d\\ude80 \\"\\\\/"}')


class Echo(http.server.ThreadingHTTPServer):
    """Answers a POST with what it brought, byte for byte, and GET /answer with `answer`."""

    daemon_threads = True

    def __init__(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.server.bodies.append(body)
                self.reply(body)

            def do_GET(self):
                self.reply(self.server.answer)

            def reply(self, body):
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass
        self.bodies, self.answer = [], b"null"
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def echo():
    server = Echo()
    yield server
    server.shutdown()
    server.server_close()


def save(api, name, steps, output=None):
    document = {"name": name, "steps": steps}
    if output is not None:
        document["output"] = output
    answer = api("PUT", "/v1/workflows/" + name, document)
    assert answer.ok, answer.text


def run(api, name, text="{}"):
    """A run's end, as text; its input goes over the wire as it stands."""
    answer = api("POST", f"/v1/workflows/{name}/runs?wait=30s", data=('{"input": ' + text + "}").encode())
    assert answer.status_code == 200, answer.text[:2000]
    return answer.text


def packed(text):
    """The text without the white space between tokens; digits and escapes as they are."""
    out, in_string, escaped = [], False, False
    for char in text:
        if in_string or not char.isspace():
            out.append(char)
        if in_string and not escaped and char == '"' or not in_string and char == '"':
            in_string = not in_string
        escaped = in_string and char == "\\" and not escaped
    return "".join(out)


# --- not a digit is lost ----------------------------------------------------------------------------------------------

def test_numbers_and_texts_arrive_unchanged_from_input_through_transform_and_http_to_the_output(api, echo):
    save(api, "carry", {
        "copy": {"call": "transform", "with": {"value": {"of": "${ .input }", "literal": 0.1}}},
        "send": {"needs": ["copy"], "call": "http",
                 "with": {"method": "POST", "url": echo.url, "body": "${ .steps.copy.output }"}},
        "again": {"needs": ["send"], "call": "transform", "with": {"value": "${ .steps.send.output.body.of }"}},
    }, {"again": "${ .steps.again.output }", "one": "${ .steps.send.output.body.of.beyond_double }"})
    echo.bodies.clear()
    text = run(api, "carry", DIGITS)
    assert json.loads(text)["status"] == "succeeded", text
    assert packed(echo.bodies[-1].decode()) == packed('{"of":' + DIGITS + ',"literal":0.1}')
    assert '"again":' + packed(DIGITS) in packed(text)
    assert '"one":9007199254740993}' in packed(text)
    run_id = json.loads(text)["id"]
    for path in ("send/attempts/1/input", "send/attempts/1/output", "copy/attempts/1/output"):
        answer = api("GET", f"/v1/runs/{run_id}/steps/{path}")
        if path.startswith("copy") and answer.status_code == 404:
            continue                                       # a transform makes no attempt
        assert answer.ok and packed(DIGITS) in packed(answer.text), (path, answer.text[:500])


def test_numbers_in_a_literal_keep_their_digits_too(api, echo):
    document = ('{"name": "literal", "steps": {"send": {"call": "http", "with": {"method": "POST", "url": "%s", "body": %s}}}, '
                '"output": "${ .steps.send.output.body }"}' % (echo.url, DIGITS))
    assert api("PUT", "/v1/workflows/literal", data=document.encode()).ok
    assert '"output":' + packed(DIGITS) in packed(run(api, "literal"))
    assert packed(echo.bodies[-1].decode()) == packed(DIGITS)


def test_text_in_a_string_has_the_digits_too(api):
    save(api, "text", {"a": {"call": "transform", "with": {"value": "n=${ .input.n } m=${ .input.m }"}}}, "${ .steps.a.output }")
    assert '"output":"n=9007199254740993 m=1.0"' in packed(run(api, "text", '{"n": 9007199254740993, "m": 1.0}'))


def test_what_an_expression_computes_is_a_double(api):
    save(api, "computed", {"a": {"call": "transform", "with": {"value": "${ .input.n + 0 }"}}}, "${ .steps.a.output }")
    assert '"output":9007199254740992' in packed(run(api, "computed", '{"n": 9007199254740993}'))
    assert '"output":0.1' in packed(run(api, "computed", '{"n": 0.1}'))


@pytest.mark.parametrize("text, word", [
    ("1e400", "number"), ("-1e999999", "number"), ("[" * 200 + "]" * 200, "deep"), ('"\\u0000"', "U+0000"), ('"\\ud800"', "surrogate"),
    ("01", "leading zero"), ("NaN", "expected a value"), ('{"a": 1, "a": 2}', "duplicate")])
def test_an_input_that_cannot_be_kept_is_refused_with_its_reason(api, text, word):
    save(api, "never", {"a": {"call": "noop"}})
    answer = api("POST", "/v1/workflows/never/runs", data=('{"input": {"x": %s}}' % text).encode())
    assert answer.status_code in (400, 413) and word in answer.json()["detail"] and "/input/x" in answer.json()["detail"], answer.text


@pytest.mark.parametrize("answer", ["1e400", "[" * 200 + "]" * 200, "{not json"])
def test_an_answer_that_is_no_json_we_could_keep_arrives_as_text(api, echo, answer):
    save(api, "answered", {"get": {"call": "http", "with": {"url": echo.url + "/answer"}}}, "${ .steps.get.output.body }")
    echo.answer = answer.encode()
    assert json.loads(run(api, "answered"))["output"] == answer


# --- bounds, at n and at n + 1 ----------------------------------------------------------------------------------------

def test_an_output_of_a_step_has_at_most_1_mib(api, echo):
    save(api, "answered", {"get": {"call": "http", "with": {"url": echo.url + "/answer"}}},
         "${ .steps.get.output.body | length }")
    save(api, "sized", {"get": {"call": "http", "with": {"url": echo.url + "/answer"}}})
    echo.answer = b'"x"'
    small = json.loads(run(api, "sized"))["id"]
    frame = len(api("GET", f"/v1/runs/{small}/steps/get/attempts/1/output").content) - 1     # around the one x
    frame += len(str(MIB)) - len("3")                                                        # content-length is in the headers
    echo.answer = b'"' + b"x" * (MIB - frame) + b'"'
    good = json.loads(run(api, "answered"))
    assert good["status"] == "succeeded" and good["output"] == MIB - frame, good
    assert len(api("GET", f"/v1/runs/{good['id']}/steps/get/attempts/1/output").content) == MIB
    echo.answer = b'"' + b"x" * (MIB - frame + 1) + b'"'
    error = json.loads(run(api, "answered"))["steps"]["get"]["error"]
    assert error["code"] == "too_large" and error["class"] == "permanent", error
    assert str(MIB + 1) in error["message"] and str(MIB) in error["message"], error


def test_an_answer_has_at_most_max_response_bytes(api, echo):
    save(api, "limited", {"get": {"call": "http", "with": {"url": echo.url + "/answer", "max_response_bytes": 1000}}})
    echo.answer = b'"' + b"x" * 998 + b'"'
    assert json.loads(run(api, "limited"))["status"] == "succeeded"
    echo.answer = b'"' + b"x" * 999 + b'"'
    error = json.loads(run(api, "limited"))["steps"]["get"]["error"]
    assert error["code"] == "too_large" and error["class"] == "permanent", error


@pytest.mark.parametrize("source", ['"x" * {n}', "[range({n})] | map(1)"])
def test_the_value_of_an_expression_has_at_most_1_mib(api, source):
    for n, good in ((MIB - 2, True), (MIB - 1, False)) if '"x"' in source else ((MIB // 2 - 1, True), (MIB // 2, False)):
        text = "${ " + source.replace("{n}", str(n)) + " }"
        save(api, "valued", {"a": {"call": "transform", "with": {"value": text}}}, "${ .steps.a.output | length }")
        ended = json.loads(run(api, "valued"))
        if good:
            assert ended["status"] == "succeeded" and ended["output"] == n, ended
        else:
            error = ended["steps"]["a"]["error"]
            assert error["code"] == "expression_failed" and "1048576" in error["message"], error


def test_a_value_put_together_of_several_has_at_most_1_mib(api):
    save(api, "together", {
        "half": {"call": "transform", "with": {"value": "${ \"x\" * .input.x }"}},
        "whole": {"needs": ["half"], "call": "transform", "with": {"value": ["${ .steps.half.output }", "${ .steps.half.output }"]}},
    }, "${ .steps.whole.output | length }")
    n = (MIB - len('["",""]')) // 2
    assert json.loads(run(api, "together", '{"x": %d}' % n))["output"] == 2
    error = json.loads(run(api, "together", '{"x": %d}' % (n + 1)))["steps"]["whole"]["error"]
    assert error["code"] == "expression_failed" and "1048576" in error["message"], error


def test_a_start_has_at_most_1_mib(api):
    save(api, "never", {"a": {"call": "noop"}})
    frame = len('{"input": {"x": ""}}')
    body = '{"input": {"x": "%s"}}' % ("x" * (MIB - frame))
    assert len(body) == MIB
    assert api("POST", "/v1/workflows/never/runs", data=body).status_code == 202
    answer = api("POST", "/v1/workflows/never/runs", data=body.replace('"x": "', '"x": "x'))
    assert answer.status_code == 413 and answer.json()["code"] == "too_large", answer.text


def test_all_outputs_that_an_expression_reads_at_once_have_at_most_4_mib(api):
    steps = {f"s{i}": {"call": "transform", "with": {"value": "${ \"x\" * .input.n }"}} for i in range(5)}
    steps["all"] = {"needs": list(steps), "call": "transform", "with": {"value": "${ .steps | to_entries | length }"}}
    save(api, "every", steps, "${ .steps.all.output }")
    assert json.loads(run(api, "every", '{"n": 800000}'))["output"] == 5
    error = json.loads(run(api, "every", '{"n": 900000}'))["steps"]["all"]["error"]
    assert error["code"] == "expression_failed" and "4194304" in error["message"], error


# --- whose output it is -----------------------------------------------------------------------------------------------

def test_outputs_are_told_apart_by_the_step_that_made_them(api):
    save(api, "named", {
        "a": {"call": "transform", "with": {"value": {"x": 1, "b": "from a"}}},
        "b": {"call": "transform", "with": {"value": {"x": 2, "a": "from b"}}},
        "input": {"needs": ["a", "b"], "call": "transform", "with": {"value": {"x": "${ .steps.a.output.x }", "steps": "${ .steps.b.output }"}}},
    }, {"a": "${ .steps.a.output }", "b": "${ .steps.b.output }", "input": "${ .steps.input.output }", "given": "${ .input }"})
    ended = json.loads(run(api, "named", '{"x": 3, "steps": {"a": "mine"}}'))
    assert ended["output"] == {"a": {"x": 1, "b": "from a"}, "b": {"x": 2, "a": "from b"},
                               "input": {"x": 1, "steps": {"x": 2, "a": "from b"}}, "given": {"x": 3, "steps": {"a": "mine"}}}


@pytest.mark.parametrize("value", ["null", "false", "0", '""', "[]", "{}"])
def test_empty_values_stay_what_they_are(api, value):
    save(api, "empty", {"a": {"call": "transform", "with": {"value": "${ .input.x }"}},
                        "b": {"needs": ["a"], "call": "transform", "with": {"value": ["${ .steps.a.output }"]}}}, "${ .steps.b.output[0] }")
    ended = run(api, "empty", '{"x": %s}' % value)
    assert json.loads(ended)["status"] == "succeeded" and '"output":' + value in packed(ended), ended
