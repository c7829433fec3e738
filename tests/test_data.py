"""Batches of text in processes of their own: two share what one reads, a reader that is killed anywhere goes on with the batches
that would have come, in as many processes as there are then, and a program ends without a word. `ATTNAX_RESUME=all` kills more.
"""
import hashlib
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest

# one process imports everything, the others are copies of it
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["attnax.training.data", "grain"])
BATCHES = 60


@pytest.fixture
def corpus(tmp_path):
    """Two texts that are cut, short ones, an empty one, and JSON lines."""
    draw = random.Random(3)
    words = lambda n: " ".join("".join(draw.choices("abcdefgé☂", k=5)) for _ in range(n)) + "\n"
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, n in (("a", 900), ("b", 400), ("c", 3), ("d", 1)): (folder / f"{name}.txt").write_text(words(n))
    (folder / "empty.md").touch()
    lines = [json.dumps({"body": words(n)}) for n in range(40)]
    (folder / "e.jsonl").write_text("\n".join(lines))
    return str(folder)


def open_data(folder, process_index=0, process_count=1):
    from attnax.training.data import TextData
    from attnax.training.documents import open_documents
    from attnax.training.text import open_tokenizer

    documents = open_documents(folder, field="body", section=512)
    return TextData(documents, open_tokenizer("chars", documents), length=65, batch=4, seed=7, buffer=3,
                    process_index=process_index, process_count=process_count)


def hashes(batch):
    """Of each row."""
    return [hashlib.sha256(np.stack(row).tobytes()).hexdigest() for row in zip(*tuple(batch))]


def reader(folder, out, index, count, state, wait):
    """Goes on behind a state; tells of each batch its rows and the state behind it."""
    with open_data(folder, index, count) as data, open(out, "a") as f:
        if state is not None: data.set_state(state)
        for _ in range(BATCHES):
            rows = hashes(next(data))
            print(json.dumps([rows, data.get_state()]), file=f, flush=True)
            time.sleep(wait)


def start(*args):
    process = processes.Process(target=reader, args=args)
    process.start()
    return process


def told(out):
    """What was written in whole lines."""
    if not os.path.exists(out): return []
    with open(out) as f: return [json.loads(line) for line in f if line.endswith("\n")]


@pytest.fixture
def uninterrupted(corpus):
    with open_data(corpus) as data: return [hashes(next(data)) for _ in range(BATCHES)]


def test_processes_share_what_one_reads(corpus, uninterrupted, tmp_path):
    outs = [str(tmp_path / str(i)) for i in range(2)]
    for process in [start(corpus, out, i, 2, None, 0) for i, out in enumerate(outs)]:
        process.join(120)
        assert process.exitcode == 0
    halves = [told(out) for out in outs]
    assert [a[0] + b[0] for a, b in zip(*halves)] == uninterrupted
    assert [a[1] for a, b in zip(*halves)] == [b[1] for a, b in zip(*halves)], "one state for all"
    assert halves[0][-1][1]["epoch"] > 1


def test_killed_anywhere(corpus, uninterrupted, tmp_path):
    """Each life is ended at a random batch; the next one has another number of processes, in turn 1, 2 and 4."""
    draw, have, state = random.Random(5), [], None
    for life in range(10 if os.environ.get("ATTNAX_RESUME") == "all" else 4):
        count = (1, 2, 4)[life % 3]
        outs = [str(tmp_path / f"{life}-{i}") for i in range(count)]
        lives = [start(corpus, out, i, count, state, 0.002) for i, out in enumerate(outs)]
        end, late = draw.randrange(1, 12), time.monotonic() + 120
        while min(len(told(out)) for out in outs) < end and time.monotonic() < late: time.sleep(0.005)
        for process in lives: process.kill()
        for process in lives: process.join()
        rounds = list(zip(*(told(out) for out in outs)))    # those that every process has finished
        assert len(rounds) >= end
        have += [[row for rows, _ in parts for row in rows] for parts in rounds]
        state = rounds[-1][0][1]
    have = have[:BATCHES]
    assert have == uninterrupted[:len(have)]


SCRIPT = """
import sys
import attnax, attnax.training
assert not {"grain", "orbax", "tokenizers"} & {m.split(".")[0] for m in sys.modules}, "imported without need"
from attnax.training.data import TextData
from attnax.training.documents import open_documents
from attnax.training.text import open_tokenizer
assert not {"grain", "tokenizers"} & {m.split(".")[0] for m in sys.modules}, "imported without need"
documents = open_documents(texts=["to be or not to be\\n" * 400])
data = TextData(documents, open_tokenizer("bytes"), length=33, batch=4)
for _ in range(3): next(data)
data.get_state()
sys.modules["grain"] = None
try: TextData(documents, open_tokenizer("bytes"), length=33, batch=4)
except ImportError as e: assert "attnax[train]" in str(e), e
else: raise SystemExit("made without grain")
print("done")
"""


def test_imports_late_and_ends_quietly():
    """grain is imported where it is used, a program without it is told what to install, and one that is left with threads at
    work says nothing at its end."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=400)
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)
