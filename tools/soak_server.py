"""Good, bad, slow and vanishing clients at `attnax serve` for a while: does anything stay behind?

    python tools/soak_server.py --seconds 600

A server of its own process has a small model with random weights. Good clients know what they must be answered: every
answer was given once to a client alone. Bad ones send bodies that are wrong and must get a 4xx in OpenAI's shape. Slow ones
do not finish their request, or do not read their answer, and must be cut off; vanishing ones close the connection at any
time. At the end nothing may run, no page be in use, no task, thread or file be left, and the memory may not have grown since
the first third. SIGTERM comes while a last answer is on its way: it must come whole, and the process end with 0.

With --adapters the model has two, which are models of their own to a client, and requests for all three share steps.
"""
import argparse
import asyncio
import collections
import functools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

root = Path(__file__).resolve().parent.parent
PATIENCE, SECONDS, KEY = 2, 20, "soak"
ADAPTERS = ("formal", "short")


def save_model(folder: Path) -> None:
    """A model with bytes for tokens and a chat template; its weights are random."""
    from flax import nnx

    from attnax import TransformerConfig, TransformerLM
    from attnax.pretrained import save_pretrained
    config = TransformerConfig(vocab_size=262, d_model=16, num_heads=2, num_layers=1, d_ff=32, max_len=128,
                               pos_emb_type="rope", norm_type="rms", ff_activation="swiglu", use_bias=False, tie_embeddings=False)
    save_pretrained(TransformerLM(nnx.Rngs(3), config), folder, family="llama")
    chat = root / "nbs" / "fixtures" / "chat"
    shutil.copy(chat / "plain" / "tokenizer.json", folder)
    shutil.copy(chat / "chatml.jinja", folder / "chat_template.jinja")


def serve_adapters(arguments: list[str]) -> int:
    """`attnax serve` of a folder, with adapters, for which it has no option."""
    import jax
    from flax import nnx

    from attnax import cli
    from attnax.lora import add_lora, adapters_of
    from attnax.pretrained.load import load_pretrained
    from attnax.serving import start
    adapters = {}
    for i, name in enumerate(ADAPTERS):
        add_lora(twin := load_pretrained(arguments[0]), 2, name=name, rngs=nnx.Rngs(i))
        adapters[name] = adapters_of(twin, name)
        for at, a in enumerate(adapters[name].values()):   # fresh ones change nothing
            a.lora_b[...] = jax.random.normal(jax.random.key(100 * i + at), a.lora_b.shape)
    start.open_served = functools.partial(start.open_served, adapters=adapters)
    return cli.main(["serve", *arguments])


class Server:
    """`attnax serve` in a process of its own."""
    def __init__(self, folder: Path, log: Path, adapters: bool = False):
        options = (f"--name tiny --port 0 --context 128 --slots 4 --pages 24 --waiting 40 --patience {PATIENCE} "
                   f"--seconds {SECONDS}")
        self.log = log.open("w")
        env = os.environ | {"ATTNAX_API_KEY": KEY, "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}
        how = [__file__, "--serve-adapters"] if adapters else ["-m", "attnax", "serve"]
        self.models = ["tiny", *(ADAPTERS if adapters else ())]
        self.process = subprocess.Popen([sys.executable, *how, str(folder), *options.split()],
                                        stdout=subprocess.PIPE, stderr=self.log, text=True, env=env)
        line = self.process.stdout.readline()
        found = re.search(r"http://([\d.]+):(\d+)", line)
        if not found: raise SystemExit(f"the server did not start: {line}{log.read_text()}")
        self.host, self.port = found[1], int(found[2])

    def held(self) -> dict[str, float]:
        """What the process has: memory in MB, files, threads."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return {"MB": int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1e3,
                "threads": int(re.search(r"Threads:\s+(\d+)", status)[1]),
                "files": len(os.listdir(f"/proc/{self.process.pid}/fd"))}


class Clients:
    """Clients of every kind, and what they saw."""
    def __init__(self, server: Server, seed: int):
        self.server, self.rng, self.seen = server, random.Random(seed), collections.Counter()
        self.wrong: list[str] = []
        self.known: dict[str, dict] = {}

    def request(self, path: str, body: bytes, length: int | None = None, method: str = "POST") -> bytes:
        return (f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body) if length is None else length}\r\n\r\n").encode() + body

    async def connect(self, **how):
        return await asyncio.open_connection(self.server.host, self.server.port, **how)

    async def ask(self, path: str, body=None, raw: bytes | None = None) -> tuple[int, bytes]:
        """A whole request, answered."""
        reader, writer = await self.connect()
        try:
            writer.write(self.request(path, raw if raw is not None else b"" if body is None else json.dumps(body).encode(),
                                      method="GET" if body is None and raw is None else "POST"))
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            status = int(head.split()[1])
            if length := re.search(r"content-length: (\d+)", head): return status, await reader.readexactly(int(length[1]))
            parts = []   # chunked
            while size := int(await reader.readline(), 16): parts.append((await reader.readexactly(size + 2))[:-2])
            return status, b"".join(parts)
        finally: writer.close()

    async def metrics(self) -> dict[str, float]:
        text = (await self.ask("/metrics"))[1].decode()
        return {name: float(x) for name, x in re.findall(r"^attnax_(\w+)(?:\{model=\"tiny\"\})? ([\d.e+-]+)$", text, re.M)}

    def a_body(self) -> tuple[str, dict]:
        """One of the requests whose answers are known."""
        i = self.rng.randrange(12)
        common = {"model": self.rng.choice(self.server.models), "seed": i, "max_tokens": 4 + 3 * i,
                  "temperature": (0, 0.9)[i % 2], "stream": i % 3 > 0}
        text = "A common beginning. " * (i % 3) + f"{i}."
        if i % 2: return "/v1/completions", common | {"prompt": text, "n": 1 + i % 3, "presence_penalty": 0.5}
        return "/v1/chat/completions", common | {"messages": [{"role": "user", "content": text}], "top_p": 1}

    def told(self, body: dict, answer: bytes) -> list[str]:
        """The texts of an answer, whole or streamed."""
        if not body["stream"]:
            return [c["text"] if "text" in c else c["message"]["content"] for c in json.loads(answer)["choices"]]
        events = [e.removeprefix("data: ") for e in answer.decode().split("\n\n") if e]
        if events[-1] != "[DONE]": raise ValueError(f"a stream ends with {events[-1]}")
        texts = collections.defaultdict(str)
        for c in (c for e in events[:-1] for c in json.loads(e)["choices"]):
            texts[c["index"]] += c["text"] if "text" in c else c["delta"].get("content", "")
        return [texts[i] for i in sorted(texts)]

    # ---- Kinds of clients

    async def good(self):
        path, body = self.a_body()
        status, answer = await self.ask(path, body)
        if status == 429: return "good, but there was no room"
        if status != 200: raise ValueError(f"{path} {body}: {status} {answer[:200]}")
        texts, key = self.told(body, answer), json.dumps(body)
        if self.known.setdefault(key, texts) != texts: raise ValueError(f"{path} {body}: {texts}, alone {self.known[key]}")

    async def bad(self):
        path, body = self.a_body()
        raw, r = None, self.rng
        kind = r.randrange(6)
        if kind == 0: body[r.choice(list(body))] = r.choice([None, -1, [], {}, "x" * 300, 1e300, [None], True])
        if kind == 1: body["temprature"] = 1
        if kind == 2: raw = json.dumps(body).encode()[:r.randrange(2, 60)]
        if kind == 3: raw = r.randbytes(r.randrange(1, 2000))
        if kind == 4: body["model"] = "tinier"
        if kind == 5: raw = b" " * 2**21
        status, answer = await self.ask(path, body, raw)
        if kind == 0 and status == 200: return   # null is as good as not there
        if not 400 <= status < 500 or "message" not in json.loads(answer)["error"]:
            raise ValueError(f"a bad body: {status} {answer[:200]}")

    async def slow(self):
        """A head or a body that never comes whole, or answers that nobody reads."""
        kind, (path, body) = self.rng.randrange(3), self.a_body()
        reader, writer = await self.connect(limit=16)
        read, whole = 0, self.request(path, json.dumps(body).encode())
        try:
            async with asyncio.timeout(SECONDS + 10 * PATIENCE):
                if kind < 2: writer.write(whole[:(30, -5)[kind]])
                else:
                    writer.write(self.request("/metrics", b"", method="GET") * 2000)   # more than the system keeps for us
                    await asyncio.sleep(2 * PATIENCE)
                while data := await reader.read(2**16): read += len(data)   # until the server has enough of it
        except ConnectionError: pass
        finally: writer.transport.abort()
        if kind == 2 and read > 8e6: raise ValueError("was not cut off, though it read nothing")

    async def vanishing(self):
        path, body = self.a_body()
        _, writer = await self.connect()
        whole = self.request(path, json.dumps(body | {"stream": self.rng.random() < 0.5}).encode())
        writer.write(whole[:self.rng.choice([20, -1, len(whole), len(whole)])])
        await writer.drain()
        await asyncio.sleep(self.rng.choice([0, 0.01, 0.1, 0.5]))
        writer.transport.abort()

    async def one(self, until: float) -> None:
        """A person that is a client of one kind after the other."""
        while time.monotonic() < until:
            kind = self.rng.choices([self.good, self.bad, self.slow, self.vanishing], (5, 3, 1, 3))[0]
            try: self.seen[await kind() or kind.__name__] += 1
            except (ValueError, ConnectionError, TimeoutError, asyncio.IncompleteReadError) as e:
                self.wrong.append(f"{kind.__name__}: {type(e).__name__} {str(e)[:400]}")
            await asyncio.sleep(self.rng.random() * 0.05)

    async def quiet(self) -> dict[str, float]:
        """What there is when everyone has left; waits until connections have timed out."""
        before = None
        for _ in range(60):
            await asyncio.sleep(0.5)
            now = await self.metrics()
            left = {k: x for k, x in now.items() if re.search(r"answers_in_server|tasks|pages_used|running|waiting", k)}
            if left == before and not now["answers_in_server"]: break
            before = left
        return left | self.server.held()


async def soak(server: Server, seconds: float, seed: int, people: int) -> list[str]:
    """Run it, and say what was found wrong."""
    clients = Clients(server, seed)
    clients.rng, kept = random.Random(0), clients.rng
    for _ in range(60 * len(server.models)): await clients.good()   # alone: the answers that all others must get
    clients.rng, texts = kept, collections.defaultdict(set)
    for body, answer in clients.known.items(): texts[json.dumps(json.loads(body) | {"model": ""})].add(str(answer))
    most = max(map(len, texts.values()))
    print(f"{len(clients.known)} answers known, to one question up to {most}", flush=True)
    if most < len(server.models): clients.wrong.append("adapters change nothing")
    states = [await clients.quiet()]
    for part in range(3):
        until = time.monotonic() + seconds / 3
        await asyncio.gather(*(clients.one(until) for _ in range(people)))
        states.append(await clients.quiet())
        print(f"part {part + 1}: {dict(clients.seen)}\n  quiet: {states[-1]}", flush=True)
    wrong = clients.wrong[:20]
    for name, first in states[1].items():
        last, slack = states[-1][name], {"MB": max(20, 0.03 * first), "threads": 6, "files": 2}.get(name, 0)
        if last > first + slack: wrong.append(f"{name} grew from {first} to {last}")
    for name, x in states[-1].items():
        if re.search("answers_in_server|pages_used|running|waiting", name) and x: wrong.append(f"{name} is {x} at the end")
    path, body = "/v1/completions", {"model": "tiny", "prompt": "last", "max_tokens": 80, "stream": True}
    last = asyncio.create_task(clients.ask(path, body))
    while not (await clients.metrics())["answers_in_server"]: await asyncio.sleep(0)
    server.process.send_signal(signal.SIGTERM)
    status, answer = await last
    if status != 200 or not answer.endswith(b"[DONE]\n\n"): wrong.append(f"the last answer: {status} {answer[-200:]}")
    return wrong


def main(seconds: float = 600, seed: int = 0, people: int = 12, adapters: bool = False) -> int:
    with tempfile.TemporaryDirectory() as place:
        save_model(Path(place) / "tiny")
        server = Server(Path(place) / "tiny", Path(place) / "log", adapters)
        try:
            wrong = asyncio.run(soak(server, seconds, seed, people))
            if (code := server.process.wait(60)) != 0: wrong.append(f"the server ended with {code}")
        finally: server.process.kill()
        said = (Path(place) / "log").read_text()
        if "Traceback" in said: wrong.append(f"the log: {said[:4000]}")
    print("\n".join(["", *wrong, f"{len(wrong)} found wrong"]))
    return int(bool(wrong))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve-adapters"]: sys.exit(serve_adapters(sys.argv[2:]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--adapters", action="store_true")
    sys.exit(main(**vars(parser.parse_args())))
