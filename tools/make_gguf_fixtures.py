"""Tokenizers as GGUF files hold them, and what the reference makes of texts with them: nbs/fixtures/gguf/tokens.json;
and what llama.cpp computes with tiny models: nbs/fixtures/gguf/llama_cpp.npz.

Run in an environment with sentencepiece, tokenizers, transformers and gguf, from the top of the repository:
    python tools/make_gguf_fixtures.py                 # tiny ones, trained on The Tempest
    python tools/make_gguf_fixtures.py FILE.gguf       # also what SentencePiece makes of texts with a real Gemma's pieces
    python tools/make_gguf_fixtures.py write FOLDER    # the tiny models of page 76e, in the environment of the pages
    python tools/make_gguf_fixtures.py read FOLDER     # what llama.cpp computes with them, with llama-cpp-python 0.3.36
"""
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

if sys.argv[1:2] not in (["write"], ["read"]):
    import sentencepiece as spm
    from sentencepiece import sentencepiece_model_pb2 as pb
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

root = Path(__file__).resolve().parent.parent
out = root / "nbs" / "fixtures" / "gguf"
TEXTS = ["", " ", "We are such stuff as dreams are made on.", "  two  spaces, and\ttabs\nlines\n\n\nmore ",
         "I'LL pay 12345.50 now!  don't", "naïve café e\u0301 — 日本語 🙂 ½² ﬁ", "the\u00a0sea-storm’s “rage”",
         "ABC abcDEF x1 [MASK]"]


def tempest() -> str:
    """The play that the package has."""
    return (root / "attnax" / "data" / "tempest.txt").read_text(encoding="utf-8")


def pieces_of(proto) -> dict:
    """Pieces as llama.cpp's converter writes them."""
    # the numbers of kinds are the same in both formats: 1 normal, 2 unknown, 3 control, 4 user, 5 unused, 6 byte
    # and a user's own pieces have spaces again
    return {"tokens": [p.piece.replace("▁", " ") if p.type == 4 else p.piece for p in proto.pieces],
            "scores": [p.score for p in proto.pieces], "token_type": [p.type for p in proto.pieces]}


def sentencepiece(kind: str, size: int, **options) -> dict:
    """A tiny SentencePiece model, and ids of the texts."""
    held = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(tempest().splitlines()), model_writer=held, vocab_size=size,
                                   model_type=kind, minloglevel=2, **options)
    proto = pb.ModelProto.FromString(held.getvalue())
    reader = spm.SentencePieceProcessor(model_proto=held.getvalue())
    spec = proto.normalizer_spec
    return pieces_of(proto) | {
        "add_space_prefix": spec.add_dummy_prefix, "remove_extra_whitespaces": spec.remove_extra_whitespaces,
        "precompiled_charsmap": list(spec.precompiled_charsmap), "ids": [reader.encode(t) for t in TEXTS]}


def byte_level(name: str, make) -> dict:
    """A tiny byte-level BPE in the class that transformers has for it."""
    source = Tokenizer(models.BPE())
    source.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    source.train_from_iterator([tempest()], trainers.BpeTrainer(
        vocab_size=450, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(source.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    reader = make(model["vocab"], merges)
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    return {"tokens": tokens, "merges": [" ".join(m) for m in merges], "token_type": [3] + [1] * (len(tokens) - 1),
            "ids": {name: [reader.encode(t, add_special_tokens=False) for t in TEXTS]}}


def word_piece(cased: bool) -> dict:
    """A tiny WordPiece in the class of BERT."""
    from transformers import BertTokenizer
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    source = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    source.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    text = tempest() if cased else tempest().lower()
    source.train_from_iterator([text + " café naïve 日 本"], trainers.WordPieceTrainer(
        vocab_size=400, special_tokens=special, show_progress=False))
    vocab = source.get_vocab()
    with tempfile.TemporaryDirectory() as tmp:
        (Path(tmp) / "vocab.txt").write_text("\n".join(sorted(vocab, key=vocab.get)), encoding="utf-8")
        reader = BertTokenizer(str(Path(tmp) / "vocab.txt"), do_lower_case=not cased)
        ids = [reader.encode(t) for t in TEXTS]
        pair = reader.encode(TEXTS[2], TEXTS[4])
    words = sorted(vocab, key=vocab.get)
    tokens = [w if w in special else w[2:] if w.startswith("##") else "\u2581" + w for w in words]
    return {"tokens": tokens, "token_type": [3 if w in special else 1 for w in words], "ids": ids, "pair": pair}


def with_real_pieces(path: str) -> dict:
    """What SentencePiece itself makes of the texts with the pieces of a GGUF file."""
    import gguf
    fields = gguf.GGUFReader(path).fields
    take = lambda name: fields[f"tokenizer.ggml.{name}"].contents()
    proto = pb.ModelProto()
    for piece, score, kind in zip(take("tokens"), take("scores"), take("token_type")):
        proto.pieces.add(piece=piece.replace(" ", "▁") if kind == 4 else piece, score=score, type=kind)
    t, n = proto.trainer_spec, proto.normalizer_spec
    t.model_type, t.byte_fallback, t.unk_id, t.bos_id, t.eos_id, t.pad_id = 2, True, 3, 2, 1, 0
    n.name, n.add_dummy_prefix, n.remove_extra_whitespaces = "identity", take("add_space_prefix"), False
    reader = spm.SentencePieceProcessor(model_proto=proto.SerializeToString())
    texts = [*TEXTS, (root / "LICENSE").read_text(encoding="utf-8")[:3000]]
    return {"texts": texts, "ids": [reader.encode(t) for t in texts]}


def write_models(folder: Path) -> None:
    """The files that page 76e writes, with a vocabulary that llama.cpp takes: its size alone."""
    import os

    import nbformat
    os.chdir(root / "nbs")
    page, space, at = nbformat.read("76e_pretrained.gguf_models.ipynb", 4), {}, {"plain": True}
    for cell in page.cells:
        if cell.cell_type != "code" or cell.id == "colab": continue
        source = cell.source
        if cell.id == "writer":
            source = source.replace("    w.write_header_to_file()", "    finish(w, said); w.write_header_to_file()")
            space["finish"] = lambda w, said: at["plain"] or (
                w.add_tokenizer_model("none"), w.add_vocab_size(said["vocab_size"]), w.add_token_type_count(2))
        exec(source, space)
        if cell.id == "writer":
            page_write, page_read = space["write_gguf"], space["read_folder"]

            def read(path, page_read=page_read):
                at["name"] = Path(path).name
                return page_read(path)

            def write(path, *args, page_write=page_write, **more):
                at["plain"] = False
                page_write(folder / f"{at['name']}.gguf", *args, **more)
                at["plain"] = True
                return page_write(path, *args, **more)
            space |= {"read_folder": read, "write_gguf": write}
        if cell.id == "stacks": return


def llama_cpp_outputs(path: Path, ids: list[int], target: list[int]) -> dict:
    """Logits, or states of an encoder, as llama.cpp computes them; of a T5 both. Empty for a file that it does not take,
    as those with biases that the published models have not."""
    import llama_cpp as cpp
    model = cpp.llama_model_load_from_file(str(path).encode(), cpp.llama_model_default_params())
    if not model: return {}
    options = cpp.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = 128
    options.n_threads, options.type_k, options.type_v, options.flash_attn_type, options.pooling_type = 1, 0, 0, 0, 0
    both = cpp.llama_model_has_encoder(model) and cpp.llama_model_has_decoder(model)
    options.embeddings = both or path.stem in ("bert", "distilbert", "modernbert", "embedding_gemma", "t5_encoder")
    context = cpp.llama_init_from_model(model, options)
    vocab = cpp.llama_vocab_n_tokens(cpp.llama_model_get_vocab(model))

    def run(step, ids):
        batch = cpp.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = int(token), i, 1, 1
            batch.seq_id[i][0] = 0
        if step(context, batch): raise RuntimeError(f"{path}: llama.cpp did not compute")

    def rows(first, wide, n):
        return np.ctypeslib.as_array(first, (n * wide,)).reshape(n, wide).copy()
    if not options.embeddings:
        run(cpp.llama_decode, ids)
        return {"logits": rows(cpp.llama_get_logits(context), vocab, len(ids))}
    run(cpp.llama_encode, ids)
    found = {"states": rows(cpp.llama_get_embeddings(context), cpp.llama_model_n_embd(model), len(ids))}
    if both:
        cpp.llama_set_embeddings(context, False)
        run(cpp.llama_decode, target)
        found["logits"] = rows(cpp.llama_get_logits(context), vocab, len(target))
    return found


def read_models(folder: Path) -> None:
    """Of each file the last eight rows of what llama.cpp computes."""
    rng, found = np.random.default_rng(0), {}
    for path in sorted(folder.glob("*.gguf")):
        ids, target = rng.integers(3, 48, 24), rng.integers(3, 48, 12)   # more tokens than any window
        outputs = llama_cpp_outputs(path, ids, target)
        if not outputs: continue
        found |= {f"{path.stem}/{n}": x[-8:] for n, x in outputs.items()} | {f"{path.stem}/ids": ids}
        if len(outputs) == 2: found[f"{path.stem}/target"] = target
    np.savez_compressed(out / "llama_cpp.npz", **found)
    print(*(n for n in found if n.endswith("ids")), (out / "llama_cpp.npz").stat().st_size)


if __name__ == "__main__" and sys.argv[1:2] in (["write"], ["read"]):
    place = Path(sys.argv[2]).resolve()
    place.mkdir(exist_ok=True)
    (write_models if sys.argv[1] == "write" else read_models)(place)
elif __name__ == "__main__":
    from transformers import GPT2Tokenizer, Qwen2Tokenizer
    out.mkdir(exist_ok=True)
    # of SentencePiece's own rules a few, since the table of all of them takes a quarter of a megabyte
    rules = Path(tempfile.mkdtemp()) / "rules.tsv"
    rules.write_text("FB01\t66 69\nBD\t31 2F 32\nA0\t20\n9\t20\nA\t20\nB2\t32\n")
    found = {
        "texts": TEXTS,
        "llama": sentencepiece("bpe", 400, byte_fallback=True, normalization_rule_name="identity",
                               remove_extra_whitespaces=False),
        "gemma": sentencepiece("bpe", 420, byte_fallback=True, normalization_rule_name="identity",
                               remove_extra_whitespaces=False, add_dummy_prefix=False,
                               user_defined_symbols=["\n", "\n\n", "▁▁", "▁▁▁", "<table>"]),
        "unigram": sentencepiece("unigram", 300, normalization_rule_tsv=str(rules)),
        "gpt-2": byte_level("gpt-2", lambda v, m: GPT2Tokenizer(vocab=v, merges=m)),
        "bert": word_piece(False), "bert-cased": word_piece(True)}
    found["gpt-2"]["ids"] |= byte_level("qwen2", lambda v, m: Qwen2Tokenizer(vocab=v, merges=m))["ids"]
    if len(sys.argv) > 1:
        (root / "nbs" / "fixtures" / "real" / "gemma3_tokens.json").write_text(
            json.dumps(with_real_pieces(sys.argv[1])) + "\n")
    path = out / "tokens.json"
    path.write_text(json.dumps(found) + "\n")
    print(path.name, path.stat().st_size)
