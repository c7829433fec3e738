"""Make the fixtures under nbs/fixtures/sentences with Sentence Transformers: prompts, lengths, poolings and layers of a folder.

    pip install torch transformers sentence-transformers
    python tools/make_sentence_fixtures.py

Each folder holds what a sentence encoder keeps beside its weights (tokenizer, modules.json, settings of its steps, prompts),
and expected.npz: what Sentence Transformers makes of the texts in texts.json, by call. The weights are those of the model of
the same family under nbs/fixtures/pretrained, which `WEIGHTS` names; both are put together in a temporary folder, as the page
does it.

The committed files come from sentence-transformers 6.2, torch 2.13 and transformers 5.24.
"""
import json
import os
import shutil
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here comes from a network

import numpy as np
import tokenizers
import transformers
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer

root = Path(__file__).resolve().parent.parent
home = root / "nbs" / "fixtures"
WEIGHTS = {"bert": "bert", "bert_prompt": "bert", "bert_weighted": "bert", "gemma": "embedding_gemma", "qwen3": "qwen3"}
WORDS = ("[PAD] [UNK] [CLS] [SEP] query : passage find me what the sea storm ship sank and crew swam to an island where old "
         "duke his daughter lived with spirit air who sang sweet songs of freedom butler found wine drank it all night long he "
         "said that monster is king now . , ? a we are such stuff as dreams made on").split()
TEXTS = ["the ship sank and the crew swam to an island .", "what ?", "", "the storm",
         "we are such stuff as dreams are made on .",
         "an old duke lived with his daughter , and with a spirit of air who sang sweet songs of freedom all night long .",
         "the butler found the wine , and drank it .", "he said that the monster is king now .",
         "sea", "unheard words of the sea"]


def tokenizer(ends: str, folder: Path, side: str) -> None:
    """Words and what surrounds them: `[CLS]` and `[SEP]`, or only an end."""
    words = {word: i for i, word in enumerate(dict.fromkeys(WORDS))}
    t = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    t.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = [(w, words[w]) for w in ("[CLS]", "[SEP]") if w in ends]
    t.post_processor = tokenizers.processors.TemplateProcessing(single=ends, special_tokens=special)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=t, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
                                                sep_token="[SEP]", padding_side=side, model_max_length=64)
    fast.save_pretrained(folder)


def files(folder: Path, pooling: str, ends: str = "[CLS] $A [SEP]", side: str = "right", width: int = 32, dense=(),
          normalize: bool = True, include_prompt: bool = True, max_seq_length: int | None = 16, lower: bool = False,
          prompts=None, default=None) -> None:
    """What lies beside the weights."""
    steps = ["Transformer", "Pooling", *("Dense" for _ in dense), *(["Normalize"] if normalize else [])]
    modules = [dict(idx=i, name=str(i), path=f"{i}_{step}" if i else "", type=f"sentence_transformers.models.{step}")
               for i, step in enumerate(steps)]
    folder.mkdir(parents=True)
    def write(name, content):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")
    write("modules.json", modules)
    keys = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    write("1_Pooling/config.json", dict(word_embedding_dimension=width, include_prompt=include_prompt)
          | {f"pooling_mode_{key}": key == pooling for key in keys})
    write("sentence_bert_config.json", dict(max_seq_length=max_seq_length, do_lower_case=lower))
    if prompts is not None:
        write("config_sentence_transformers.json", dict(__version__=dict(sentence_transformers="5.1.0"), prompts=prompts,
                                                        default_prompt_name=default, similarity_fn_name="cosine"))
    rng, size = np.random.default_rng(7), width
    for i, out in enumerate(dense, start=2):
        write(f"{i}_Dense/config.json", dict(in_features=size, out_features=out, bias=False,
                                             activation_function="torch.nn.modules.linear.Identity"))
        weight = rng.standard_normal((out, size)).astype(np.float32) / size ** 0.5
        save_file({"linear.weight": weight}, folder / f"{i}_Dense" / "model.safetensors", metadata={"format": "pt"})
        size = out
    tokenizer(ends, folder, side)


def main() -> None:
    both = dict(prompts={"query": "query : ", "document": "passage : ", "find": "find me the "})
    made = home / "sentences"
    shutil.rmtree(made, ignore_errors=True)
    files(made / "bert", "mean_tokens", prompts=both["prompts"], default="find", lower=True)
    files(made / "bert_prompt", "mean_tokens", include_prompt=False, normalize=False, **both)
    files(made / "bert_weighted", "weightedmean_tokens", include_prompt=False, prompts={"passage": "passage : "})
    files(made / "gemma", "mean_tokens", ends="[CLS] $A [SEP]", dense=(48, 24), max_seq_length=24, **both)
    files(made / "qwen3", "lasttoken", ends="$A [SEP]", side="left", max_seq_length=None,
          prompts={"query": "find me what : ", "document": ""})
    (made / "texts.json").write_text(json.dumps(TEXTS, indent=1) + "\n")
    for name, weights in WEIGHTS.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / name
            shutil.copytree(made / name, folder)
            for file in ("config.json", "model.safetensors"): shutil.copy(home / "pretrained" / weights / file, folder)
            model = SentenceTransformer(str(folder), device="cpu")
            texts = [text for text in TEXTS if text or name != "bert_weighted"]
            calls = dict(plain=model.encode(texts), prompt=model.encode(texts, prompt="what is "),
                         queries=model.encode_query(texts), documents=model.encode_document(texts))
            for prompt in model.prompts:
                if model.prompts[prompt]: calls[f"name_{prompt}"] = model.encode(texts, prompt_name=prompt)
            for normalize in (False, True):   # the first 12 numbers of each vector
                calls[f"cut_{normalize}"] = model.encode(texts, truncate_dim=12, normalize_embeddings=normalize)
        np.savez_compressed(made / name / "expected.npz", **calls)
        size = sum(p.stat().st_size for p in (made / name).rglob("*") if p.is_file())
        print(f"{name}: {sorted(calls)}, {model.max_seq_length} tokens, {size:,} bytes")


if __name__ == "__main__": main()
