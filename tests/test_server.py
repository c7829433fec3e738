"""The server on a socket: the `openai` client at work, limits, bodies that nobody meant, and what stays when clients leave."""
import asyncio
import contextlib
import http.client
import json
import shutil
import socket
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from notebooks import nbs, root

from attnax import generate
from attnax.pretrained.embedder import open_embedder
from attnax.pretrained.load import load_pretrained
from attnax.serving.connections import background_server
from attnax.serving.requests import Limits
from attnax.serving.server import make_app
from attnax.serving.start import open_served

sys.path.insert(0, str(root / "tools"))
import soak_server  # noqa: E402

fixtures = nbs / "fixtures"
KEY = "a key of the tests"
LIMITS = Limits(body=20_000, choices=4, waiting=6, texts=4, seconds=20, patience=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A decoder with random weights, bytes for tokens and a chat template."""
    soak_server.save_model(at := tmp_path_factory.mktemp("served") / "tiny")
    return at


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A sentence encoder with random weights."""
    at = tmp_path_factory.mktemp("served") / "vectors"
    shutil.copytree(fixtures / "sentences" / "bert", at)
    for file in ("config.json", "model.safetensors"): shutil.copy(fixtures / "pretrained" / "bert" / file, at)
    return at


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """What is compiled here is read again by the process of the soak, whose model has the same sizes."""
    at, before = tmp_path_factory.mktemp("programs"), jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(at))
    yield at
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="module")
def served(folder, encoder, programs):
    return [open_served(folder, name="tiny", slots=4, context=128, pages=24), open_served(encoder, name="vectors")]


@pytest.fixture(scope="module")
def model(folder): return load_pretrained(folder)


@pytest.fixture(scope="module")
def app(served): return make_app(served, limits=LIMITS, api_key=KEY)


@pytest.fixture(scope="module")
def url(app):
    with background_server(app, LIMITS) as url: yield url


@pytest.fixture(scope="module")
def client(url): return openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)


@pytest.fixture
def engine(served):
    """The engine, which must be empty afterwards, with nobody's pages in use."""
    yield (engine := served[0].engine.engine)
    deadline = time.monotonic() + 10
    while (engine.has_work or engine.stats.pages_used) and time.monotonic() < deadline: time.sleep(0.01)
    assert (engine.has_work, engine.stats.pages_used) == (False, 0)


def said(*turns): return [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]


# ---- The client of OpenAI

def test_answers_are_the_librarys(client, served, model, engine):
    """Greedy and by seed, whole and streamed, several at once: what `generate` writes alone."""
    tiny = served[0]
    prompt = tiny.encode("My lord")
    for how in ({"temperature": 0}, {"temperature": 0.9, "top_p": 0.8}):
        asked = dict(model="tiny", prompt="My lord", max_tokens=20, seed=5, **how)
        whole = client.completions.create(**asked, n=3)
        for i, choice in enumerate(whole.choices):
            own = {"temperature": 0} if how["temperature"] == 0 else how
            ids = generate(model, jnp.asarray(prompt)[None], max_new_tokens=20, rng=5 + i, **own)[0].tolist()
            assert choice.text == tiny.decode(prompt + ids)[len("My lord"):], how
        streamed = [""] * 3
        for chunk in client.completions.create(**asked, n=3, stream=True):
            for choice in chunk.choices: streamed[choice.index] += choice.text
        assert streamed == [c.text for c in whole.choices]
        assert whole.usage.completion_tokens == 60 and whole.usage.prompt_tokens == len(prompt)


def test_chat(client, served, model, engine):
    """The template is put around messages; pieces, log-probabilities and usage add up."""
    tiny, messages = served[0], said("Hello!")
    asked = dict(model="tiny", messages=messages, max_completion_tokens=12, temperature=0, logprobs=True)
    whole = client.chat.completions.create(**asked)
    prompt = tiny.encode_chat(tiny.template.render(messages, add_generation_prompt=True))
    ids = generate(model, jnp.asarray(prompt)[None], max_new_tokens=12, temperature=0)[0].tolist()
    assert whole.choices[0].message.content == tiny.decode(prompt + ids)[len(tiny.decode(prompt)):]
    assert whole.choices[0].finish_reason == "length" and whole.usage.prompt_tokens == len(prompt)
    logits = np.asarray(model(jnp.asarray(prompt + ids)[None])[0, len(prompt) - 1:-1], np.float64)
    log_p = (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))[np.arange(12), ids]
    found = [t.logprob for t in whole.choices[0].logprobs.content]
    np.testing.assert_allclose(found, log_p, rtol=1e-4, atol=1e-5)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[-1].usage.completion_tokens == 12
    deltas = [c.choices[0] for c in chunks[:-1]]
    assert "".join(d.delta.content or "" for d in deltas) == whole.choices[0].message.content
    streamed = [t.logprob for d in deltas if d.logprobs for t in d.logprobs.content]
    np.testing.assert_allclose(streamed, found, rtol=1e-4, atol=1e-5)   # the prompt was in pages already: other sums
    again = [*messages, whole.choices[0].message.model_dump(), {"role": "user", "content": "And?"}]
    assert client.chat.completions.create(model="tiny", messages=again, max_tokens=2).choices   # what was sent may be sent back


def test_stop_bias_and_tokens(client, served, engine):
    first = client.completions.create(model="tiny", prompt=[77, 121], max_tokens=30, temperature=0).choices[0]
    end = first.text[10:12]
    cut = client.completions.create(model="tiny", prompt=[77, 121], max_tokens=30, temperature=0, stop=[end, "\u2603"]).choices[0]
    assert cut.text == first.text[:first.text.index(end)] and cut.finish_reason == "stop"
    forced = client.completions.create(model="tiny", prompt="x", max_tokens=5, temperature=0, logprobs=0,
                                       logit_bias={str(served[0].encode("a")[-1]): 100})
    assert forced.choices[0].text == "aaaaa" and forced.choices[0].logprobs.text_offset == [0, 1, 2, 3, 4]
    both = client.completions.create(model="tiny", prompt=["My", "lord"], max_tokens=3, temperature=0)
    assert [c.index for c in both.choices] == [0, 1] and both.usage.completion_tokens == 6


def test_clients_that_leave(client, url, app, engine):
    """A stream that is closed, and a whole answer that nobody waits for, free their pages; `engine` looks."""
    server, gone = app.state.server, app.state.server.metrics.counters["clients_gone"]
    def forgotten(more):
        deadline = time.monotonic() + 10
        while server.metrics.counters["clients_gone"] < gone + more and time.monotonic() < deadline: time.sleep(0.01)
        assert (server.metrics.counters["clients_gone"], server.answers) == (gone + more, 0)
    with client.completions.create(model="tiny", prompt="x", max_tokens=80, stream=True, n=3) as stream: next(iter(stream))
    forgotten(1)
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.02).completions.create(model="tiny", prompt="x", max_tokens=120, n=4)
    forgotten(2)


def test_vectors(client, encoder):
    embedder, texts = open_embedder(encoder), ["the sea", "a ship"]
    got = client.embeddings.create(model="vectors", input=texts)
    np.testing.assert_allclose([x.embedding for x in got.data], embedder.embed(texts), atol=1e-6)
    few = client.embeddings.create(model="vectors", input="the sea", dimensions=3, encoding_format="float")
    np.testing.assert_allclose(few.data[0].embedding, embedder.embed(["the sea"], truncate_dim=3)[0], atol=1e-6)
    for wrong, param in ((dict(input="sea " * 2000), "input"), (dict(input="x", dimensions=10**6), "dimensions"),
                         (dict(input=["x"] * 5), "input"), (dict(input=[1, 2]), "input")):
        with pytest.raises(openai.BadRequestError) as e: client.embeddings.create(model="vectors", **wrong)
        assert e.value.body["param"] == param
    with pytest.raises(openai.BadRequestError, match="another endpoint"): client.embeddings.create(model="tiny", input="x")


def test_what_is_there(client, url):
    assert [m.id for m in client.models.list()] == ["tiny", "vectors"]
    assert client.models.retrieve("tiny").max_model_len == 128
    with pytest.raises(openai.NotFoundError): client.models.retrieve("tinier")
    assert ask(url, "/health", method="GET", key=None)[0] == 200
    status, text = ask(url, "/metrics", method="GET")
    assert status == 200 and b'attnax_engine_pages_used{model="tiny"} 0' in text


@pytest.mark.parametrize("param, wrong", [
    ("model", {"model": "tinier"}), ("temperature", {"temperature": 3}), ("top_p", {"top_p": 0}), ("n", {"n": 9}),
    ("max_tokens", {"max_tokens": 0}), ("messages", {"max_tokens": 128}), ("messages", {"messages": said("x" * 200)}),
    ("messages[0].role", {"messages": [{"role": "nobody", "content": "x"}]}), ("stop", {"stop": [""]}),
    ("messages[1].content", {"messages": [*said("x"), {"role": "user", "content": 3}]}), ("seed", {"seed": 0.5}),
    ("logit_bias", {"logit_bias": {"99999": 1}}), ("tools", {"tools": [{"type": "function", "function": {"name": "f"}}]}),
    ("response_format", {"response_format": {"type": "json_object"}}), ("top_logprobs", {"logprobs": True, "top_logprobs": 5}),
    ("frequency_penalty", {"frequency_penalty": float("1e9")}), ("stream_options", {"stream_options": {"include_usage": True}}),
    ("temprature", {"extra_body": {"temprature": 1}})])
def test_errors_name_the_field(client, engine, param, wrong):
    with pytest.raises(openai.APIStatusError) as e:
        client.chat.completions.create(**{"model": "tiny", "messages": said("x"), **wrong})
    assert e.value.status_code == (404 if param == "model" else 400) and e.value.body["param"] == param, e.value.body


# ---- Who may ask, and how much

def ask(url, path, body=None, method="POST", key=KEY, **headers):
    """A request by hand: the status and the body."""
    conn = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    named = {"Content-Type": "application/json"} | ({} if key is None else {"Authorization": f"Bearer {key}"})
    with contextlib.closing(conn):
        conn.request(method, path, body, named | {k.replace("_", "-"): v for k, v in headers.items()})
        response = conn.getresponse()
        return response.status, response.read()


def test_door(url):
    good = json.dumps({"model": "tiny", "prompt": "x", "max_tokens": 1})
    for status, how in ((200, {}), (401, {"key": None}), (401, {"key": KEY + " "[:0] + "x"}), (401, {"key": "\xe9"}),
                        (421, {"Host": "evil.example:8000"}), (200, {"Host": "gpu:8000"}), (415, {"Content_Type": "text/plain"}),
                        (413, {"body": good + " " * 25_000}), (413, {"body": good + " " * 100_000}), (400, {"body": good[:-1]}),
                        (405, {"method": "GET", "body": None})):
        got, answer = ask(url, "/v1/completions", **{"body": good} | how)
        assert got == status and (status == 200 or "message" in json.loads(answer)["error"]), (how, got, answer)
    assert ask(url, "/v2/completions", good)[0] == 404


def test_endless_body(url):
    """A body in pieces that does not end is answered, or cut off while the client still writes; the next one is served."""
    sent = 0
    def pieces():
        nonlocal sent
        for sent in range(10_000_000): yield b" " * 1000  # noqa: B007
    with contextlib.suppress(ConnectionResetError, BrokenPipeError): assert ask(url, "/v1/completions", pieces())[0] == 413
    assert 20 < sent < 1_000_000
    assert ask(url, "/v1/completions", json.dumps({"model": "tiny", "prompt": "x", "max_tokens": 1}))[0] == 200


def test_too_many(client, engine):
    """What does not fit into the queue is refused at once."""
    asked = dict(model="tiny", prompt="x", max_tokens=90)
    with client.completions.create(**asked, n=4, stream=True) as stream:
        next(iter(stream))
        with pytest.raises(openai.RateLimitError) as e: client.completions.create(**asked, n=4)
        assert e.value.code == "server_busy" and e.value.response.headers["retry-after"] == "1"


def test_too_long(served, engine, folder):
    """Time ends an answer, whole or in pieces."""
    short = Limits(seconds=0.05)
    with background_server(make_app([served_again(served[0])], limits=short), short) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
        with pytest.raises(openai.APIError) as e: client.completions.create(model="tiny", prompt="x", max_tokens=90, n=16)
        assert e.value.code == "timeout"
        with pytest.raises(openai.APIError) as e:
            for _ in client.completions.create(model="tiny", prompt="x", max_tokens=90, n=16, stream=True): pass
        assert e.value.code == "timeout"


def served_again(one):
    """The same model for a second server, which does not close the engine."""
    from dataclasses import replace

    class Kept:
        engine, stream = one.engine.engine, one.engine.stream
        async def close(self): pass
    return replace(one, engine=Kept())


@pytest.mark.parametrize("sent", ["POST /v1/comple", "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
                                  f"Content-Type: application/json\r\nAuthorization: Bearer {KEY}\r\n\r\n1234"])
def test_slow_clients_are_cut_off(url, sent):
    """A head or a body that does not come whole."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as s:
        s.sendall(sent.encode())
        start, got = time.monotonic(), b""
        with contextlib.suppress(ConnectionResetError):
            while data := s.recv(9999): got += data
        assert time.monotonic() - start < 8 and (not got or got.startswith(b"HTTP/1.1 408")), got


# ---- Bodies that nobody meant

async def call(app, path: str, body: bytes) -> tuple[int, bytes]:
    """A request without a socket; the client stays until it is answered."""
    sent, came = [], False
    async def receive():
        nonlocal came
        if came: await asyncio.sleep(3600)
        came = True
        return {"type": "http.request", "body": body, "more_body": False}
    async def send(message): sent.append(message)
    headers = {"host": "x", "content-type": "application/json", "authorization": f"Bearer {KEY}"}
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
             "scheme": "http", "server": ("x", 80), "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
             "http_version": "1.1", "asgi": {"version": "3.0"}}
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:])


names = st.sampled_from(
    "model prompt messages input n max_tokens max_completion_tokens temperature top_p top_k min_p seed stop stream logprobs "
    "stream_options top_logprobs logit_bias presence_penalty frequency_penalty repetition_penalty dimensions encoding_format "
    "prompt_name user tools response_format best_of echo role content".split())
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(
    ["tiny", "vectors", "user", "x" * 300, "\ud800", 0, 1, 2, 2**31, -2**63, 2**64, 1e-45, "float", "base64", "<|im_end|>"])
anything = st.recursive(
    leaves, lambda x: st.lists(x, max_size=4) | st.dictionaries(names | st.text(max_size=8), x, max_size=4), max_leaves=12)
message = st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "assistant"]), "content": st.text(max_size=9)})
choice = dict(
    temperature=st.floats(0, 2), stop=st.text(min_size=1, max_size=3), stream=st.booleans(), seed=st.integers(-9, 2**62),
    logit_bias=st.dictionaries(st.integers(0, 261).map(str), st.floats(-100, 100), max_size=3), top_k=st.integers(1, 300),
    top_p=st.floats(0.01, 1), repetition_penalty=st.floats(0.1, 3), presence_penalty=st.floats(-2, 2), n=st.integers(1, 3))
tiny = {"model": st.just("tiny"), "max_tokens": st.integers(1, 3)}
text = st.text(min_size=1, max_size=9) | st.lists(st.integers(0, 261), min_size=1, max_size=5)
good = {
    "/v1/completions": st.fixed_dictionaries(tiny | {"prompt": text}, optional=choice | {"logprobs": st.integers(0, 1)}),
    "/v1/chat/completions": st.fixed_dictionaries(
        tiny | {"messages": st.lists(message, min_size=1, max_size=3)}, optional=choice | {"logprobs": st.booleans()}),
    "/v1/embeddings": st.fixed_dictionaries(
        {"model": st.just("vectors"), "input": st.lists(st.text(max_size=9), min_size=1, max_size=3)},
        optional={"encoding_format": st.sampled_from(["float", "base64"]), "dimensions": st.integers(1, 4)})}
wild = st.dictionaries(names | st.text(max_size=8), anything, max_size=2)

@st.composite
def requests(draw):
    """A request that is good, or in which a field or two are anything, or bytes that are none."""
    path = draw(st.sampled_from(list(good)))
    if draw(st.integers(0, 9)) == 0: return path, draw(st.binary(max_size=60))
    body = json.dumps(draw(good[path]) | draw(st.just({}) | wild)).encode()
    return path, body[:draw(st.none() | st.none() | st.none() | st.integers(0, 200))]


def test_no_body_is_our_fault(served):
    """Whatever comes is answered, or refused with a 4xx that says why; the log has no traceback, and nothing runs afterwards."""
    app = make_app([served_again(served[0]), served[1]], limits=LIMITS, api_key=KEY)
    counts = {}
    async def each(path, body):
        status, answer = await asyncio.wait_for(call(app, path, body), 60)
        if status != 200:
            error = json.loads(answer)["error"]
            assert 400 <= status < 500 and error["message"] and set(error) == {"message", "type", "param", "code"}, (body, answer)
            assert str(root) not in error["message"] and "/tmp" not in error["message"]
        elif answer.startswith(b"data: "): assert answer.endswith(b"data: [DONE]\n\n"), (body, answer)
        else: assert json.loads(answer)["object"] in ("list", "text_completion", "chat.completion")
        counts[path, status] = counts.get((path, status), 0) + 1
    with asyncio.Runner() as runner:
        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
        @given(requests())
        def run(request): runner.run(each(*request))
        run()
    assert all(counts.get((path, 200), 0) >= 5 for path in good) and sum(counts.values()) >= 100, counts
    assert app.state.server.answers == 0


def test_templates_tell_no_place(client, served, folder):
    """A template that refuses says so without the folder in which it lies, and can reach nothing."""
    from dataclasses import replace
    for program, word in (("{{ raise_exception('no ' + messages[0].content) }}", "no hello"),
                          ("{{ messages[0].content.x.y }}", "fails"), ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "fails"),
                          ("{% for x in range(10**9) %}x{% endfor %}", "fails")):
        template = replace(served[0].template, templates={"default": program})
        app = make_app([replace(served_again(served[0]), template=template)], limits=LIMITS, api_key=KEY)
        body = json.dumps({"model": "tiny", "messages": said("hello"), "max_tokens": 1}).encode()
        status, answer = asyncio.run(call(app, "/v1/chat/completions", body))
        assert status == 400 and word in json.loads(answer)["error"]["message"], answer
        assert str(folder) not in answer.decode() and Path(folder).name + "/" not in answer.decode()


# ---- The command, and all kinds of clients at once

def test_soak(capfd, programs, monkeypatch):
    """`attnax serve` under good, bad, slow and vanishing clients: nothing stays; SIGTERM lets the last answer finish."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(programs))
    assert soak_server.main(seconds=6, people=8) == 0, capfd.readouterr().out
