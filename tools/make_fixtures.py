"""Make the oracle fixtures under nbs/fixtures/pretrained with Hugging Face transformers, or try a round trip through attnax.

    pip install torch transformers
    python tools/make_fixtures.py                # every family again, from its seed
    python tools/make_fixtures.py bert gpt2      # only these
    python tools/make_fixtures.py --round-trip   # attnax loads each (in both styles), saves it, transformers reads that:
                                                 # compared bit for bit
    python tools/make_fixtures.py --list         # names and shapes of the tensors on disk, and every field of the config

A folder holds what `save_pretrained` writes for a tiny random model (config.json, model.safetensors or its shards), and

- expected.npz, inputs and outputs in float32 and int32, unrounded:
    bert      input_ids, token_type_ids, attention_mask; last_hidden_state, pooler_output, hidden_states (embeddings first)
    states    input_ids, attention_mask; last_hidden_state
    encoder   input_ids, attention_mask; last_hidden_state, and pooler_output and logits where there are such
    causal    input_ids; hidden (after the final norm), logits, generated (16 greedy tokens after `input_ids[:, :8]`)
    vit       pixel_values; hidden (after the final norm), logits
    dino      pixel_values, other_values of another size, masked; last_hidden_state of both, pooler_output, masked_hidden where
              there is a token for hidden patches, and logits where there is a head
    pair      pixel_values, input_ids; image_features, text_features (before they are brought to length one), logits per picture
    whisper   features, decoder_ids; encoder_hidden, logits, generated (16 greedy tokens after the start token, none suppressed)
    t5        input_ids, attention_mask, decoder_ids; encoder_hidden, hidden (of the decoder), logits, generated (as whisper)
- config_transformers4.json, the same config as files from before transformers 5 state it: `rope_theta` and `rope_scaling` at
  the top, `torch_dtype`, and without the fields that they left to defaults;
- model_transformers4.safetensors where well-known older files name tensors otherwise: bert (a `bert.` prefix, gamma and
  beta, position ids, the heads of pretraining), gpt2 (no `transformer.` prefix, the causal masks as buffers) and t5 (one
  table under four names, and a bias of cross-attention that nothing reads).

Every parameter is drawn, norms and biases too, and the epsilons are large, so that a loader which forgets one of them shows.
The script proves that: it clears each parameter, and changes the fields listed under `matters`, and the outputs must move.
The committed files come from torch 2.13 and transformers 5.23; elsewhere the last bits of the outputs may differ.
"""
import argparse
import copy
import inspect
import json
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here comes from a network
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

root = Path(__file__).resolve().parent.parent
folder = root / "nbs" / "fixtures" / "pretrained"
PROMPT, NEW = 8, 16     # tokens given, tokens generated
MARGIN = 1e-3           # a choice (a greedy token, an expert) must win by this much, so that rounding cannot turn it
MOVES = 3e-4            # how far an output must move when something that matters is changed
LIMIT = 250 * 1024      # bytes that a family may take


# ---- The families

@dataclass
class Family:
    model: str                                   # class in transformers; its config class is `config`
    config: str
    fields: dict                                 # given to the config class
    run: str                                     # which of the `run_...` functions makes inputs and outputs
    inputs: dict = field(default_factory=dict)   # arguments of that function
    idle: tuple = ()                             # ends of parameter names that cannot change an output
    gemma_norm: bool = False                     # norms multiply by 1 + weight
    matrix: float = 0.2                          # standard deviation of the matrices
    embed: float = 0.2                           # and of the token embedding: tied and large, it makes a model repeat itself
    shard: str | None = None                     # largest shard, as `save_pretrained` takes it
    matters: tuple = ()                          # changes of the config that must change the outputs
    old_drop: tuple = ()                         # fields that an older config.json leaves out
    old_add: dict = field(default_factory=dict)  # fields that it has besides


tiny = dict(vocab_size=97, hidden_size=32, num_attention_heads=4, num_hidden_layers=2, intermediate_size=48)
gqa = dict(tiny, num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-3)


def rope(theta, **scaling): return dict(rope_type="default", rope_theta=theta) | scaling


llama3_scaling = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                      original_max_position_embeddings=32)
qwen_old = dict(sliding_window=8, use_sliding_window=False, max_window_layers=2)  # a window that is stated but switched off
eps, act = dict(rms_norm_eps=1e-6), dict(hidden_act="gelu")

gemma3_ropes = dict(full_attention=rope(500.0, rope_type="linear", factor=4.0), sliding_attention=rope(50.0))
gemma3 = dict(gqa, num_hidden_layers=4, head_dim=16, query_pre_attn_scalar=4, sliding_window=8, rope_parameters=gemma3_ropes,
              layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"])
deepseek = dict(num_key_value_heads=4, max_position_embeddings=128, rms_norm_eps=1e-3, kv_lora_rank=16, qk_rope_head_dim=4,
                moe_intermediate_size=12, bos_token_id=95, eos_token_id=96)
deepseek_yarn = rope(100.0, rope_type="yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=4.0, mscale=1.2,
                     mscale_all_dim=0.8)
gemma3_old = ("layer_types", "tie_word_embeddings", "use_bidirectional_attention", "_sliding_window_pattern")
olmo3_ropes = dict(sliding_attention=rope(5e5), full_attention=rope(
    5e5, rope_type="yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=4.0, attention_factor=1.3))
gpt_oss_rope = rope(100.0, rope_type="yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=3.0, truncate=False)
gpt_oss = dict(gqa, num_hidden_layers=3, head_dim=12, intermediate_size=32, num_local_experts=3, num_experts_per_tok=2,
               sliding_window=6, rope_parameters=gpt_oss_rope, bos_token_id=86, eos_token_id=87, pad_token_id=88)
dino = dict(hidden_size=32, num_attention_heads=4, num_hidden_layers=2, image_size=24, patch_size=6, num_channels=3,
            layer_norm_eps=1e-3)


clip_text = dict(tiny, max_position_embeddings=24, layer_norm_eps=1e-3, bos_token_id=94, eos_token_id=70, pad_token_id=70)
clip_vision = dict(hidden_size=24, num_attention_heads=2, num_hidden_layers=3, intermediate_size=40, image_size=32, patch_size=8,
                   layer_norm_eps=1e-3)
clip_first = dict(clip_text, hidden_size=24, num_hidden_layers=3, eos_token_id=2, pad_token_id=1)
clip_large = dict(clip_vision, hidden_size=32, num_attention_heads=4, num_hidden_layers=2, image_size=24, patch_size=12,
                  hidden_act="gelu")
siglip_text = dict(tiny, max_position_embeddings=16, layer_norm_eps=1e-3)
siglip_vision = dict(clip_vision, hidden_size=32, num_attention_heads=4, num_hidden_layers=2)
granite = dict(embedding_multiplier=6.0, attention_multiplier=0.2, residual_multiplier=0.4, logits_scaling=3.0)
phi_factors = dict(rope_type="longrope", short_factor=[1.0, 1.2, 1.5], long_factor=[2.0, 3.0, 7.0])
ministral = rope(100.0, rope_type="yarn", factor=4.0, original_max_position_embeddings=8, beta_fast=4.0, beta_slow=1.0,
                 mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.6)

FAMILIES = {
    "bert": Family(
        "BertModel", "BertConfig", dict(tiny, max_position_embeddings=64, type_vocab_size=2, layer_norm_eps=1e-3), "bert",
        idle=("key.bias",),  # the same amount for every key: softmax removes it
        matters=(dict(layer_norm_eps=1e-12), dict(hidden_act="gelu_new")),
        old_drop=("add_cross_attention", "bos_token_id", "eos_token_id", "is_decoder", "tie_word_embeddings"),
        old_add=dict(architectures=["BertForMaskedLM"], gradient_checkpointing=False, position_embedding_type="absolute")),
    "gpt2": Family(
        "GPT2LMHeadModel", "GPT2Config",
        dict(vocab_size=97, n_embd=32, n_head=4, n_layer=2, n_inner=48, n_positions=64, layer_norm_epsilon=1e-3,
             bos_token_id=96, eos_token_id=96), "causal",
        matters=(dict(layer_norm_epsilon=1e-5), dict(activation_function="gelu")),
        old_drop=("add_cross_attention", "tie_word_embeddings", "pad_token_id", "reorder_and_upcast_attn",
                  "scale_attn_by_inverse_layer_idx", "scale_attn_weights"),
        old_add=dict(n_ctx=64)),
    "gpt2_untied": Family(
        # As many tokens as channels: the head is square, and its shape does not say which way round it is
        "GPT2LMHeadModel", "GPT2Config",
        dict(vocab_size=48, n_embd=48, n_head=2, n_layer=1, n_inner=32, n_positions=64, layer_norm_epsilon=1e-3,
             bos_token_id=47, eos_token_id=47, tie_word_embeddings=False), "causal",
        old_drop=("add_cross_attention",)),
    "llama": Family(
        "LlamaForCausalLM", "LlamaConfig", dict(gqa, rope_parameters=rope(10000.0)), "causal", shard="40KB",
        matters=(eps, act, dict(rope_parameters=rope(5e5))),
        old_drop=("head_dim", "mlp_bias")),
    "llama3": Family(
        # This base puts one wavelength into each of the three zones of the rule: kept, blended, divided
        "LlamaForCausalLM", "LlamaConfig",
        dict(gqa, rope_parameters=rope(100.0, **llama3_scaling), tie_word_embeddings=True), "causal",
        matters=(eps, act, dict(rope_parameters=rope(100.0)), dict(rope_parameters=rope(10000.0, **llama3_scaling)),
                 dict(rope_parameters=rope(100.0, **llama3_scaling) | dict(high_freq_factor=1.01)))),
    "mistral": Family(
        "MistralForCausalLM", "MistralConfig", dict(gqa, head_dim=8, sliding_window=8, rope_parameters=rope(1000.0)), "causal",
        matters=(eps, act, dict(sliding_window=None), dict(sliding_window=7), dict(sliding_window=9),
                 dict(rope_parameters=rope(10000.0))),
        old_drop=("head_dim",)),
    "mixtral": Family(
        "MixtralForCausalLM", "MixtralConfig",
        dict(gqa, num_local_experts=4, num_experts_per_tok=2, rope_parameters=rope(1e6)), "causal",
        matters=(eps, act, dict(num_experts_per_tok=1), dict(rope_parameters=rope(10000.0))),
        old_drop=("head_dim", "router_jitter_noise")),
    "ministral3": Family(
        # Forty tokens are five times the trained length: queries grow in four steps
        "Ministral3ForCausalLM", "Ministral3Config",
        dict(gqa, head_dim=12, rope_parameters=ministral, tie_word_embeddings=True, pad_token_id=0, bos_token_id=95,
             eos_token_id=96), "causal",
        matters=(eps, act, *(dict(rope_parameters=ministral | other) for other in (
            dict(llama_4_scaling_beta=0.0), dict(llama_4_scaling_beta=0.4), dict(factor=2.0), dict(rope_theta=1000.0),
            dict(mscale=0.5), dict(original_max_position_embeddings=16)))),
        old_drop=("sliding_window",)),
    "ministral3_window": Family(
        # A window, one key/value head, heads ten wide, an odd number of layers; other numbers of the scaling
        "Ministral3ForCausalLM", "Ministral3Config",
        dict(gqa, hidden_size=24, num_hidden_layers=3, num_key_value_heads=1, head_dim=10, sliding_window=6,
             rope_parameters=ministral | dict(original_max_position_embeddings=5, factor=3.0, mscale_all_dim=0.5, truncate=False),
             pad_token_id=0, bos_token_id=95, eos_token_id=96), "causal",
        matters=(eps, act, dict(sliding_window=5), dict(sliding_window=7), dict(sliding_window=None),
                 dict(rope_parameters=ministral | dict(original_max_position_embeddings=5, llama_4_scaling_beta=0.0)))),
    "qwen2": Family(
        "Qwen2ForCausalLM", "Qwen2Config",
        dict(gqa, rope_parameters=rope(1e6), tie_word_embeddings=True, max_window_layers=2, bos_token_id=95, eos_token_id=96),
        "causal", matters=(eps, act, dict(rope_parameters=rope(10000.0))),
        old_drop=("layer_types",), old_add=qwen_old),
    "qwen3": Family(
        "Qwen3ForCausalLM", "Qwen3Config",
        dict(gqa, head_dim=16, rope_parameters=rope(1e6), max_window_layers=2, bos_token_id=95, eos_token_id=96),
        "causal", matters=(eps, act, dict(rope_parameters=rope(10000.0))),
        old_drop=("layer_types",), old_add=qwen_old),
    "smollm3": Family(
        # Every second layer of four turns nothing
        "SmolLM3ForCausalLM", "SmolLM3Config",
        dict(gqa, num_hidden_layers=4, no_rope_layer_interval=2, rope_parameters=rope(100.0), attention_bias=True, mlp_bias=True,
             pad_token_id=0, bos_token_id=95, eos_token_id=96), "causal",
        idle=("1.self_attn.k_proj.bias", "3.self_attn.k_proj.bias"),  # where nothing turns, the same for every key
        matters=(eps, act, dict(rope_parameters=rope(10000.0)), dict(no_rope_layers=[1, 1, 1, 0]), dict(no_rope_layers=[1] * 4),
                 dict(no_rope_layers=[0, 1, 0, 1])),
        old_drop=("layer_types", "tie_word_embeddings"),
        old_add=dict(max_window_layers=28, pretraining_tp=2)),
    "smollm3_sliding": Family(
        # Windows where nothing turns; an odd number of layers, one key/value head, a head width that is no power of two
        "SmolLM3ForCausalLM", "SmolLM3Config",
        dict(gqa, hidden_size=24, num_hidden_layers=3, no_rope_layers=[0, 1, 0], use_sliding_window=True, sliding_window=6,
             head_dim=10, num_key_value_heads=1, rope_parameters=rope(100.0, rope_type="linear", factor=2.0),
             tie_word_embeddings=False, pad_token_id=0, bos_token_id=95, eos_token_id=96), "causal",
        matters=(eps, act, dict(rope_parameters=rope(100.0)), dict(sliding_window=5), dict(sliding_window=7),
                 dict(use_sliding_window=False), dict(no_rope_layers=[0, 1, 1]), dict(layer_types=["full_attention"] * 3)),
        old_drop=("layer_types",)),
    "granite": Family(
        "GraniteForCausalLM", "GraniteConfig",
        dict(gqa, **granite, rope_parameters=rope(100.0), bos_token_id=95, eos_token_id=96), "causal",
        matters=(eps, act, dict(rope_parameters=rope(10000.0)), *({n: 1.0} for n in granite)),
        old_drop=("mlp_bias", "tie_word_embeddings")),
    "granite_biases": Family(
        # Every bias, a tied head, one key/value head, three heads ten wide, an odd number of layers, factors below and above 1
        "GraniteForCausalLM", "GraniteConfig",
        dict(gqa, hidden_size=30, num_attention_heads=3, num_key_value_heads=1, num_hidden_layers=3, embedding_multiplier=0.5,
             attention_multiplier=0.7, residual_multiplier=1.5, logits_scaling=0.3, attention_bias=True, mlp_bias=True,
             rope_parameters=rope(100.0, rope_type="linear", factor=2.0), tie_word_embeddings=True,
             bos_token_id=95, eos_token_id=96), "causal",
        matters=(eps, act, dict(rope_parameters=rope(100.0)), *({n: 1.0} for n in granite))),
    "phi3": Family(
        # Longer than in training from the fifth token on; three quarters of a head turn
        "Phi3ForCausalLM", "Phi3Config",
        dict(gqa, original_max_position_embeddings=4, rope_parameters=rope(
            100.0, **phi_factors, partial_rotary_factor=0.75), tie_word_embeddings=True, pad_token_id=0, bos_token_id=95,
            eos_token_id=96), "causal",
        matters=(eps, act, dict(original_max_position_embeddings=64),
                 *(dict(rope_parameters=rope(100.0, **phi_factors, partial_rotary_factor=0.75) | other) for other in (
                     dict(rope_theta=1000.0), dict(long_factor=[2.0, 3.0, 8.0]), dict(attention_factor=1.0)))),
        # As files of Phi-4-mini say it
        old_add=dict(rope_scaling=dict(phi_factors, type="longrope"), partial_rotary_factor=0.75, attention_bias=False,
                     full_attn_mod=1, interpolate_factor=1, lm_head_bias=False, mlp_bias=False)),
    "phi3_window": Family(
        # Within the trained length; a window, one key/value head, half of twelve channels turns, an odd number of layers
        "Phi3ForCausalLM", "Phi3Config",
        dict(gqa, hidden_size=24, num_attention_heads=2, num_key_value_heads=1, num_hidden_layers=3, sliding_window=6,
             original_max_position_embeddings=64, rope_parameters=rope(100.0, **phi_factors, partial_rotary_factor=0.5),
             pad_token_id=0, bos_token_id=95, eos_token_id=96), "causal",
        matters=(eps, act, dict(sliding_window=5), dict(sliding_window=7), dict(sliding_window=None),
                 *(dict(rope_parameters=rope(100.0, **phi_factors, partial_rotary_factor=0.5) | other) for other in (
                     dict(short_factor=[1.0, 1.2, 2.5]), dict(attention_factor=1.0)))),
        old_drop=("tie_word_embeddings",)),
    "olmo2": Family(
        "Olmo2ForCausalLM", "Olmo2Config",
        dict(gqa, num_hidden_layers=3, rope_parameters=rope(100.0), attention_bias=True, bos_token_id=95, eos_token_id=96),
        "causal", matters=(eps, act, dict(rope_parameters=rope(10000.0))), old_drop=("tie_word_embeddings",)),
    "olmo2_tied": Family(
        "Olmo2ForCausalLM", "Olmo2Config",
        dict(gqa, hidden_size=24, num_attention_heads=3, num_key_value_heads=1, intermediate_size=40,
             rope_parameters=rope(1000.0), tie_word_embeddings=True, bos_token_id=95, eos_token_id=96), "causal",
        matters=(eps, act, dict(rope_parameters=rope(10000.0)))),
    "olmo3": Family(
        # Windows in every second layer, scaling in the others; other widths, one key/value head, a tied head
        "Olmo3ForCausalLM", "Olmo3Config",
        dict(gqa, hidden_size=24, num_hidden_layers=4, num_key_value_heads=1, head_dim=10, sliding_window=6,
             layer_types=["sliding_attention", "full_attention"] * 2, rope_parameters=olmo3_ropes, tie_word_embeddings=True,
             bos_token_id=95, eos_token_id=96), "causal",
        matters=(eps, act, dict(sliding_window=5), dict(sliding_window=7), dict(layer_types=["full_attention"] * 4),
                 dict(rope_parameters=olmo3_ropes | dict(full_attention=rope(5e5))),
                 dict(rope_parameters=olmo3_ropes | dict(sliding_attention=olmo3_ropes["full_attention"]))),
        old_drop=("rope_local_base_freq",)),
    "olmo3_plain": Family(
        "Olmo3ForCausalLM", "Olmo3Config",
        dict(gqa, num_hidden_layers=3, sliding_window=5, layer_types=["full_attention", "sliding_attention", "sliding_attention"],
             rope_parameters=dict.fromkeys(("sliding_attention", "full_attention"), rope(5e5)), attention_bias=True,
             bos_token_id=95, eos_token_id=96), "causal",
        matters=(eps, act, dict(sliding_window=4), dict(sliding_window=6)), old_drop=("rope_local_base_freq",)),
    "qwen2_moe": Family(
        # Four layers, the second and third dense; a shared expert with its gate in the others, and windows in two
        "Qwen2MoeForCausalLM", "Qwen2MoeConfig",
        dict(gqa, hidden_size=24, num_hidden_layers=4, intermediate_size=40, decoder_sparse_step=1, mlp_only_layers=[1, 2],
             num_experts=5, num_experts_per_tok=2, moe_intermediate_size=12, shared_expert_intermediate_size=20,
             rope_parameters=rope(100.0), use_sliding_window=True, sliding_window=6, max_window_layers=3,
             bos_token_id=95, eos_token_id=96), "causal",
        matters=(eps, act, dict(num_experts_per_tok=1), dict(norm_topk_prob=True), dict(rope_parameters=rope(10000.0)),
                 dict(sliding_window=5), dict(sliding_window=7), dict(layer_types=["full_attention"] * 4)),
        old_drop=("layer_types",)),
    "qwen2_moe_tied": Family(
        # Experts in both layers, one for a token, and no window
        "Qwen2MoeForCausalLM", "Qwen2MoeConfig",
        dict(gqa, num_experts=4, num_experts_per_tok=1, moe_intermediate_size=20, shared_expert_intermediate_size=12,
             rope_parameters=rope(1000.0), tie_word_embeddings=True, bos_token_id=95, eos_token_id=96), "causal",
        matters=(eps, act, dict(num_experts_per_tok=2), dict(norm_topk_prob=True))),
    "qwen3_moe": Family(
        "Qwen3MoeForCausalLM", "Qwen3MoeConfig",
        dict(gqa, num_hidden_layers=3, head_dim=10, decoder_sparse_step=2, intermediate_size=40, num_experts=6,
             num_experts_per_tok=3, moe_intermediate_size=16, norm_topk_prob=True, rope_parameters=rope(100.0),
             attention_bias=True, tie_word_embeddings=True, bos_token_id=95, eos_token_id=96), "causal",
        matters=(eps, act, dict(num_experts_per_tok=1), dict(norm_topk_prob=False), dict(rope_parameters=rope(10000.0))),
        old_drop=("num_local_experts",), old_add=dict(max_window_layers=3, num_experts=6)),
    "qwen3_moe_plain": Family(
        # Experts in both layers, their weights as the softmax says
        "Qwen3MoeForCausalLM", "Qwen3MoeConfig",
        dict(gqa, hidden_size=24, num_attention_heads=3, num_key_value_heads=1, head_dim=8, num_experts=5, num_experts_per_tok=2,
             moe_intermediate_size=20, norm_topk_prob=False, rope_parameters=rope(1000.0), bos_token_id=95, eos_token_id=96),
        "causal", matters=(eps, act, dict(num_experts_per_tok=1), dict(norm_topk_prob=True))),
    "deepseek_v3": Family(
        # One dense layer of three; two of four groups, a shared expert of two, YaRN whose two factors differ
        "DeepseekV3ForCausalLM", "DeepseekV3Config",
        dict(tiny | deepseek, num_hidden_layers=3, first_k_dense_replace=1, q_lora_rank=12, qk_nope_head_dim=6, v_head_dim=5,
             n_routed_experts=8, n_group=4, topk_group=2, num_experts_per_tok=3, n_shared_experts=2, routed_scaling_factor=1.5,
             attention_bias=True, rope_parameters=deepseek_yarn), "causal", embed=0.5,
        matters=(eps, act, dict(rope_interleave=False), dict(topk_group=4), dict(n_group=2), dict(num_experts_per_tok=2),
                 dict(norm_topk_prob=False), dict(routed_scaling_factor=2.5), dict(rope_parameters=rope(100.0)),
                 dict(rope_parameters=deepseek_yarn | dict(mscale_all_dim=0.4)),
                 dict(rope_parameters=deepseek_yarn | dict(mscale=0.4))),
        old_drop=("head_dim", "qk_head_dim", "num_mtp_layers"),
        old_add=dict(num_nextn_predict_layers=1, scoring_func="sigmoid", topk_method="noaux_tc", moe_layer_freq=1, ep_size=1,
                     aux_loss_alpha=0.001, seq_aux=True)),
    "deepseek_v3_plain": Family(
        # Queries straight from the input, experts in every layer and undivided weights; pairs of halves; a tied head
        "DeepseekV3ForCausalLM", "DeepseekV3Config",
        dict(tiny | deepseek, hidden_size=24, num_attention_heads=3, num_key_value_heads=3, first_k_dense_replace=0,
             q_lora_rank=None, qk_nope_head_dim=7, v_head_dim=9, n_routed_experts=6, n_group=2, topk_group=1,
             num_experts_per_tok=2, n_shared_experts=1, norm_topk_prob=False, rope_interleave=False, rope_parameters=rope(50.0),
             tie_word_embeddings=True), "causal", embed=0.5,
        matters=(eps, act, dict(rope_interleave=True), dict(topk_group=2), dict(norm_topk_prob=True),
                 dict(rope_parameters=rope(10000.0))),
        old_drop=("head_dim", "qk_head_dim")),
    "gemma2": Family(
        "Gemma2ForCausalLM", "Gemma2Config",
        dict(gqa, num_hidden_layers=4, head_dim=16, query_pre_attn_scalar=4, sliding_window=8, attn_logit_softcapping=5.0,
             final_logit_softcapping=3.0, rope_parameters=rope(1000.0)), "causal", gemma_norm=True, matrix=0.3, embed=0.15,
        matters=(eps, dict(hidden_activation="gelu"), dict(query_pre_attn_scalar=16), dict(attn_logit_softcapping=None),
                 dict(final_logit_softcapping=None), dict(layer_types=["full_attention"] * 4), dict(sliding_window=7),
                 dict(layer_types=["full_attention", "sliding_attention"] * 2), dict(sliding_window=9),
                 dict(rope_parameters=rope(10000.0))),
        old_drop=("layer_types", "tie_word_embeddings", "use_bidirectional_attention"),
        old_add=dict(hidden_act="gelu_pytorch_tanh", cache_implementation="hybrid")),
    "gemma3": Family(
        "Gemma3ForCausalLM", "Gemma3TextConfig", gemma3, "causal", gemma_norm=True, matrix=0.3, embed=0.15,
        matters=(eps, dict(hidden_activation="gelu"), dict(query_pre_attn_scalar=16), dict(sliding_window=7),
                 dict(sliding_window=9), dict(layer_types=["full_attention"] * 4),
                 dict(layer_types=["full_attention"] + ["sliding_attention"] * 3),
                 *(dict(rope_parameters=gemma3_ropes | other) for other in (
                     dict(full_attention=rope(500.0)), dict(sliding_attention=rope(500.0)),
                     dict(full_attention=rope(500.0, rope_type="linear", factor=2.0))))),
        old_drop=gemma3_old, old_add=dict(sliding_window_pattern=3, cache_implementation="hybrid")),
    "gemma3_yarn": Family(
        # Other sizes: one key head, an odd number of pairs, biases, a softcap, a window of an odd size; three layers of one kind
        "Gemma3ForCausalLM", "Gemma3TextConfig",
        dict(gemma3, vocab_size=89, hidden_size=24, intermediate_size=40, num_hidden_layers=5, num_attention_heads=3,
             num_key_value_heads=1, head_dim=10, sliding_window=5, attention_bias=True, final_logit_softcapping=3.0,
             tie_word_embeddings=False, layer_types=["sliding_attention"] * 3 + ["full_attention", "sliding_attention"],
             rope_parameters=dict(sliding_attention=rope(50.0), full_attention=rope(
                 100.0, rope_type="yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=4.0))),
        "causal", gemma_norm=True, matrix=0.3, embed=0.15,
        matters=(eps, dict(final_logit_softcapping=None), dict(sliding_window=4), dict(sliding_window=6),
                 dict(rope_parameters=dict(sliding_attention=rope(50.0), full_attention=rope(100.0)))),
        old_drop=gemma3_old[2:]),
    "embedding_gemma": Family(
        # The same, looking both ways: a window of 8 is 5 keys on a side
        "Gemma3TextModel", "Gemma3TextConfig",
        dict(gemma3, use_bidirectional_attention=True, rope_parameters=gemma3_ropes | dict(full_attention=rope(500.0))),
        "states", gemma_norm=True, matrix=0.3, embed=0.15,
        matters=(eps, dict(use_bidirectional_attention=False), dict(sliding_window=6), dict(sliding_window=10),
                 dict(layer_types=["full_attention"] * 4), dict(rope_parameters=gemma3_ropes)),
        old_drop=[gemma3_old[0], *gemma3_old[3:]], old_add=dict(sliding_window_pattern=3)),
    "gpt_oss": Family(
        # Matrices so large that the bounds of the activation are met; windows in the first and third layer, slowed in all
        "GptOssForCausalLM", "GptOssConfig", gpt_oss, "causal", matrix=0.4,
        matters=(eps, dict(swiglu_limit=1e9), dict(swiglu_alpha=1.0), dict(num_experts_per_tok=1), dict(sliding_window=5),
                 dict(sliding_window=7), dict(layer_types=["full_attention"] * 3),
                 *(dict(rope_parameters=gpt_oss_rope | other) for other in (
                     dict(truncate=True), dict(factor=2.0), dict(beta_fast=1.5), dict(rope_theta=1e4)))),
        old_drop=("swiglu_alpha", "layer_types"),
        old_add=dict(initial_context_length=16, experts_per_token=2)),
    "gpt_oss_plain": Family(
        # Other sizes: one key head, an odd number of pairs, no biases in attention, no scaling, a pattern of its own, tied
        "GptOssForCausalLM", "GptOssConfig",
        dict(gpt_oss, vocab_size=89, hidden_size=24, intermediate_size=20, num_hidden_layers=3, num_attention_heads=3,
             num_key_value_heads=1, head_dim=10, num_local_experts=6, num_experts_per_tok=3, sliding_window=5,
             attention_bias=False, tie_word_embeddings=True, rope_parameters=rope(100.0),
             layer_types=["full_attention", "sliding_attention", "sliding_attention"]), "causal", matrix=0.4,
        matters=(eps, dict(swiglu_limit=1e9), dict(sliding_window=4), dict(sliding_window=6), dict(num_experts_per_tok=2),
                 dict(rope_parameters=rope(1e4))),
        old_drop=("swiglu_alpha",), old_add=dict(rope_parameters=rope(100.0))),  # without it, YaRN is meant
    "roberta": Family(
        "RobertaModel", "RobertaConfig",
        dict(tiny, max_position_embeddings=60, type_vocab_size=2, layer_norm_eps=1e-3, pad_token_id=1), "encoder",
        idle=("key.bias",), matters=(dict(layer_norm_eps=1e-12), dict(hidden_act="gelu_new"), dict(pad_token_id=2)),
        old_drop=("add_cross_attention", "is_decoder", "tie_word_embeddings"),
        old_add=dict(position_embedding_type="absolute", gradient_checkpointing=False)),
    "xlm_roberta": Family(
        # An id of padding that is not 1, and one kind of tokens, as multilingual files have
        "XLMRobertaForMaskedLM", "XLMRobertaConfig",
        dict(tiny, hidden_size=36, num_hidden_layers=3, max_position_embeddings=64, type_vocab_size=1, layer_norm_eps=1e-3,
             pad_token_id=4), "encoder",
        idle=("key.bias",), matters=(dict(layer_norm_eps=1e-12), dict(hidden_act="relu"), dict(pad_token_id=3)),
        old_drop=("add_cross_attention", "is_decoder", "tie_word_embeddings"),
        old_add=dict(position_embedding_type="absolute", output_past=True)),
    "mpnet": Family(
        "MPNetForMaskedLM", "MPNetConfig", dict(tiny, max_position_embeddings=64, layer_norm_eps=1e-3), "encoder",
        idle=("attn.k.bias",), matters=(dict(layer_norm_eps=1e-12), dict(hidden_act="gelu_new")),
        old_drop=("tie_word_embeddings",)),
    "mpnet_base": Family(
        "MPNetModel", "MPNetConfig",
        dict(tiny, hidden_size=24, num_attention_heads=3, num_hidden_layers=3, max_position_embeddings=50, layer_norm_eps=1e-3,
             hidden_act="gelu_new"), "encoder",
        idle=("attn.k.bias",), matters=(dict(layer_norm_eps=1e-12), dict(hidden_act="gelu"))),
    "distilbert": Family(
        "DistilBertForMaskedLM", "DistilBertConfig",
        dict(vocab_size=97, dim=32, n_heads=4, n_layers=3, hidden_dim=48, max_position_embeddings=64), "encoder",
        idle=("k_lin.bias",), matters=(dict(activation="relu"),),
        old_drop=("tie_word_embeddings", "bos_token_id", "eos_token_id"),
        old_add=dict(tie_weights_=True)),
    "distilbert_base": Family(
        "DistilBertModel", "DistilBertConfig",
        dict(vocab_size=97, dim=24, n_heads=2, n_layers=2, hidden_dim=40, max_position_embeddings=50, activation="relu"),
        "encoder", idle=("k_lin.bias",), matters=(dict(activation="gelu"),)),
    "modernbert": Family(
        "ModernBertForMaskedLM", "ModernBertConfig",
        dict(tiny, num_hidden_layers=5, max_position_embeddings=128, norm_eps=1e-3, local_attention=8, bos_token_id=2,
             cls_token_id=2, eos_token_id=3, sep_token_id=3, pad_token_id=1,
             rope_parameters=dict(full_attention=rope(100.0), sliding_attention=rope(10.0))), "encoder",
        matters=(dict(norm_eps=1e-6), dict(hidden_activation="silu"), dict(local_attention=6), dict(local_attention=10),
                 dict(layer_types=["full_attention"] * 5), dict(layer_types=["sliding_attention"] * 5),
                 dict(rope_parameters=dict(full_attention=rope(10.0), sliding_attention=rope(10.0))),
                 dict(rope_parameters=dict(full_attention=rope(100.0), sliding_attention=rope(100.0)))),
        old_drop=("layer_types", "tie_word_embeddings"),
        old_add=dict(global_rope_theta=100.0, local_rope_theta=10.0, global_attn_every_n_layers=3, reference_compile=False,
                     repad_logits_with_grad=False, position_embedding_type="absolute")),
    "modernbert_biases": Family(
        # Every bias that there may be, a pattern of its own, and longer frequencies on one kind of layer
        "ModernBertModel", "ModernBertConfig",
        dict(tiny, hidden_size=24, num_attention_heads=2, num_hidden_layers=3, max_position_embeddings=128, norm_eps=1e-3,
             local_attention=7, attention_bias=True, mlp_bias=True, norm_bias=True, bos_token_id=2, cls_token_id=2,
             eos_token_id=3, sep_token_id=3, pad_token_id=1,
             layer_types=["sliding_attention", "full_attention", "full_attention"],
             rope_parameters=dict(full_attention=rope(100.0, rope_type="linear", factor=2.0), sliding_attention=rope(10.0))),
        "encoder", matters=(dict(local_attention=10),),
        old_add=dict(rope_parameters=dict(  # which older words cannot say
            full_attention=rope(100.0, rope_type="linear", factor=2.0), sliding_attention=rope(10.0)))),
    "vit": Family(
        "ViTForImageClassification", "ViTConfig",
        {k: v for k, v in tiny.items() if k != "vocab_size"}
        | dict(image_size=32, patch_size=8, num_channels=3, num_labels=10, layer_norm_eps=1e-3), "vit",
        idle=("key.bias", "k_proj.bias"),
        matters=(dict(layer_norm_eps=1e-12), dict(hidden_act="gelu_new")),
        old_drop=("pooler_act", "pooler_output_size")),
    "dinov2": Family(
        "Dinov2Model", "Dinov2Config", dict(dino, mlp_ratio=2), "dino", idle=("key.bias", "k_proj.bias"),
        matters=(dict(layer_norm_eps=1e-6), dict(hidden_act="gelu_new")),
        old_drop=("apply_layernorm", "use_mask_token", "_out_features", "_out_indices")),
    "dinov2_giant": Family(
        # The gated feed-forward, whose width of 28 * 2 * 2/3 is rounded up to 40; a head; no token for hidden patches
        "Dinov2ForImageClassification", "Dinov2Config",
        dict(dino, hidden_size=28, num_attention_heads=2, num_hidden_layers=3, image_size=20, patch_size=4, mlp_ratio=2,
             use_swiglu_ffn=True, qkv_bias=False, use_mask_token=False, num_labels=7), "dino",
        matters=(dict(layer_norm_eps=1e-6),), old_drop=("apply_layernorm",)),
    "dinov2_with_registers": Family(
        "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", dict(dino, num_register_tokens=3, mlp_ratio=2), "dino",
        idle=("key.bias", "k_proj.bias"), matters=(dict(layer_norm_eps=1e-6), dict(hidden_act="gelu_new")),
        old_drop=("apply_layernorm",)),
    "dinov2_with_registers_head": Family(
        "Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig",
        dict(dino, hidden_size=24, num_attention_heads=3, num_hidden_layers=1, image_size=20, patch_size=4, mlp_ratio=3,
             num_register_tokens=1, use_swiglu_ffn=True, num_labels=3), "dino",
        idle=("key.bias", "k_proj.bias"), matters=(dict(layer_norm_eps=1e-6),)),
    "dinov3_vit": Family(
        "DINOv3ViTModel", "DINOv3ViTConfig", dict(dino, intermediate_size=48, num_register_tokens=3), "dino",
        matters=(dict(layer_norm_eps=1e-6), dict(hidden_act="gelu_new"), dict(rope_theta=10.0)),
        old_drop=("apply_layernorm", "_out_features", "_out_indices")),
    "dinov3_vit_gated": Family(
        # As the largest ones are; biases the other way round, a picture and patches that are not square, no registers
        "DINOv3ViTModel", "DINOv3ViTConfig",
        dict(dino, hidden_size=24, num_attention_heads=2, num_hidden_layers=3, image_size=[24, 16], patch_size=[6, 4],
             intermediate_size=40, use_gated_mlp=True, hidden_act="silu", query_bias=False, key_bias=True, value_bias=False,
             proj_bias=False, mlp_bias=False, rope_theta=30.0), "dino",
        idle=("register_tokens",),   # of which there are none
        matters=(dict(layer_norm_eps=1e-6), dict(hidden_act="gelu"), dict(rope_theta=100.0))),
    "clip": Family(
        "CLIPModel", "CLIPConfig",
        dict(text_config=clip_text, vision_config=clip_vision, projection_dim=20), "pair", dict(end=70, padding=70),
        idle=("k_proj.bias",),
        matters=(dict(text_config=clip_text | dict(layer_norm_eps=1e-5)),
                 dict(vision_config=clip_vision | dict(layer_norm_eps=1e-5)),
                 dict(text_config=clip_text | dict(hidden_act="gelu")), dict(vision_config=clip_vision | dict(hidden_act="gelu")),
                 dict(text_config=clip_text | dict(eos_token_id=2))),
        old_add=dict(text_config_dict=None, vision_config_dict=None)),
    "clip_highest": Family(
        # As the first files were: what ends a text is the largest id, whatever `eos_token_id` says; sizes in a second object
        "CLIPModel", "CLIPConfig",
        dict(text_config=clip_first, vision_config=clip_large, projection_dim=24), "pair", dict(end=96, padding=0),
        idle=("k_proj.bias",), matters=(dict(vision_config=clip_large | dict(hidden_act="quick_gelu")),),
        old_add=dict(text_config_dict=clip_first, text_config=clip_first | dict(hidden_size=48), vision_config_dict=clip_large)),
    # Towers by themselves
    "clip_vision": Family("CLIPVisionModel", "CLIPVisionConfig", clip_vision, "tower", idle=("k_proj.bias",),
                          matters=(dict(layer_norm_eps=1e-5), dict(hidden_act="gelu"))),
    "siglip_vision": Family("SiglipVisionModel", "SiglipVisionConfig", siglip_vision, "tower", idle=("k_proj.bias",),
                            matters=(dict(layer_norm_eps=1e-6), dict(hidden_act="quick_gelu"))),
    "clip_text": Family("CLIPTextModel", "CLIPTextConfig", clip_text, "states", idle=("k_proj.bias",),
                        matters=(dict(layer_norm_eps=1e-5), dict(hidden_act="gelu"))),
    "siglip": Family(
        "SiglipModel", "SiglipConfig", dict(text_config=siglip_text, vision_config=siglip_vision), "pair", dict(end=1, padding=1),
        idle=("k_proj.bias",),
        matters=(dict(text_config=siglip_text | dict(layer_norm_eps=1e-6)),
                 dict(vision_config=siglip_vision | dict(layer_norm_eps=1e-6)),
                 dict(text_config=siglip_text | dict(hidden_act="quick_gelu")),
                 dict(vision_config=siglip_vision | dict(hidden_act="quick_gelu")))),
    "siglip_wide": Family(
        # Towers of two widths: the head of the texts leads from one to the other
        "SiglipModel", "SiglipConfig",
        dict(text_config=siglip_text | dict(hidden_size=24, num_attention_heads=3, projection_size=40, hidden_act="gelu"),
             vision_config=siglip_vision | dict(hidden_size=40, num_attention_heads=5, image_size=24, patch_size=12,
                                                num_channels=1)),
        "pair", dict(end=1, padding=1), idle=("k_proj.bias",)),
    "whisper": Family(
        "WhisperForConditionalGeneration", "WhisperConfig",
        # Narrower than the others, to keep within the size; unlike counts of layers, as distilled models have
        dict(vocab_size=97, d_model=24, encoder_layers=3, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
             encoder_ffn_dim=48, decoder_ffn_dim=48, num_mel_bins=80, max_source_positions=50, max_target_positions=32,
             bos_token_id=94, eos_token_id=94, pad_token_id=94, decoder_start_token_id=96, begin_suppress_tokens=[1, 94]),
        "whisper",
        matters=(dict(activation_function="gelu_new"),),  # `scale_embedding` is no such field: transformers reads it nowhere
        old_drop=("tie_word_embeddings",),
        old_add=dict(forced_decoder_ids=[[1, 91], [2, 92]], max_length=32, num_hidden_layers=3)),
    "t5": Family(
        # The first T5: a tied head behind scaled states. Heads are narrower than their share, distances soon share a bucket
        "T5ForConditionalGeneration", "T5Config",
        dict(vocab_size=97, d_model=24, d_kv=5, d_ff=32, num_layers=2, num_heads=4, layer_norm_epsilon=1e-3,
             relative_attention_num_buckets=8, relative_attention_max_distance=20, decoder_start_token_id=0), "t5",
        embed=0.7, matrix=0.4,
        matters=(dict(layer_norm_epsilon=1e-6), dict(feed_forward_proj="gelu"), dict(scale_decoder_outputs=False),
                 dict(relative_attention_max_distance=30)),
        old_drop=("classifier_dropout", "dense_act_fn", "feed_forward_proj", "is_decoder", "is_gated_act",
                  "scale_decoder_outputs", "tie_word_embeddings"),
        old_add=dict(n_positions=512, output_past=True, task_specific_params=dict(summarization=dict(max_length=200)))),
    "t5_gated": Family(
        # 1.1 and Flan: gated, a head of its own, nothing scaled; heads are wider than their share, buckets of one side are odd
        "T5ForConditionalGeneration", "T5Config",
        dict(vocab_size=89, d_model=26, d_kv=11, d_ff=30, num_layers=3, num_decoder_layers=2, num_heads=3,
             layer_norm_epsilon=1e-3, feed_forward_proj="gated-gelu", tie_word_embeddings=False,
             relative_attention_num_buckets=10, relative_attention_max_distance=16, decoder_start_token_id=0), "t5",
        matters=(dict(layer_norm_epsilon=1e-6), dict(dense_act_fn="gelu"), dict(dense_act_fn="silu"),
                 dict(scale_decoder_outputs=True), dict(relative_attention_max_distance=30)),
        old_drop=("classifier_dropout", "is_decoder", "is_gated_act", "scale_decoder_outputs"),
        old_add=dict(n_positions=512, output_past=True, tie_word_embeddings=False)),
    "t5_encoder": Family(
        # The encoder by itself, as sentence-t5 and the text towers of image models have it
        "T5EncoderModel", "T5Config",
        dict(vocab_size=97, d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=2, layer_norm_epsilon=1e-3,
             feed_forward_proj="gated-gelu", tie_word_embeddings=False, relative_attention_num_buckets=8,
             relative_attention_max_distance=20), "states",
        matters=(dict(layer_norm_epsilon=1e-6), dict(relative_attention_max_distance=30)),
        old_drop=("classifier_dropout", "is_decoder", "is_gated_act", "scale_decoder_outputs"),
        old_add=dict(n_positions=512, output_past=True, tie_word_embeddings=False, is_encoder_decoder=True)),
}


# ---- A model, drawn

def build(family: Family, **change):
    config = getattr(transformers, family.config)(**copy.deepcopy(family.fields | change))  # which it writes into
    model = getattr(transformers, family.model)._from_config(config, attn_implementation="eager").float().eval()
    if family.run == "t5" and family.fields.get("tie_word_embeddings") is False:   # its class ties whatever a config says
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return model


def weights(model):
    """Parameters, and the correction of a router, which is stored as a buffer."""
    stored = [(n, b) for n, b in model.named_buffers() if n.endswith("e_score_correction_bias")]
    return [*model.named_parameters(), *stored]


def is_norm(name: str) -> bool: return name.endswith("weight") and ("norm" in name.lower() or ".ln_" in name)


@torch.no_grad()
def draw(model, family: Family, rng) -> None:
    """Every parameter: biases and norms with deviation 0.2, norms around the value that leaves things alone."""
    # patches for a ViT: not a table of tokens; two towers have no table of their own
    tokens_table = None if family.run == "pair" else model.get_input_embeddings()
    for name, p in weights(model):
        std = family.embed if p is getattr(tokens_table, "weight", None) else family.matrix if p.ndim > 1 else 0.2
        x = std * rng.standard_normal(tuple(p.shape), dtype=np.float32)
        p.copy_(torch.as_tensor(x + (is_norm(name) and not family.gemma_norm)))


# ---- Inputs and outputs. Each `run_...` gives (inputs, outputs, smallest margin of a choice)

class Unclear(Exception):
    """A choice was too close, or too dull to test anything: take the next seed."""


def tokens(rng, *shape, below=94): return torch.from_numpy(rng.integers(3, below, shape))


@torch.no_grad()
def forward_bert(model, input_ids, token_type_ids, attention_mask):
    out = model(input_ids=input_ids, token_type_ids=token_type_ids, attention_mask=attention_mask, output_hidden_states=True)
    return dict(last_hidden_state=out.last_hidden_state, pooler_output=out.pooler_output,
                hidden_states=torch.stack(out.hidden_states))


def run_bert(model, rng):
    n = torch.arange(24)
    length, second = torch.tensor([[24], [17]]), torch.tensor([[11], [9]])  # real tokens; where the second sentence begins
    mask = (n < length).long()
    ids = tokens(rng, 2, 24) * mask  # id 0 is [PAD]
    inputs = dict(input_ids=ids, token_type_ids=(n >= second).long() * mask, attention_mask=mask)
    return inputs, forward_bert(model, **inputs), float("inf")


@torch.no_grad()
def forward_states(model, input_ids, attention_mask):
    return dict(last_hidden_state=model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state)


def run_states(model, rng):
    mask = (torch.arange(24) < torch.tensor([[24], [17]])).long()
    inputs = dict(input_ids=tokens(rng, 2, 24) * mask, attention_mask=mask)
    return inputs, forward_states(model, **inputs), float("inf")
@torch.no_grad()
def forward_encoder(model, input_ids, attention_mask):
    given = dict(input_ids=input_ids, attention_mask=attention_mask)
    out = model.base_model(**given)
    said = {k: out.get(k) for k in ("last_hidden_state", "pooler_output") if out.get(k) is not None}
    return said | (dict(logits=model(**given).logits) if type(model).__name__.endswith("MaskedLM") else {})


def run_encoder(model, rng, length=40):
    n, pad = torch.arange(length), model.config.pad_token_id
    first, end = torch.tensor([[0], [3]]), torch.tensor([[length], [length - 9]])   # padding on both sides of the second row
    mask = ((first <= n) & (n < end)).long()
    ids = torch.where(mask.bool(), tokens(rng, 2, length, below=94) + 2, pad)       # no token is the id of padding
    inputs = dict(input_ids=ids, attention_mask=mask)
    return inputs, forward_encoder(model, **inputs), float("inf")


@torch.no_grad()
def forward_causal(model, input_ids):
    hidden = model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
    return dict(hidden=hidden, logits=model(input_ids=input_ids, use_cache=False).logits)


def margin(logits):
    """By how much the largest logit leads the next, at worst."""
    top = logits.topk(2).values
    return float((top[..., 0] - top[..., 1]).min())


@torch.no_grad()
def group_margin(model, ids):
    """By how much a group leads the first one left out, and an expert in the kept groups, at worst. Scores lie between 0 and 1,
    so a tenth of what logits must lead by will do: the lead is given tenfold."""
    c, lead = model.config, float("inf")
    gates = [m for m in model.modules() if hasattr(m, "e_score_correction_bias")]
    for logits, gate in zip(model(input_ids=ids, output_router_logits=True).router_logits, gates, strict=True):
        choice = (logits.sigmoid() + gate.e_score_correction_bias).unflatten(-1, (c.n_group, -1))
        best = choice.topk(2, dim=-1).values.sum(-1)
        order = best.sort(dim=-1, descending=True)
        if c.topk_group < c.n_group:
            lead = min(lead, float((order.values[..., c.topk_group - 1] - order.values[..., c.topk_group]).min()))
        kept = torch.zeros_like(best).scatter_(-1, order.indices[..., :c.topk_group], 1).bool()
        top = choice.masked_fill(~kept[..., None], -torch.inf).flatten(-2).topk(c.num_experts_per_tok + 1).values
        lead = min(lead, float((top[..., -2] - top[..., -1]).min()))
    return 10 * lead


def check_varied(new):
    """A row that repeats two or three tokens would hide a cache that goes wrong."""
    if min(len(set(row)) for row in new.tolist()) < 6: raise Unclear


@torch.no_grad()
def run_causal(model, rng, length=40):
    ids = tokens(rng, 2, length, below=min(94, model.config.vocab_size))
    outputs = forward_causal(model, ids)
    g = model.generation_config
    g.eos_token_id, g.pad_token_id = None, 0  # no early end: all 16 tokens come
    out = model.generate(ids[:, :PROMPT], attention_mask=torch.ones(2, PROMPT).long(), max_new_tokens=NEW, do_sample=False,
                         use_cache=True, return_dict_in_generate=True, output_logits=True)
    new, lead = out.sequences[:, PROMPT:], margin(torch.stack(out.logits))
    if new.shape != (2, NEW): raise RuntimeError(f"expected 2 rows of {NEW} new tokens, got {tuple(new.shape)}")
    again = forward_causal(model, out.sequences)["logits"][:, PROMPT - 1:-1]  # with no cache, the same tokens
    if not torch.equal(again.argmax(-1), new): raise RuntimeError("greedy tokens differ with and without the cache")
    if getattr(model.config, "num_local_experts", None) or getattr(model.config, "num_experts", None):
        k = model.config.num_experts_per_tok
        if hasattr(model.config, "topk_group"): return dict(input_ids=ids), outputs | dict(generated=new), min(
            lead, *(group_margin(model, seq) for seq in (ids, out.sequences)))
        for seq in (ids, out.sequences):
            for r in model(input_ids=seq, output_router_logits=True).router_logits:
                top = r.topk(k + 1).values  # the last expert taken against the first one left
                lead = min(lead, float((top[..., k - 1] - top[..., k]).min()))
    check_varied(new)
    return dict(input_ids=ids), outputs | dict(generated=new), lead


@torch.no_grad()
def forward_vit(model, pixel_values):
    return dict(hidden=model.base_model(pixel_values).last_hidden_state, logits=model(pixel_values).logits)


def run_vit(model, rng):
    inputs = dict(pixel_values=torch.from_numpy(rng.standard_normal((2, 3, 32, 32), dtype=np.float32)))
    return inputs, forward_vit(model, **inputs), float("inf")


@torch.no_grad()
def forward_tower(model, pixel_values):
    out = model(pixel_values)
    return dict(last_hidden_state=out.last_hidden_state, pooler_output=out.pooler_output)


def run_tower(model, rng):
    inputs = dict(pixel_values=torch.from_numpy(rng.standard_normal((2, 3, 32, 32), dtype=np.float32)))
    return inputs, forward_tower(model, **inputs), float("inf")


@torch.no_grad()
def forward_dino(model, pixel_values, other_values, masked):
    base = model if type(model).__name__.endswith("Model") else model.base_model
    first, other = base(pixel_values), base(other_values)
    out = dict(last_hidden_state=first.last_hidden_state, pooler_output=first.pooler_output,
               other_hidden=other.last_hidden_state, other_pooled=other.pooler_output)
    if base.embeddings.mask_token is not None:
        out["masked_hidden"] = base(pixel_values, bool_masked_pos=masked.bool()).last_hidden_state
    return out if base is model else out | dict(logits=model(pixel_values).logits)


def run_dino(model, rng):
    def pair(size): return [size, size] if isinstance(size, int) else list(size)
    (high, wide), (down, across) = pair(model.config.image_size), pair(model.config.patch_size)
    # a picture with a row of patches less and two columns more; every third patch hidden
    sizes = (high, wide), (high - down, wide + 2 * across)
    first, other = (torch.from_numpy(rng.standard_normal((2, 3, *size), dtype=np.float32)) for size in sizes)
    n = (high // down) * (wide // across)
    masked = torch.arange(2 * n).reshape(2, n) % 3 == 0
    inputs = dict(pixel_values=first, other_values=other, masked=masked.int())
    return inputs, forward_dino(model, **inputs), float("inf")
def forward_pair(model, pixel_values, input_ids):
    return dict(image_features=model.get_image_features(pixel_values).pooler_output,
                text_features=model.get_text_features(input_ids).pooler_output,
                logits=model(input_ids=input_ids, pixel_values=pixel_values).logits_per_image)


def run_pair(model, rng, end, padding):
    """Two pictures and three texts: ended, and filled up to the length that the tower has."""
    vision, length = model.config.vision_config, model.config.text_config.max_position_embeddings
    size = vision.num_channels, vision.image_size, vision.image_size
    n, last = torch.arange(length), torch.tensor([[length - 1], [9], [4]])
    ids = torch.where(n < last, tokens(rng, 3, length), torch.where(n == last, end, padding))
    inputs = dict(pixel_values=torch.from_numpy(rng.standard_normal((2, *size), dtype=np.float32)), input_ids=ids)
    return inputs, forward_pair(model, **inputs), float("inf")


@torch.no_grad()
def forward_whisper(model, features, decoder_ids):
    encoded = model.model.encoder(features).last_hidden_state
    logits = model(input_features=features, decoder_input_ids=decoder_ids, use_cache=False).logits
    return dict(encoder_hidden=encoded, logits=logits)


@torch.no_grad()
def run_whisper(model, rng):
    # The features lie on a grid of 1/32 from -1 to 1.5, like log-mel values: exact in float32, and they pack well
    features = torch.from_numpy(rng.integers(-32, 49, (2, 80, 100)).astype(np.float32) / 32)
    start = torch.full((2, 1), model.config.decoder_start_token_id)
    inputs = dict(features=features, decoder_ids=torch.cat([start, tokens(rng, 2, 11)], 1))
    outputs, seq, lead = forward_whisper(model, **inputs), start, float("inf")
    for _ in range(NEW):
        last = forward_whisper(model, features, seq)["logits"][:, -1]
        lead, seq = min(lead, margin(last)), torch.cat([seq, last.argmax(-1, keepdim=True)], 1)
    check_varied(seq[:, 1:])
    return inputs, outputs | dict(generated=seq[:, 1:]), lead


@torch.no_grad()
def forward_t5(model, input_ids, attention_mask, decoder_ids):
    encoded = model.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    hidden = model.decoder(input_ids=decoder_ids, encoder_hidden_states=encoded, encoder_attention_mask=attention_mask,
                           use_cache=False).last_hidden_state
    logits = model(input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=decoder_ids, use_cache=False).logits
    return dict(encoder_hidden=encoded, hidden=hidden, logits=logits)


@torch.no_grad()
def run_t5(model, rng, length=36):
    n, (first, end) = torch.arange(length), torch.tensor([[[0], [3]], [[length], [length - 9]]])  # padding on both sides
    mask, start = ((first <= n) & (n < end)).long(), torch.zeros(2, 1).long()
    below = min(94, model.config.vocab_size)
    ids = torch.where(mask.bool(), tokens(rng, 2, length, below=below), model.config.pad_token_id)
    inputs = dict(input_ids=ids, attention_mask=mask, decoder_ids=torch.cat([start, tokens(rng, 2, 29, below=below)], 1))
    outputs, seq, lead = forward_t5(model, **inputs), start, float("inf")
    for _ in range(NEW):
        last = forward_t5(model, ids, mask, seq)["logits"][:, -1]
        lead, seq = min(lead, margin(last)), torch.cat([seq, last.argmax(-1, keepdim=True)], 1)
    check_varied(seq[:, 1:])
    g = model.generation_config
    g.eos_token_id, g.pad_token_id, g.decoder_start_token_id = None, 0, 0
    own = model.generate(ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False, use_cache=True)
    if not torch.equal(own, seq): raise RuntimeError("greedy tokens differ with and without the cache")
    return inputs, outputs | dict(generated=seq[:, 1:]), lead


def forward(family: Family, model, inputs): return globals()[f"forward_{family.run}"](model, **inputs)


# ---- Does everything matter?

def moved(new, old) -> float:
    """The largest change of the outputs."""
    return max(float((new[k] - old[k]).abs().max()) for k in new)


@torch.no_grad()
def check_all_matters(name, family, model, inputs, outputs) -> float:
    """Clear each parameter, and change each field under `matters`: the outputs must move. Returns the smallest move."""
    least = {}
    for pname, p in weights(model):
        keep = p.clone()
        p.fill_(float(is_norm(pname) and not family.gemma_norm))
        least[pname] = moved(forward(family, model, inputs), outputs)
        p.copy_(keep)
        if pname.endswith(family.idle or ("\0",)):
            if (d := least.pop(pname)) > 1e-4: raise RuntimeError(f"{name}: {pname} is listed as idle, but moves outputs by {d}")
    for change in family.matters:
        other = build(family, **change)
        other.load_state_dict(model.state_dict())
        least[str(change)] = moved(forward(family, other, inputs), outputs)
    still = {k: v for k, v in least.items() if v < MOVES}
    if still: raise RuntimeError(f"{name}: these hardly move the outputs: {still}")
    return min(least.values())


# ---- Files

def write_json(path: Path, x: dict) -> None: path.write_text(json.dumps(x, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def old_config(family: Family, config: dict) -> dict:
    """`config` in the words of transformers 4."""
    old = {k: v for k, v in config.items() if k not in (*family.old_drop, "rope_parameters", "dtype")}
    r = dict(config.get("rope_parameters") or {})
    if "full_attention" in r and family.config != "ModernBertConfig":   # the scaling is about the layers that see everything
        old["rope_local_base_freq"], r = r["sliding_attention"]["rope_theta"], dict(r["full_attention"])
    if "rope_theta" in r:   # not so where each kind of layer has its own
        old["rope_theta"] = r.pop("rope_theta")
        old["rope_scaling"] = r if r["rope_type"] != "default" else None
    old = {k: v for k, v in old.items() if k not in family.old_drop}
    return old | dict(torch_dtype=config["dtype"], transformers_version="4.46.0") | family.old_add


def old_tensors(name: str, tensors: dict, config: dict, rng):
    """The tensors of `name` as well-known files from before transformers 5 name them, or None where that is the same."""
    if name == "gpt2":
        old = {k.removeprefix("transformer."): v for k, v in tensors.items()}
        mask = np.tril(np.ones((1, 1, config["n_positions"], config["n_positions"]), np.float32))
        return old | {f"h.{i}.attn.bias": mask for i in range(config["n_layer"])}
    if name == "t5":
        spare = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
        return tensors | {spare: rng.standard_normal((8, 4), dtype=np.float32)} | {
            n: tensors["shared.weight"] for n in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")}
    if name == "bert":
        d, v = config["hidden_size"], config["vocab_size"]
        def x(*shape): return 0.2 * rng.standard_normal(shape, dtype=np.float32)
        old = {f"bert.{k}": t for k, t in tensors.items()} | {
            "bert.embeddings.position_ids": np.arange(config["max_position_embeddings"])[None],
            "cls.predictions.bias": x(v), "cls.predictions.transform.dense.weight": x(d, d),
            "cls.predictions.transform.dense.bias": x(d), "cls.predictions.transform.LayerNorm.weight": 1 + x(d),
            "cls.predictions.transform.LayerNorm.bias": x(d),
            "cls.seq_relationship.weight": x(2, d), "cls.seq_relationship.bias": x(2)}
        return {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
                for k, t in old.items()}
    return None


def disk_tensors(path: Path) -> dict:
    """Every tensor in the shards of a folder."""
    return {k: v for f in sorted(path.glob("model*.safetensors")) if "transformers4" not in f.name
            for k, v in load_file(f).items()}


def read_model(family: Family, path: Path):
    """The model in a folder, and what its loader reported."""
    model, info = getattr(transformers, family.model).from_pretrained(
        path, attn_implementation="eager", dtype=torch.float32, output_loading_info=True)
    return model.eval(), info


def read_expected(family: Family, path: Path):
    """Inputs of `expected.npz` as torch tensors, and the rest of it."""
    with np.load(path / "expected.npz") as z: arrays = dict(z)
    names = list(inspect.signature(globals()[f"forward_{family.run}"]).parameters)[1:]  # after the model
    def tensor(x): return torch.from_numpy(x.astype(np.int64) if x.dtype.kind == "i" else x)
    return {k: tensor(arrays[k]) for k in names}, {k: tensor(v) for k, v in arrays.items() if k not in names}


def make(name: str, out: Path) -> str:
    """One family, from the first seed with clear choices. Returns a line for the table."""
    family = FAMILIES[name]
    for seed in range(200):
        rng, model = np.random.default_rng(seed), build(family)
        draw(model, family, rng)
        try: inputs, outputs, lead = globals()[f"run_{family.run}"](model, rng, **family.inputs)
        except Unclear: continue
        if lead >= MARGIN: break
    else: raise RuntimeError(f"{name}: no seed gives clear choices")
    plain = {k: v for k, v in outputs.items() if k != "generated"}
    least = check_all_matters(name, family, model, inputs, plain)

    out.mkdir(parents=True, exist_ok=True)
    for f in out.iterdir(): f.unlink()
    model.save_pretrained(out, **(dict(max_shard_size=family.shard) if family.shard else {}))
    for f in ("generation_config.json", "README.md"): (out / f).unlink(missing_ok=True)
    arrays = {k: v.numpy().astype(np.float32 if v.is_floating_point() else np.int32) for k, v in (inputs | outputs).items()}
    np.savez_compressed(out / "expected.npz", **arrays)
    config = json.loads((out / "config.json").read_text())
    old = old_config(family, config)
    write_json(out / "config_transformers4.json", old)
    renamed = old_tensors(name, disk_tensors(out), config, rng)
    if renamed: save_file(renamed, out / "model_transformers4.safetensors", metadata={"format": "pt"})

    # What lies on disk gives the same outputs, and so do the older words for it
    for f in out.iterdir(): f.chmod(0o644)
    size = sum(f.stat().st_size for f in out.iterdir())
    if size > LIMIT: raise RuntimeError(f"{name}: {size} bytes, over the limit of {LIMIT}")
    with tempfile.TemporaryDirectory() as tmp:
        write_json(Path(tmp, "config.json"), old)
        save_file(renamed or disk_tensors(out), Path(tmp, "model.safetensors"), metadata={"format": "pt"})
        for path in (out, Path(tmp)):
            again, info = read_model(family, path)
            if info["missing_keys"]: raise RuntimeError(f"{name}: {path} lacks {info['missing_keys']}")
            if moved(forward(family, again, inputs), plain): raise RuntimeError(f"{name}: {path} gives other outputs")
    std = float((plain["logits"] if "logits" in plain else plain["last_hidden_state"]).std())
    return f"{name:8} seed {seed:3}  margin {lead:7.4f}  least move {least:7.4f}  output std {std:5.2f}  {size / 1024:5.0f} KiB"


def make_fp8(path: Path) -> str:
    """Codes in eight bits, a scale for each block of 4 by 8, and what transformers makes of them."""
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize
    codes = torch.arange(256, dtype=torch.uint8).reshape(16, 16).clone()
    codes[codes & 127 == 127] = 0   # NaN
    scales = torch.rand(4, 2, generator=torch.Generator().manual_seed(0))
    values = Fp8Dequantize(None)._dequantize_one(codes.view(torch.float8_e4m3fn), scales, torch.float32)
    np.savez_compressed(path, codes=codes.numpy(), scales=scales.numpy(), values=values.numpy())
    return f"{path.name}: {path.stat().st_size} bytes"


def make_mxfp4(path: Path) -> str:
    """What transformers reads in weights of four bits: a row for each scale, each of the 16 codes in both halves of a byte."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors
    codes = np.arange(16, dtype=np.uint8)
    blocks = np.broadcast_to(codes | 15 - codes << 4, (1, 256, 1, 16)).astype(np.uint8)
    scales = np.arange(256, dtype=np.uint8).reshape(1, 256, 1)
    out = {str(kind).split(".")[-1]: convert_moe_packed_tensors(*map(torch.from_numpy, (blocks, scales)), dtype=kind)
           for kind in (torch.float32, torch.bfloat16)}
    np.savez_compressed(path, blocks=blocks, scales=scales, **{n: x.float().numpy() for n, x in out.items()})
    return f"{path.name}  {path.stat().st_size / 1024:.0f} KiB"


# ---- Through attnax and back

def older(path: Path, to: Path) -> Path:
    """A copy of `path` in the words of transformers 4."""
    for f in path.iterdir():
        if "transformers4" not in f.name and f.name != "expected.npz": shutil.copy(f, to / f.name)
    for f in path.glob("*_transformers4.*"): shutil.copy(f, to / f.name.replace("_transformers4", ""))
    return to


def same(a, b) -> bool: return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def differing(a: dict, b: dict) -> list:
    return sorted(k for k in a.keys() | b.keys() if k not in a or k not in b or not same(a[k], b[k]))


def round_trip(name: str, path: Path, load, save, *, old: bool = False) -> tuple[bool, str]:
    """Whether `save(load(path))` is for transformers the same model, bit for bit; and a line for the table.

    With `old`, what is loaded is in the words of transformers 4; what is saved must be the same as ever.
    """
    family, label = FAMILIES[name], f"{name:8}{' (4)' if old else '    '}"
    first, _ = read_model(family, path)
    inputs, expected = read_expected(family, path)
    with tempfile.TemporaryDirectory() as source, tempfile.TemporaryDirectory() as target:
        # the heads of masked-language modelling are left out on request
        heads = {"ignore": [r"^cls\."]} if old and name == "bert" else {}
        try: save(load(older(path, Path(source)) if old else path, **heads), target)
        except (ImportError, KeyError, NotImplementedError, TypeError, ValueError) as e:
            return False, f"{label} FAIL  {type(e).__name__}: {e}"
        tensors, tensors2 = disk_tensors(path), disk_tensors(Path(target))
        second, info = read_model(family, Path(target))
        config, config2 = (json.loads((Path(p) / "config.json").read_text(encoding="utf-8")) for p in (path, target))
    state, state2 = ({k: v.numpy() for k, v in m.state_dict().items()} for m in (first, second))
    bad = sorted({*differing(tensors, tensors2), *differing(state, state2)})
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    outputs, outputs2 = forward(family, first, inputs), forward(family, second, inputs)
    apart = moved(outputs2, outputs)
    off = moved(outputs, expected)  # this machine against the one that made the file
    fields = sorted(k for k in config.keys() | config2.keys()
                    if k != "transformers_version" and config.get(k, "(absent)") != config2.get(k, "(absent)"))
    ok = not (bad or missing or unexpected or apart)
    line = f"{label} {'ok' if ok else 'FAIL':4}  tensors {len(tensors2):3} of {len(tensors):3}  differing {len(bad):2}  " \
           f"missing {len(missing):2}  unexpected {len(unexpected):2}  outputs apart {apart:.1e}  from file {off:.1e}"
    for word, what in (("differing", bad), ("missing", missing), ("unexpected", unexpected), ("config fields", fields)):
        if what: line += f"\n{'':18}{word}: {', '.join(what[:12])}{', ...' if len(what) > 12 else ''}"
    return ok, line


def listing(name: str) -> str:
    def short(k): return re.sub(r"\bexperts\.\d+\.", "experts.{e}.", re.sub(r"\b(layers?|h)\.\d+\.", r"\1.{i}.", k))
    seen = {}
    for k, v in disk_tensors(folder / name).items(): seen.setdefault((short(k), v.shape, str(v.dtype)), []).append(k)
    files = "  ".join(f"{f.name} {f.stat().st_size}" for f in sorted((folder / name).iterdir()))
    rows = [f"  {k} {list(s)} {t} x{len(ks)}" for (k, s, t), ks in seen.items()]
    return "\n".join([f"# {name}: {files}", *rows, (folder / name / "config.json").read_text()])


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("families", nargs="*", help=f"from {', '.join(FAMILIES)}; all if none is given")
    p.add_argument("--round-trip", action="store_true", help="load and save with attnax instead, and compare")
    p.add_argument("--list", action="store_true", help="print what lies on disk")
    args = p.parse_args()
    names = args.families or list(FAMILIES)
    if wrong := set(names) - set(FAMILIES): p.error(f"unknown families {sorted(wrong)}")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if args.list: print("\n".join(map(listing, names)))
    elif args.round_trip:
        sys.path.insert(0, str(root))
        from attnax.pretrained import load_pretrained, save_pretrained
        good = []
        for name in names:
            for old in (False, True):
                ok, line = round_trip(name, folder / name, load_pretrained, save_pretrained, old=old)
                print(line, flush=True)
                good.append(ok)
        print(f"{sum(good)} of {len(good)} come back bit for bit")
        return int(not all(good))
    else:
        for name in names: print(make(name, folder / name), flush=True)
        if "deepseek_v3" in names: print(make_fp8(folder.parent / "fp8.npz"))
        if "gpt_oss" in names: print(make_mxfp4(folder.parent / "mxfp4.npz"))
    return 0


if __name__ == "__main__": sys.exit(main())
