"""Record what Hugging Face transformers makes of changed configs of every family, for tests/test_configs.py.

    pip install torch transformers
    python tools/make_config_fixtures.py               # every family again
    python tools/make_config_fixtures.py llama vit     # only these
    python tools/make_config_fixtures.py --trace llama # and say why transformers refuses what it refuses

For each family nbs/fixtures/configs/FAMILY.json holds

- `base`, the config.json of a tiny model;
- `default`, the config that transformers makes of `{}`;
- `one`, for each field the values it was given in the base, and what came of them;
- `two`, pairs of such changes, and what came of them;
- `prints`, the outputs: a fixed random projection of everything the model gives back for one input, in float32.

What came of a change is the number of a row of `prints`; -1 where transformers refuses the config, fails when it runs, or
gives numbers that are not finite; -2 where the model that the config asks for is too large to be run here. A field that is
left out is written as "<absent>".

Weights are drawn by numpy from the name and the shape of each tensor, so that none need be stored. The committed files come
from torch 2.13 and transformers 5.24, on a CPU; elsewhere the last digits of the prints may differ.
"""
import argparse
import itertools
import json
import math
import os
import resource
import shutil
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

ABSENT, REFUSED, LARGE = "<absent>", -1, -2
FOLDER = Path(__file__).resolve().parent.parent / "nbs" / "fixtures" / "configs"
LIMIT = 1_500_000                    # parameters of a model that is still run
MEMORY = 6 * 2**30                   # bytes of address space
NUMBERS = 12                         # in a print
DINO = ("dinov2", "dinov2_with_registers", "dinov3_vit")
PICTURES = ("vit", *DINO)            # families that look at pictures
TOWERS = ("text_config", "vision_config")
PAIRS = ("clip", "siglip")           # families of two towers


# ---- What both sides share: no torch here

def changed(base: dict, change: dict) -> dict:
    """A config with some of its fields changed; "text_config.hidden_act" is a field of an object in it."""
    out = {n: v for n, v in (base | change).items() if not (isinstance(v, str) and v == ABSENT)}
    for name in [n for n in out if "." in n and n.split(".")[0] in TOWERS]:
        tower, inner = name.split(".")
        out[tower] = (out.get(tower) or {}) | {inner: out.pop(name)}
    return out


def flat(base: dict) -> dict:
    """A config whose towers are fields of their own: "text_config.hidden_act"."""
    inside = {f"{tower}.{n}": v for tower in TOWERS if tower in base for n, v in base[tower].items()}
    return {n: v for n, v in base.items() if n not in TOWERS} | inside


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of a tensor. Embeddings are small, so that the epsilon of a norm after them is seen."""
    rng = np.random.default_rng(zlib.crc32(f"{name} {tuple(map(int, shape))}".encode()))
    if not shape: return np.asarray(0.5 * rng.standard_normal(), np.float32)
    x = rng.standard_normal(shape)
    if "norm" in name.lower() or ".ln_" in name: return (0.3 * x + ("weight" in name)).astype(np.float32)
    if "embed" in name or ".wte" in name or ".wpe" in name: return (0.02 * x).astype(np.float32)
    return (0.5 * x / math.sqrt(shape[-1] if len(shape) > 1 else 4)).astype(np.float32)


def inputs(family: str, image_size=16, channels: int = 3, mels: int = 8, length: int = 24) -> dict:
    """The one input of a family; a picture and a spectrogram have the size that the config says."""
    rng = np.random.default_rng(7)
    ids = rng.integers(3, 40, (2, 12))
    if family in (*PAIRS, *PICTURES):
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        pixels = {"pixel_values": rng.standard_normal((2, channels, *size)).astype(np.float32)}
        ids[0, 5] = ids[1, 7] = 50   # the end of a text; further on stands the largest id
        ids[:, 9] = 55
        return pixels if family in PICTURES else pixels | {"input_ids": ids}
    if family == "whisper": return {"input_features": rng.standard_normal((2, mels, length)).astype(np.float32),
                                    "decoder_input_ids": ids}
    if family == "t5": return {"input_ids": ids, "decoder_input_ids": ids[:, ::-1].copy()}
    if family == "bert": return {"input_ids": ids, "token_type_ids": (ids > 20).astype(np.int64)}
    return {"input_ids": ids}


def fingerprint(*outputs: np.ndarray) -> np.ndarray:
    """A few numbers that change when any output does."""
    parts = []
    for x in outputs:
        x = np.asarray(x, np.float64).ravel()
        direction = np.random.default_rng(x.size).standard_normal((NUMBERS // len(outputs), x.size))
        parts.append(direction @ x / math.sqrt(x.size))
    return np.concatenate(parts)


# ---- The families

TINY = dict(vocab_size=61, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4)
GQA = dict(TINY, num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-3)
ROPE = dict(rope_parameters=dict(rope_type="default", rope_theta=100.0))
DINO_TINY = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, image_size=16, patch_size=4, layer_norm_eps=1e-3)
YARN = dict(rope_type="yarn", factor=2.0, original_max_position_embeddings=32)
BASES = {
    "llama": ("LlamaForCausalLM", dict(GQA, **ROPE)),
    "mistral": ("MistralForCausalLM", dict(GQA, **ROPE, sliding_window=5)),
    "mixtral": ("MixtralForCausalLM", dict(GQA, **ROPE, num_local_experts=4)),
    "ministral3": ("Ministral3ForCausalLM", dict(GQA, head_dim=6, sliding_window=7, pad_token_id=0, rope_parameters=dict(
        YARN, original_max_position_embeddings=4, rope_theta=100.0, llama_4_scaling_beta=0.5))),
    "qwen2": ("Qwen2ForCausalLM", dict(GQA, **ROPE, use_sliding_window=True, sliding_window=5, max_window_layers=1)),
    "qwen3": ("Qwen3ForCausalLM", dict(GQA, **ROPE, head_dim=6, use_sliding_window=True, sliding_window=5, max_window_layers=1)),
    "smollm3": ("SmolLM3ForCausalLM", dict(GQA, **ROPE, no_rope_layer_interval=2, pad_token_id=0)),
    "granite": ("GraniteForCausalLM", dict(GQA, **ROPE, embedding_multiplier=6.0, attention_multiplier=0.2,
                                           residual_multiplier=0.4, logits_scaling=3.0)),
    "phi3": ("Phi3ForCausalLM", dict(
        GQA, sliding_window=7, pad_token_id=0, original_max_position_embeddings=8, rope_parameters=dict(
            rope_theta=100.0, rope_type="longrope", short_factor=[1.0, 1.5], long_factor=[2.0, 7.0]))),
    "qwen2_moe": ("Qwen2MoeForCausalLM", dict(GQA, **ROPE, num_hidden_layers=3, decoder_sparse_step=2, num_experts=4,
                                              num_experts_per_tok=2, moe_intermediate_size=12,
                                              shared_expert_intermediate_size=20, use_sliding_window=True, sliding_window=5)),
    "qwen3_moe": ("Qwen3MoeForCausalLM", dict(GQA, **ROPE, num_hidden_layers=3, mlp_only_layers=[1], num_experts=4, head_dim=6,
                                              num_experts_per_tok=2, moe_intermediate_size=12, use_sliding_window=True,
                                              sliding_window=5)),
    "olmo2": ("Olmo2ForCausalLM", dict(GQA, **ROPE)),
    "olmo3": ("Olmo3ForCausalLM", dict(GQA, layer_types=["sliding_attention", "full_attention"], sliding_window=5,
                                       rope_parameters={n: dict(rope_type="default", rope_theta=100.0)
                                                        for n in ("full_attention", "sliding_attention")})),
    "deepseek_v3": ("DeepseekV3ForCausalLM", dict(
        GQA | ROPE | dict(num_key_value_heads=4), first_k_dense_replace=1, q_lora_rank=8, kv_lora_rank=10, qk_nope_head_dim=5,
        qk_rope_head_dim=4, v_head_dim=3, n_routed_experts=8, n_group=4, topk_group=2, num_experts_per_tok=2,
        moe_intermediate_size=12, n_shared_experts=1)),
    "gemma2": ("Gemma2ForCausalLM", dict(GQA, **ROPE, head_dim=6, query_pre_attn_scalar=9, sliding_window=5,
                                         attn_logit_softcapping=2.0, final_logit_softcapping=3.0)),
    "gemma3_text": ("Gemma3ForCausalLM", dict(
        GQA, head_dim=6, query_pre_attn_scalar=9, sliding_window=5, layer_types=["sliding_attention", "full_attention"],
        rope_parameters=dict(sliding_attention=dict(rope_type="default", rope_theta=20.0),
                             full_attention=dict(rope_type="linear", factor=2.0, rope_theta=100.0)))),
    "gpt_oss": ("GptOssForCausalLM", dict(
        GQA, num_local_experts=4, num_experts_per_tok=2, head_dim=6, sliding_window=5, rope_parameters=dict(
            rope_type="yarn", rope_theta=100.0, factor=4.0, original_max_position_embeddings=16, beta_fast=3.0, truncate=False))),
    "gpt2": ("GPT2LMHeadModel", dict(vocab_size=61, n_embd=16, n_head=4, n_layer=2, n_inner=24, n_positions=32,
                                     layer_norm_epsilon=1e-3, bos_token_id=60, eos_token_id=60)),
    "bert": ("BertModel", dict(TINY, max_position_embeddings=32, layer_norm_eps=1e-3)),
    "roberta": ("RobertaForMaskedLM", dict(TINY, max_position_embeddings=32, layer_norm_eps=1e-3)),
    "xlm-roberta": ("XLMRobertaForMaskedLM", dict(TINY, max_position_embeddings=32, layer_norm_eps=1e-3, type_vocab_size=1)),
    "camembert": ("CamembertForMaskedLM", dict(TINY, max_position_embeddings=32, layer_norm_eps=1e-3)),
    "mpnet": ("MPNetForMaskedLM", dict(TINY, max_position_embeddings=32, layer_norm_eps=1e-3)),
    "distilbert": ("DistilBertForMaskedLM", dict(vocab_size=61, dim=16, n_heads=4, n_layers=2, hidden_dim=24,
                                                 max_position_embeddings=32)),
    "modernbert": ("ModernBertForMaskedLM", dict(
        TINY, num_hidden_layers=4, max_position_embeddings=64, norm_eps=1e-3, local_attention=6, bos_token_id=2, cls_token_id=2,
        eos_token_id=3, sep_token_id=3, pad_token_id=1, rope_parameters=dict(
            full_attention=dict(rope_type="default", rope_theta=100.0),
            sliding_attention=dict(rope_type="default", rope_theta=10.0)))),
    "vit": ("ViTForImageClassification", {n: v for n, v in TINY.items() if n != "vocab_size"} | dict(
        image_size=16, patch_size=4, layer_norm_eps=1e-3, num_labels=5)),
    "dinov2": ("Dinov2Model", dict(DINO_TINY, mlp_ratio=2)),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", dict(DINO_TINY, mlp_ratio=2, num_register_tokens=2)),
    "dinov3_vit": ("DINOv3ViTModel", dict(DINO_TINY, intermediate_size=24, num_register_tokens=2)),
    "clip": ("CLIPModel", dict(
        text_config=dict(TINY, max_position_embeddings=32, layer_norm_eps=1e-3, eos_token_id=50), projection_dim=12,
        vision_config=dict(hidden_size=20, intermediate_size=28, num_hidden_layers=2, num_attention_heads=2, image_size=16,
                           patch_size=4, layer_norm_eps=1e-3))),
    "siglip": ("SiglipModel", dict(
        text_config=dict(TINY, max_position_embeddings=32, layer_norm_eps=1e-3),
        vision_config=dict(hidden_size=16, intermediate_size=28, num_hidden_layers=2, num_attention_heads=2, image_size=16,
                           patch_size=4, layer_norm_eps=1e-3))),
    "whisper": ("WhisperForConditionalGeneration", dict(
        vocab_size=61, d_model=16, num_mel_bins=8, encoder_layers=2, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=20, max_source_positions=12, max_target_positions=16,
        bos_token_id=58, eos_token_id=58, pad_token_id=58, decoder_start_token_id=60, begin_suppress_tokens=[1, 58])),
    "t5": ("T5ForConditionalGeneration", dict(
        vocab_size=61, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_decoder_layers=1, num_heads=4, layer_norm_epsilon=1e-3,
        relative_attention_num_buckets=8, relative_attention_max_distance=9, decoder_start_token_id=0))}

# Says nothing about the computation, and stands in most files or in many: attnax may refuse none of these values
EVERYDAY = dict(
    use_cache=[True, False], dtype=["float32", "bfloat16", None, ABSENT], torch_dtype=["float32", "float16", None],
    _name_or_path=["somebody/something", ""], transformers_version=["4.31.0", None, ABSENT], return_dict=[True, False],
    output_attentions=[False], output_hidden_states=[False, True], initializer_range=[0.5, 0.0],
    bos_token_id=[0, 5, None, ABSENT], eos_token_id=[5, [5, 6], None, ABSENT], architectures=[None, ABSENT],
    gradient_checkpointing=[True, False], problem_type=["regression", None], finetuning_task=["sst-2", None],
    tokenizer_class=["PreTrainedTokenizerFast", None], task_specific_params=[{"summary": {"length": 3}}, None],
    temperature=[0.7], top_k=[50], top_p=[0.9], do_sample=[True, False], max_length=[20], min_length=[0], num_beams=[1, 4],
    repetition_penalty=[1.2], length_penalty=[1.0], early_stopping=[False], no_repeat_ngram_size=[0, 3],
    bad_words_ids=[None, [[3]]], num_return_sequences=[1], output_scores=[False], prefix=[None], pruned_heads=[{}],
    torchscript=[False, True], use_bfloat16=[False, True], remove_invalid_values=[False], tie_encoder_decoder=[False],
    cross_attention_hidden_size=[None], chunk_size_feed_forward=[0], sep_token_id=[None, 3], mask_token_id=[4],
    typical_p=[1.0], diversity_penalty=[0.0], encoder_no_repeat_ngram_size=[0], exponential_decay_length_penalty=[None],
    forced_bos_token_id=[None, 5], forced_eos_token_id=[5], suppress_tokens=[None, [1, 2]], label2id=[{"A": 0, "B": 1}, None],
    _attn_implementation=["eager", "sdpa"], _attn_implementation_autoset=[True, False], _commit_hash=["ab12", None],
    unsloth_fixed=[True], unsloth_version=["2025.1.1"], adapters=[{}], keys_to_ignore_at_inference=[["past_key_values"]])
DROPOUTS = {
    "gpt2": ("attn_pdrop", "embd_pdrop", "resid_pdrop", "summary_first_dropout"),
    "bert": ("attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout"),
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert", "mpnet"), (
        "attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout")),
    "distilbert": ("dropout", "attention_dropout", "qa_dropout", "seq_classif_dropout"),
    "modernbert": ("attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout"),
    "vit": ("attention_probs_dropout_prob", "hidden_dropout_prob"),
    **dict.fromkeys(DINO[:2], ("attention_probs_dropout_prob", "hidden_dropout_prob")),
    "whisper": ("attention_dropout", "dropout", "activation_dropout", "encoder_layerdrop", "decoder_layerdrop"),
    "t5": ("dropout_rate", "classifier_dropout"),
    **dict.fromkeys(PAIRS, ("text_config.attention_dropout", "vision_config.attention_dropout"))}
EVERYDAY_OF = {
    "llama": dict(pretraining_tp=[1, 2], rope_interleaved=[False], is_llama_config=[True], pad_token_id=[0, 5, None, -1]),
    "mistral": dict(pad_token_id=[0, 5, None, -1]),
    "mixtral": dict(pad_token_id=[0, 5, None, -1], output_router_logits=[False, True], router_aux_loss_coef=[0.5],
                    router_jitter_noise=[0.0, 0.1]),
    "ministral3": dict(pad_token_id=[0, 5, None]),
    "qwen2": dict(pad_token_id=[0, 5, None]), "qwen3": dict(pad_token_id=[0, 5, None]),
    "smollm3": dict(pretraining_tp=[2], pad_token_id=[0, 5, None]),
    "granite": dict(pad_token_id=[0, 5, None]),
    "phi3": dict(pad_token_id=[0, 5, None], resid_pdrop=[0.1], embd_pdrop=[0.1], full_attn_mod=[1], interpolate_factor=[1],
                 lm_head_bias=[False], mlp_bias=[False], attention_bias=[False]),
    "qwen2_moe": dict(pad_token_id=[0, 5, None], output_router_logits=[True], router_aux_loss_coef=[0.5]),
    "qwen3_moe": dict(pad_token_id=[0, 5, None], output_router_logits=[True], router_aux_loss_coef=[0.5]),
    "olmo2": dict(pad_token_id=[0, 5, None]), "olmo3": dict(pad_token_id=[0, 5, None]),
    "deepseek_v3": dict(pad_token_id=[0, 5, None], output_router_logits=[True], ep_size=[1], aux_loss_alpha=[0.001],
                        seq_aux=[True], num_mtp_layers=[0, 1], num_nextn_predict_layers=[1, 2], pretraining_tp=[1]),
    "gemma2": dict(cache_implementation=["hybrid"], pad_token_id=[0, 5, None], hidden_act=["gelu_pytorch_tanh", "silu"]),
    "gemma3_text": dict(cache_implementation=["hybrid"], pad_token_id=[0, 5, None]),
    "gpt_oss": dict(pad_token_id=[0, 5, None], output_router_logits=[False], router_aux_loss_coef=[0.9]),
    "gpt2": dict(summary_type=["mean"], summary_use_proj=[False], summary_activation=["tanh"], summary_proj_to_labels=[False],
                 n_ctx=[32, 16], id2label=[{"0": "A", "1": "B", "2": "C"}], num_labels=[3], pad_token_id=[0, 5, None]),
    "bert": dict(position_embedding_type=["absolute"], directionality=["bidi"], pooler_type=["first_token_transform"],
                 pooler_fc_size=[768], pooler_num_attention_heads=[12], pooler_num_fc_layers=[3], pooler_size_per_head=[128],
                 id2label=[{"0": "A", "1": "B", "2": "C"}], num_labels=[3], pad_token_id=[0, 5, None]),
    **{name: dict(position_embedding_type=["absolute"], id2label=[{"0": "A", "1": "B", "2": "C"}], num_labels=[3],
                  output_past=[True]) for name in ("roberta", "xlm-roberta", "camembert")},
    "mpnet": dict(pad_token_id=[0, 5, None], relative_attention_num_buckets=[32]),
    "distilbert": dict(pad_token_id=[0, 5, None], tie_weights_=[True], sinusoidal_pos_embds=[False, True]),
    "modernbert": dict(
        pad_token_id=[0, 5, None], cls_token_id=[0, 5], initializer_cutoff_factor=[3.0], reference_compile=[True, False, None],
        classifier_pooling=["mean", "cls"], deterministic_flash_attn=[True, False], sparse_prediction=[False],
        sparse_pred_ignore_index=[-100, -1], repad_logits_with_grad=[False, True], position_embedding_type=["absolute"]),
    "vit": dict(encoder_stride=[16, 4]),
    **{name: dict(apply_layernorm=[False], reshape_hidden_states=[False], out_features=[ABSENT], stage_names=[ABSENT],
                  layerscale_value=[1e-5, ABSENT], num_labels=[3], **dict.fromkeys(
                      ("pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale") if name == "dinov3_vit" else (), [1.5, None]))
       for name in DINO},
    "clip": {"logit_scale_init_value": [1.0], "initializer_factor": [0.5], "text_config.pad_token_id": [0, None],
             "text_config.projection_dim": [8], "vision_config.projection_dim": [8], "text_config_dict": [None]},
    "siglip": {"initializer_factor": [0.5], "text_config.pad_token_id": [0, None], "text_config.eos_token_id": [5, None],
               "text_config.bos_token_id": [5, None]},
    "whisper": dict(init_std=[0.1], mask_time_prob=[0.2], mask_time_length=[3], mask_time_min_masks=[1], mask_feature_prob=[0.1],
                    mask_feature_length=[3], mask_feature_min_masks=[1], classifier_proj_size=[8], median_filter_width=[3],
                    begin_suppress_tokens=[None, [2]], decoder_start_token_id=[1], forced_decoder_ids=[[[1, 5]]],
                    max_length=[16], scale_embedding=[False], pad_token_id=[0, 5, None], apply_spec_augment=[False]),
    "t5": dict(pad_token_id=[0, 5, None], decoder_start_token_id=[3], n_positions=[512], output_past=[True],
               initializer_factor=[0.5, 2.0], is_decoder=[True], classifier_dropout=[0.3])}

# Values that a field may well have
ACTS = ["silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "relu", "quick_gelu", "swish", "tanh", "relu2"]
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
YARNS = [{"factor": None}, {"factor": 4.0, "original_max_position_embeddings": 8}, {"mscale": 0.7, "mscale_all_dim": 0.5},
         {"mscale": 0.7}, {"mscale": 0, "mscale_all_dim": 0.5}, {"attention_factor": 0.8}, {"attention_factor": 0},
         {"truncate": False}, {"truncate": None}, {"beta_fast": 4, "beta_slow": 0.5}, {"beta_fast": None, "beta_slow": 0},
         {"beta_fast": 1.0, "beta_slow": 2.0}, {"factor": 0.5}, {"factor": 1.0}, {"rope_theta": 1.0}, {"rope_theta": 0.5}]
LONGROPE = dict(rope_type="longrope", original_max_position_embeddings=8, short_factor=[1.0, 1.5], long_factor=[2.0, 7.0])
LONGROPES = [{}, {"original_max_position_embeddings": 32}, {"original_max_position_embeddings": 1}, {"factor": 3.0},
             {"factor": None}, {"factor": 0.5}, {"attention_factor": 1.5}, {"attention_factor": 0}, {"long_factor": [2.0]},
             {"short_factor": [1, 1, 2], "long_factor": [2, 3, 7]}, {"short_factor": None}, {"long_factor": [0.0, 1.0]}]
ROPES = [
    {"rope_theta": 1000.0}, {"rope_theta": 1000.0, "rope_type": "default"}, {"rope_type": "default"}, {"rope_theta": 50},
    {"rope_theta": 100.0, "rope_type": "linear", "factor": 4.0}, {"rope_theta": 100.0, "rope_type": "linear"},
    {"rope_theta": 100.0, "type": "linear", "factor": 2.0}, {"type": "linear", "factor": 2.0, "rope_type": "default"},
    {"rope_theta": 100.0, "rope_type": "linear", "factor": 1.0}, {"rope_theta": 100.0, "rope_type": "linear", "factor": 0.5},
    LLAMA3 | {"rope_theta": 100.0}, LLAMA3, {n: v for n, v in LLAMA3.items() if n != "original_max_position_embeddings"},
    {n: v for n, v in LLAMA3.items() if n != "factor"}, LLAMA3 | {"factor": 0}, LLAMA3 | {"low_freq_factor": 4.0},
    {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 100.0}, YARN | {"rope_theta": 100.0}, {"rope_type": "nonsense"},
    *({"rope_theta": 100.0} | YARN | more for more in YARNS), *({"rope_theta": 100.0} | LONGROPE | more for more in LONGROPES),
    {"rope_theta": 100.0, "partial_rotary_factor": 0.5}, {"rope_theta": 100.0, "partial_rotary_factor": 1.0},
    {"rope_theta": None}, {"rope_theta": "100"}, {"rope_theta": 0}, {"rope_theta": -5.0}, {"rope_theta": True},
    {"rope_theta": 100.0, "rope_type": None}, {"rope_theta": 100.0, "factor": 2.0}, {"rope_theta": 100.0, "swizzle": 3},
    {"full_attention": {"rope_type": "default", "rope_theta": 50.0},
     "sliding_attention": {"rope_type": "default", "rope_theta": 9.0}},
    [], {}, None, False, 0, "", "linear", [1], 3]
OLD_ROPES = [{"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}, {"type": "dynamic", "factor": 2.0},
             LLAMA3, {"type": "yarn", "factor": 2.0}, {"factor": 2.0}, {"type": "default"}, {}, None, False, "linear", [1]]
LAYERS = [["full_attention"] * 2, ["sliding_attention"] * 2, ["full_attention", "sliding_attention"],
          ["sliding_attention", "full_attention"], ["full_attention"], ["full_attention", "nonsense"],
          ["full_attention", "chunked_attention"], "full_attention", [], None, ["full_attention", 3]]
DECODER = dict(
    vocab_size=[50, 97], hidden_size=[24, 32, 18, 8], intermediate_size=[40, 1], num_hidden_layers=[1, 3],
    num_attention_heads=[2, 8, 3, 1], num_key_value_heads=[4, 1, 3], head_dim=[4, 6, 2, 5, 8], max_position_embeddings=[32, 4096],
    rms_norm_eps=[1e-6, 1e-5, 1e-2, 1], hidden_act=ACTS, tie_word_embeddings=[True, False], rope_parameters=ROPES,
    rope_scaling=OLD_ROPES, rope_theta=[1000.0, 10000, 50.0, "100", -1.0, True], partial_rotary_factor=[1.0, 0.5],
    attention_bias=[True, False], mlp_bias=[True, False], sliding_window=[4, 5, 11, 12, 100, 1, None], attention_dropout=[0.1],
    is_causal=[True, False], is_decoder=[True, False], add_cross_attention=[False], is_encoder_decoder=[False],
    quantization_config=[{"quant_method": "gptq", "bits": 4}], auto_map=[{"AutoConfig": "x.Config"}], swizzle=[3, None, False, 0],
    use_bidirectional_attention=[True, False, None], attn_logit_softcapping=[2.0, None], qk_layernorm=[True, False],
    per_layer_config=[None], tie_last_hidden_states=[None], layer_types=LAYERS, rope_type=["linear"], num_experts=[None, 2],
    use_sliding_window=[True, False], max_window_layers=[0, 1, 2, 28], n_embd=[24])
KINDS = [{"full_attention": full, "sliding_attention": slides} for full, slides in (
    ({"rope_theta": 9.0}, {"rope_theta": 50}), ({"rope_theta": 9.0}, None), (None, {"rope_theta": 50.0}), ({}, {}),
    (YARN | {"rope_theta": 9.0}, {}), (YARN | {"truncate": False}, {}), ({}, YARN), ({}, LLAMA3), (LLAMA3, {}),
    ({"rope_type": "dynamic", "factor": 2.0}, {}), ({"type": "linear", "factor": 3}, {}), ({"rope_theta": None}, {}),
    (LONGROPE | {"short_factor": [1, 1, 2], "long_factor": [2, 3, 7]}, {}), (LONGROPE, {}), ({"rope_type": "nonsense"}, {}),
    ({"rope_theta": 9.0, "swizzle": 3}, {}), ({"rope_theta": -1}, {}), (3, {}), ({}, []))]
GEMMA = dict(hidden_activation=ACTS, query_pre_attn_scalar=[16, 256, 9.0, 1], final_logit_softcapping=[5.0, 30, None],
             attn_logit_softcapping=[5.0, 50, None, 0.5])
QWEN_MOE = dict(num_experts=[2, 5, 1, 0], num_experts_per_tok=[1, 3, 4, 5], moe_intermediate_size=[8, 24], norm_topk_prob=[True],
                decoder_sparse_step=[1, 2, 3, 4], mlp_only_layers=[[0], [1], [0, 1, 2], [7, -1], [], None, ["0"], [True], 1],
                max_window_layers=[0, 1, 2, 28])
CLASSIC = dict(
    vocab_size=[50, 97], hidden_size=[24, 32, 18], intermediate_size=[40, 64], num_hidden_layers=[1, 3], hidden_act=ACTS,
    num_attention_heads=[2, 8, 3, 1], max_position_embeddings=[16, 64], layer_norm_eps=[1e-6, 1e-5, 1e-12, 1e-2, 1],
    tie_word_embeddings=[True, False], is_causal=[True, False], is_decoder=[False, True], add_cross_attention=[False, True],
    quantization_config=[{"quant_method": "gptq"}], auto_map=[{"AutoConfig": "x.Config"}], swizzle=[3, None, False, 0],
    attention_bias=[True], head_dim=[4, 6], is_encoder_decoder=[False], rope_theta=[100.0], sliding_window=[3], n_embd=[24],
    use_bidirectional_attention=[True], per_layer_config=[None])
DINO_VALUES = dict(
    hidden_size=[24, 32, 18], num_hidden_layers=[1, 3], hidden_act=ACTS, num_attention_heads=[2, 8, 3, 1],
    layer_norm_eps=[1e-6, 1e-5, 1e-2], image_size=[8, 20, 18, [8, 16], [16, 16], [16], 32], patch_size=[8, 2, 5, [4, 8], [4, 4]],
    num_channels=[1, 4], drop_path_rate=[0.1], is_causal=[True], head_dim=[8], swizzle=[3, None], is_decoder=[True],
    quantization_config=[{"quant_method": "gptq"}], attention_bias=[True])
GRANITE = ("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling")
VALUES = {name: DECODER for name in ("llama", "mistral")} | {
    "qwen2": DECODER, "qwen3": DECODER,
    "mixtral": DECODER | dict(num_local_experts=[2, 3, 1], num_experts_per_tok=[1, 3, 4, 5], num_experts=[4, 2]),
    "ministral3": DECODER | dict(rope_parameters=[{"rope_theta": 100.0} | YARN | more for more in (
        {"llama_4_scaling_beta": 0.5}, {"llama_4_scaling_beta": 0.5, "original_max_position_embeddings": 6},
        {"llama_4_scaling_beta": 0.25, "original_max_position_embeddings": 4, "max_position_embeddings": 64},
        {"llama_4_scaling_beta": 0}, {"llama_4_scaling_beta": -0.1}, {"llama_4_scaling_beta": None}, {},
        {"llama_4_scaling_beta": "0.1"}, {"llama_4_scaling_beta": 0.5, "mscale": 1.0, "mscale_all_dim": 0.5},
        {"llama_4_scaling_beta": 0.5, "original_max_position_embeddings": 3, "rope_type": "default"},
        {"llama_4_scaling_beta": 0.5, "original_max_position_embeddings": 3, "rope_type": "linear"},
        {"llama_4_scaling_beta": 0.5, "original_max_position_embeddings": None})]
        + [{"rope_theta": 100.0}, None, {}, LLAMA3 | {"rope_theta": 100.0, "llama_4_scaling_beta": 0.5}]),
    "smollm3": DECODER | dict(no_rope_layer_interval=[1, 2, 3, 4], no_rope_layers=[
        [1, 1], [0, 0], [0, 1], [0, 1, 1, 0], [1], [], None, ABSENT, "10", [1, 2], [1, "0"], [1, 0.0]]),
    "granite": DECODER | {n: [0.5, 1.0, 1, 2, 12.0, 0, -1.0, None] for n in GRANITE},
    "phi3": DECODER | dict(
        resid_pdrop=[0.1], embd_pdrop=[0.1], original_max_position_embeddings=[4, 12, 11, 64, 4096, 1, None, ABSENT],
        partial_rotary_factor=[1.0, 0.5, 0.75, 0.3, 0.0, None],
        rope_parameters=[{"rope_theta": 100.0} | LONGROPE | more for more in (
            *LONGROPES[2:6], {"type": "su"}, {"rope_type": "su"}, {"rope_type": "yarn"},
            {"partial_rotary_factor": 0.5, "short_factor": [2.0], "long_factor": [5.0]},
            {"partial_rotary_factor": 0.5}, {"partial_rotary_factor": 0.5, "rope_type": "default"},
            {"partial_rotary_factor": 0.2, "rope_type": "default"}, {"rope_type": "linear", "factor": 2.0})]
        + [{"rope_theta": 50.0}, {"partial_rotary_factor": 0.5}, None, {}],
        rope_scaling=[{n: v for n, v in LONGROPE.items() if n not in drop} | more for drop, more in (
            ((), {}), (("rope_type", "original_max_position_embeddings"), {"type": "longrope"}),
            (("rope_type", "original_max_position_embeddings"), {"type": "su"}), (("rope_type",), {"type": "yarn"}))] + [None]),
    "qwen2_moe": DECODER | QWEN_MOE | dict(
        shared_expert_intermediate_size=[8, 24], qkv_bias=[False],
        layer_types=[["full_attention"] * 3, ["sliding_attention"] * 3]),
    "qwen3_moe": DECODER | QWEN_MOE | dict(num_local_experts=[2, 5, 1, 0], shared_expert_intermediate_size=[8]),
    "olmo2": DECODER | dict(clip_qkv=[5.0, None]),
    "olmo3": DECODER | dict(rope_parameters=[
        {}, None, {"full_attention": {"rope_type": "default", "rope_theta": 50.0}, "sliding_attention": {"rope_theta": 9.0}},
        {"full_attention": {"rope_theta": 50.0}}, {"sliding_attention": {"rope_type": "default", "rope_theta": 50.0}},
        {"full_attention": LLAMA3 | {"rope_theta": 100.0}}, {"full_attention": YARN | {"rope_theta": 100.0}},
        {"full_attention": YARN}, {"sliding_attention": YARN | {"rope_theta": 100.0}}, {"full_attention": None},
        {"full_attention": {"rope_type": "linear", "factor": 2.0}, "sliding_attention": None}, {"rope_theta": 50.0},
        {"full_attention": {"rope_theta": 50.0}, "swizzle": {}}, {"full_attention": {"rope_theta": 50.0, "swizzle": 3}}]),
    "deepseek_v3": DECODER | dict(
        num_key_value_heads=[2, 8, 1], qk_nope_head_dim=[4, 8, 1], qk_rope_head_dim=[2, 8, 3], v_head_dim=[4, 8, 1],
        q_lora_rank=[None, 4, 12], kv_lora_rank=[4, 12], n_routed_experts=[4, 16, 6], n_group=[1, 2, 8, 3],
        topk_group=[1, 3, 4, 5],
        num_experts_per_tok=[1, 3, 4, 5], n_shared_experts=[2, 0], first_k_dense_replace=[0, 2, 5], norm_topk_prob=[False, None],
        routed_scaling_factor=[1.0, 2, 0.5], rope_interleave=[False, None], head_dim=[4, 8], qk_head_dim=[9],
        moe_intermediate_size=[8, 24], scoring_func=["sigmoid"], topk_method=["noaux_tc"], moe_layer_freq=[1, 2],
        num_local_experts=[8], rope_parameters=[
            {"rope_theta": 50.0}, *({"rope_theta": 100.0} | YARN | more for more in (
                {}, {"mscale": 1.0, "mscale_all_dim": 1.0}, {"mscale": 0.7, "mscale_all_dim": 0.5}, {"mscale_all_dim": 0.5})),
            {"rope_theta": 100.0, "rope_type": "linear", "factor": 4.0}, LONGROPE | {"rope_theta": 100.0},
            {"rope_theta": 100.0, "rope_type": "linear", "factor": 4.0, "mscale_all_dim": 1.0}],
        rope_scaling=[{"type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 1.0,
                       "original_max_position_embeddings": 16}, None]),
    "gemma2": DECODER | GEMMA,
    "gemma3_text": {n: v for n, v in (DECODER | GEMMA).items()
                    if n not in ("hidden_act", "mlp_bias", "num_experts", "n_embd")} | dict(
        rope_parameters=[*KINDS, *ROPES[:12:4], *ROPES[-12:], {"full_attention": {"rope_theta": 50.0}},
                         {"sliding_attention": {"rope_theta": 50.0}}, {"chunked_attention": {"rope_theta": 50.0}}],
        rope_local_base_freq=[7.0, None, "7", -1.0], sliding_window_pattern=[1, 2, 3, 0, None, "2"], max_window_layers=[1]),
    "gpt_oss": DECODER | dict(
        num_local_experts=[2, 3, 1], num_experts_per_tok=[1, 3, 4, 5], num_experts=[4, 2], swiglu_alpha=[1.702, 1.0],
        swiglu_limit=[7.0, 3.0, None], experts_per_token=[2, 3], initial_context_length=[16, 4096],
        rope_parameters=[YARN | {"rope_theta": 100.0}, YARN | {"rope_theta": 100.0, "truncate": False}, {"rope_theta": 50.0}, {},
                         None, LLAMA3 | {"rope_theta": 100.0}]),
    "bert": CLASSIC | dict(type_vocab_size=[3, 2], position_embedding_type=["relative_key", "relative_key_query"]),
    **{name: CLASSIC | dict(type_vocab_size=[3, 2, 1], position_embedding_type=["relative_key", "relative_key_query"],
                            pad_token_id=[0, 5, 31, 32, 60, 61, -1, None, True, "1"])
       for name in ("roberta", "xlm-roberta", "camembert")},
    "mpnet": CLASSIC | dict(relative_attention_num_buckets=[16, 31, 33, 64]),
    "distilbert": CLASSIC | dict(dim=[24, 32, 18], hidden_dim=[40, 64], n_layers=[1, 3], n_heads=[2, 8, 3, 1], activation=ACTS),
    "modernbert": CLASSIC | dict(
        hidden_activation=ACTS, norm_eps=[1e-6, 1e-5, 1e-2, 1], norm_bias=[True, False], attention_bias=[True, False],
        mlp_bias=[True, False], decoder_bias=[True, False], classifier_bias=[True, False], classifier_activation=["relu", "silu"],
        local_attention=[4, 5, 7, 9, 1, 2, 100], global_attn_every_n_layers=[1, 2, 3, 4, 9, 0],
        layer_types=[[k + "_attention" for k in kinds.split()] for kinds in (
            "full full full full", "sliding sliding sliding sliding", "sliding full sliding full", "full",
            "full full full nonsense",
            "full sliding sliding full full")] + ["full_attention"],
        global_rope_theta=[1000.0, 50], local_rope_theta=[30.0, 50], rope_theta=[50.0], rope_scaling=OLD_ROPES,
        rope_parameters=[
            {"full_attention": {"rope_theta": 50.0}}, {"sliding_attention": {"rope_theta": 50.0}},
            {"full_attention": {"rope_type": "default", "rope_theta": 50.0}, "sliding_attention": None}, {}, None,
            {"full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 100.0}},
            {"full_attention": LLAMA3 | {"rope_theta": 100.0}}, {"full_attention": YARN | {"rope_theta": 100.0}},
            {"rope_type": "default", "rope_theta": 50.0}, {"full_attention": {"rope_theta": 50.0, "swizzle": 3}},
            [], 3, "linear"]),
    "vit": CLASSIC | dict(
        image_size=[8, 20, 18, [8, 16], [16, 16], [16], 32], patch_size=[8, 2, 5, [4, 8], [4, 4]], num_channels=[1, 4],
        qkv_bias=[True, False], id2label=[{"0": "A", "1": "B", "2": "C"}, {"0": "A"}, {}, None], num_labels=[3, 2, None],
        architectures=[["ViTForImageClassification"]], pooler_act=["relu"], pooler_output_size=[None, 16]),
    **{name: DINO_VALUES | dict(
        mlp_ratio=[1, 3, 4], use_swiglu_ffn=[True], qkv_bias=[False],
        **(dict(use_mask_token=[False, ABSENT]) if name == "dinov2" else dict(num_register_tokens=[0, 1, 4])))
       for name in DINO[:2]},
    "dinov3_vit": DINO_VALUES | dict(
        intermediate_size=[40, 1], num_register_tokens=[0, 1], use_gated_mlp=[True], rope_theta=[50.0, 10000.0, 1.0, 50],
        key_bias=[True], **dict.fromkeys(("query_bias", "value_bias", "proj_bias", "mlp_bias"), [False]),
        rope_parameters=[{"rope_theta": 50.0}], qkv_bias=[False]),
    "gpt2": CLASSIC | dict(
        n_embd=[24, 32, 18], n_head=[2, 8, 3, 1], n_layer=[1, 3], n_inner=[40, 64, None], n_positions=[16, 64],
        layer_norm_epsilon=[1e-6, 1e-5, 1e-2, 1], activation_function=ACTS, scale_attn_weights=[True, False],
        scale_attn_by_inverse_layer_idx=[True, False], reorder_and_upcast_attn=[True, False], add_cross_attention=[False, True]),
    "whisper": {n: v for n, v in CLASSIC.items() if n not in ("hidden_act", "layer_norm_eps", "hidden_size")} | dict(
        d_model=[24, 32, 18], encoder_layers=[1, 3], decoder_layers=[2, 3], encoder_attention_heads=[2, 8, 3],
        decoder_attention_heads=[4, 8, 3], encoder_ffn_dim=[40], decoder_ffn_dim=[40], max_source_positions=[12, 16],
        max_target_positions=[12, 40], num_mel_bins=[16, 4], activation_function=ACTS, scale_embedding=[False, True],
        use_weighted_layer_sum=[False, True], apply_spec_augment=[False, True], is_encoder_decoder=[True, False],
        num_hidden_layers=[1, 5], hidden_act=["relu"], layer_norm_eps=[1e-3], hidden_size=[24]),
    "t5": dict(
        vocab_size=[70], d_model=[24, 18], d_kv=[4, 10, 7], d_ff=[40], num_layers=[1, 3], num_decoder_layers=[2, 3, None, ABSENT],
        num_heads=[2, 3], layer_norm_epsilon=[1e-6, 1e-2, 1], is_encoder_decoder=[True, False], tie_word_embeddings=[True, False],
        scale_decoder_outputs=[False, ABSENT], is_gated_act=[True, ABSENT], dense_act_fn=[*ACTS, ABSENT],
        feed_forward_proj=["gelu", "gated-gelu", "gated-silu", "relu-gelu", ABSENT],
        relative_attention_num_buckets=[4, 10, 32, 2, 7, 1], relative_attention_max_distance=[5, 4, 2, 128])}

BLOCKS = dict(hidden_size=[24, 16, 18, 40], intermediate_size=[40], num_hidden_layers=[1, 3], num_attention_heads=[1, 8, 3],
              layer_norm_eps=[1e-6, 1e-2, 1], hidden_act=ACTS, is_causal=[True, False], swizzle=[3, None], head_dim=[8])
LOOKS = dict(image_size=[8, 32, 18, [16, 8]], patch_size=[2, 8, 3, [4, 4]], num_channels=[1], is_decoder=[True])
WORDS = dict(vocab_size=[97, 56], max_position_embeddings=[16, 40], is_decoder=[False, True],
             use_bidirectional_attention=[True], tie_word_embeddings=[True, False])


def towers(text: dict, vision: dict, **more) -> dict:
    """Values of the fields of both towers, and of fields beside them."""
    return {f"text_config.{n}": v for n, v in text.items()} | {f"vision_config.{n}": v for n, v in vision.items()} | more | dict(
        text_config=[3], vision_config=[[1]], is_causal=[False, True], swizzle=[3], quantization_config=[{"bits": 4}])


SMALL = dict(TINY, max_position_embeddings=16)
VALUES |= {
    "clip": towers(BLOCKS | WORDS | dict(eos_token_id=[2, 55, 3, 61, [50, 55], None]), BLOCKS | LOOKS, projection_dim=[8, None],
                   text_config_dict=[{}, SMALL, SMALL | dict(eos_token_id=50), SMALL | dict(eos_token_id=2, swizzle=3), 3],
                   vision_config_dict=[dict(BASES["clip"][1]["vision_config"], hidden_act="gelu", num_attention_heads=4)]),
    "siglip": towers(BLOCKS | WORDS | dict(projection_size=[16, 24, None]), BLOCKS | LOOKS | dict(vision_use_head=[True, False]),
                     text_config_dict=[SMALL])}
EXPERTS = ("num_experts", "num_local_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob",
           "decoder_sparse_step", "mlp_only_layers", "max_window_layers", "sliding_window", "use_sliding_window", "layer_types",
           "qkv_bias", "shared_expert_intermediate_size", "attention_bias", "intermediate_size")
IN_TOWERS = tuple(f"{tower}.{n}" for tower in TOWERS for n in ("eos_token_id", "projection_size", "hidden_act", "image_size",
                                                               "hidden_size", "is_causal", "vision_use_head"))
# Families that stand on the reader of another: of these fields all values that may well be, of others few
FEW = {
    **dict.fromkeys(DINO, ("hidden_size", "num_attention_heads", "hidden_act", "image_size", "patch_size", "mlp_ratio",
                           "use_swiglu_ffn", "num_register_tokens", "use_mask_token", "qkv_bias", "key_bias", "query_bias",
                           "value_bias", "proj_bias", "mlp_bias", "use_gated_mlp", "rope_theta", "intermediate_size")),
    "t5": ("d_kv", "num_decoder_layers", "is_encoder_decoder", "tie_word_embeddings", "scale_decoder_outputs", "is_gated_act",
           "dense_act_fn", "feed_forward_proj", "relative_attention_num_buckets", "relative_attention_max_distance"),
    **dict.fromkeys(PAIRS, (*IN_TOWERS, "text_config_dict", "vision_config_dict", "projection_dim")),
    "granite": (*GRANITE, "attention_bias", "mlp_bias", "head_dim"),
    "phi3": ("original_max_position_embeddings", "partial_rotary_factor", "rope_parameters", "rope_scaling", "sliding_window"),
    "ministral3": ("rope_parameters", "sliding_window", "head_dim", "rope_scaling"),
    "smollm3": ("no_rope_layer_interval", "no_rope_layers", "layer_types", "use_sliding_window", "sliding_window", "mlp_bias",
                "attention_bias", "num_hidden_layers"),
    "qwen2_moe": EXPERTS, "qwen3_moe": EXPERTS,
    "gpt_oss": ("num_local_experts", "num_experts_per_tok", "num_experts", "swiglu_alpha", "swiglu_limit", "experts_per_token",
                "initial_context_length", "layer_types", "sliding_window", "rope_parameters", "attention_bias",
                "num_hidden_layers"),
    "deepseek_v3": ("num_key_value_heads", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "q_lora_rank", "kv_lora_rank",
                    "n_routed_experts", "n_group", "topk_group", "num_experts_per_tok", "n_shared_experts", "norm_topk_prob",
                    "first_k_dense_replace", "routed_scaling_factor", "rope_interleave", "rope_parameters", "rope_scaling"),
    "olmo2": ("num_attention_heads", "num_key_value_heads", "head_dim", "rms_norm_eps", "attention_bias", "rope_parameters"),
    "olmo3": ("layer_types", "sliding_window", "rope_parameters", "rope_scaling", "num_key_value_heads", "head_dim",
              "attention_bias")}

FALSY = [None, False, 0, 0.0, "", [], {}]
WRONG = {int: ["3", -1, 2.5, 4.0, True, [4], math.nan, 2**20], float: ["0.1", -1.0, math.nan, math.inf, [0.1], True, {}],
         bool: [1, "true", "false", [True]], str: [3, "nonsense", ["silu"], True, "SiLU"]}


def singles(family: str, base: dict) -> dict[str, list]:
    """For each field, the values that it is given."""
    base = flat(base)
    out: dict[str, list] = {}
    def add(name, values):
        for v in values:
            said, there = json.dumps(v), out.setdefault(name, [])
            if said != json.dumps(base.get(name, ABSENT)) and said not in map(json.dumps, there): there.append(v)
    everyday = EVERYDAY | EVERYDAY_OF[family] | dict.fromkeys(DROPOUTS.get(family, ("attention_dropout",)), [0.0, 0.2])
    for name, values in everyday.items(): add(name, values)
    # what says nothing of a whole model says nothing of a tower
    for name in (n for n in base if "." in n and n not in VALUES[family]):
        if name.split(".")[-1] in (*EVERYDAY, "initializer_factor"): everyday[name] = []
    for name, values in VALUES[family].items(): add(name, values)
    for name in base:
        if name.split(".")[-1] in ("model_type", "architectures", "transformers_version"): continue
        add(name, [ABSENT])
        if name not in everyday or name == "pad_token_id": add(name, FALSY)
    for name in ("is_causal", "sliding_window", "rope_theta", "attention_bias", "tie_word_embeddings"):
        if name in VALUES[family]: add(name, FALSY)
    for name, value in base.items():
        kind = {"head_dim": int, "sliding_window": int, "num_key_value_heads": int}.get(name, type(value))
        if name not in everyday and name.split(".")[-1] != "model_type" and kind in WRONG: add(name, WRONG[kind])
    return {name: values for name, values in few(family, base, out).items() if values}


def few(family: str, base: dict, out: dict[str, list]) -> dict[str, list]:
    """The same, for a family among `FEW` with fewer values: two of a field that the base has, one of others."""
    if family not in FEW: return out
    rng = np.random.default_rng(zlib.crc32(f"{family} few".encode()))
    def some(name, values):
        likely = [v for v in values if name in FEW[family] and v in VALUES[family].get(name, ())]
        rest, count = [v for v in values if v not in likely], 3 if name.startswith("rope") else 2 if name in base else 1
        return likely + [rest[i] for i in sorted(rng.permutation(len(rest))[:count])]
    return {name: some(name, values) for name, values in out.items()}


def pairs(family: str, base: dict, one: dict, count: int = 60) -> list[dict]:
    """Two changes at once, of those that mean something each."""
    pool = [(n, v) for n, values in one.items() for v in values
            if n in VALUES[family] or n in base and (v is None or v == ABSENT)]
    pool = [(n, v) for n, v in pool if n not in EVERYDAY and n not in ("swizzle", "auto_map", "quantization_config")]
    if family in FEW: count = 25
    pool = [(n, v) for n, v in pool if n not in TOWERS]
    rng, out = np.random.default_rng(zlib.crc32(family.encode())), []
    while len(out) < count:
        (a, x), (b, y) = (pool[i] for i in rng.integers(0, len(pool), 2))
        if a != b: out.append({a: x, b: y})
    if family == "smollm3":
        for turns, kinds, used, window in itertools.product((ABSENT, [0, 1]), (ABSENT, LAYERS[2]), (True, False), (4, None)):
            out.append({"no_rope_layers": turns, "layer_types": kinds, "use_sliding_window": used, "sliding_window": window})
        for n, interval in itertools.product((1, 3), (1, 2, 4)):
            none = dict.fromkeys(("no_rope_layers", "layer_types"), ABSENT)
            out.append(none | {"num_hidden_layers": n, "no_rope_layer_interval": interval})
    if family == "olmo3":
        for ropes, scaling, theta in itertools.product((ABSENT, {"full_attention": {"rope_theta": 50.0}}), (None, YARN, LLAMA3),
                                                       (ABSENT, 5e5, 1000.0)):
            out.append({"rope_parameters": ropes, "rope_scaling": scaling, "rope_theta": theta})
    if family == "t5":   # as files were before transformers 5, and what wins over what
        older = dict.fromkeys(("scale_decoder_outputs", "dense_act_fn", "is_gated_act"), ABSENT)
        for tied, act in itertools.product((ABSENT, True, False, None), ("relu", "gated-gelu", "gelu", "gated-silu")):
            out.append(older | {"tie_word_embeddings": tied, "feed_forward_proj": act})
        for act, gated in itertools.product(("gelu", "gelu_new", "silu"), (True, False, ABSENT)):
            out.append({"dense_act_fn": act, "is_gated_act": gated, "feed_forward_proj": "gated-gelu"})
    if family in FEW: return out
    if "rope_parameters" in base and family not in ("gemma3_text", "modernbert"):
        new = {"rope_type": "linear", "factor": 2.0}
        olds = ({"type": "linear", "factor": 4.0}, LLAMA3, None)
        for a, b in itertools.product((ABSENT, {"rope_theta": 50.0}, new, {}, None), olds):
            out.append({"rope_parameters": a, "rope_scaling": b, "rope_theta": 1000.0})
        for a in (ABSENT, {"rope_theta": 50.0}, new, {}, None): out.append({"rope_parameters": a, "rope_theta": 1000.0})
        for a in (YARN, LLAMA3, {"type": "dynamic", "factor": 2.0}, {"type": "yarn", "factor": None}, LONGROPE):
            out.append({"rope_scaling": a, "max_position_embeddings": 8})
            out.append({"rope_scaling": a, "original_max_position_embeddings": 6})
    if family in ("qwen2", "qwen3", "gemma2", "mistral", "mixtral"):
        for kinds, used, window in itertools.product((ABSENT, LAYERS[2], LAYERS[0]), (True, False, ABSENT), (4, None, ABSENT)):
            out.append({"layer_types": kinds, "use_sliding_window": used, "sliding_window": window})
    if family == "gemma3_text":   # as files were before transformers 5
        for scaling, full, slides, turn in itertools.product((ABSENT, None, {"rope_type": "linear", "factor": 3.0}, YARN),
                                                             (ABSENT, 50.0), (ABSENT, 7), (ABSENT, 2)):
            out.append(dict(rope_parameters=ABSENT, layer_types=ABSENT, rope_scaling=scaling, rope_theta=full,
                            rope_local_base_freq=slides, sliding_window_pattern=turn))
    if family == "modernbert":
        for every, kinds in itertools.product((1, 2, ABSENT), (ABSENT, None)):
            out.append({"layer_types": kinds, "global_attn_every_n_layers": every})
        for full, local, said in itertools.product((50.0, ABSENT), (30.0, ABSENT), (ABSENT, None, {"full_attention": {}})):
            out.append({"rope_parameters": said, "global_rope_theta": full, "local_rope_theta": local})
        for scaling in OLD_ROPES[:4]: out.append({"rope_parameters": ABSENT, "rope_scaling": scaling})
    if family == "vit":
        for labels, number in itertools.product((ABSENT, {"0": "A", "1": "B", "2": "C"}), (3, 4, ABSENT)):
            out.append({"id2label": labels, "label2id": ABSENT, "num_labels": number})
    return out


# ---- What transformers makes of them

class Oracle:
    """Loads a config as transformers reads it from a folder, and runs the model with drawn weights."""
    def __init__(self, family: str):
        os.environ["HF_HUB_OFFLINE"], os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1", "1"
        import torch
        import transformers
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        torch.set_num_threads(1)
        self.torch, self.family, (name, self.said) = torch, family, BASES[family]
        self.model, self.config = getattr(transformers, name), getattr(transformers, name).config_class
        self.folder, self.cache, self.kept = Path(tempfile.mkdtemp()), {}, {}

    def base(self) -> dict:
        """The base as transformers writes it."""
        config = self.config(**self.said)
        config.architectures = [self.model.__name__]
        config.save_pretrained(self.folder)
        return json.loads((self.folder / "config.json").read_text())

    def default(self) -> dict:
        """What an empty config means."""
        return json.loads(json.dumps(self.config.from_dict({}).to_dict(), default=str))

    def read(self, config: dict):
        """The config, by way of a file."""
        (self.folder / "config.json").write_text(json.dumps(config))
        return self.config.from_pretrained(self.folder)

    def shapes(self, read) -> dict | None:
        """Names and shapes of the parameters; None where they are too many. Nothing is allocated."""
        parts = [read, *(getattr(read, n) for n in TOWERS if self.family in PAIRS)]
        counts = ("num_hidden_layers", "encoder_layers", "decoder_layers", "num_decoder_layers")
        if max(n for n in (getattr(c, n, 0) for c in parts for n in counts) if isinstance(n, int)) > 100: return None
        looks = parts[-1]
        if self.family in (*PICTURES, *PAIRS):
            if np.prod(np.broadcast_to(looks.image_size, 2) / np.broadcast_to(looks.patch_size, 2)) > 1000: return None
        with self.torch.device("meta"): model = self.model(read)
        sizes = {n: tuple(p.shape) for n, p in model.named_parameters()}
        return sizes if sum(map(math.prod, sizes.values())) <= LIMIT else None

    def weigh(self, read, sizes: dict) -> None:
        """Write the weights that such a model has on disk, drawn from their names and shapes."""
        from safetensors.numpy import load_file, save_file
        file = self.folder / f"{zlib.crc32(repr(sorted(sizes.items())).encode())}.safetensors"
        if not file.exists():
            self.model(read).float().save_pretrained(self.folder / "made", max_shard_size="10GB")
            found = load_file(self.folder / "made" / "model.safetensors")
            save_file({n: draw(n, x.shape) for n, x in found.items()}, file, metadata={"format": "pt"})
            shutil.rmtree(self.folder / "made")
        shutil.copy(file, self.folder / "model.safetensors")

    def run(self, config: dict) -> np.ndarray | int:
        """What comes of a config."""
        self.why, torch = "", self.torch
        try:
            read = self.read(config)
            key = read.to_json_string(use_diff=False)
            if key in self.cache: return self.cache[key]
            self.cache[key] = REFUSED
            sizes = self.shapes(read)
            if sizes is None: out = LARGE
            else:
                self.weigh(read, sizes)
                (self.folder / "config.json").write_text(json.dumps(config))
                model = self.model.from_pretrained(self.folder, dtype=torch.float32).eval()
                of = {}
                if self.family in PICTURES: of = dict(image_size=read.image_size, channels=read.num_channels)
                if self.family in PAIRS:
                    of = dict(image_size=read.vision_config.image_size, channels=read.vision_config.num_channels)
                if self.family == "whisper": of = dict(mels=read.num_mel_bins, length=2 * read.max_source_positions)
                given = {n: torch.tensor(x) for n, x in inputs(self.family, **of).items()}
                # the towers have a `return_dict` of their own
                more = {} if self.family in PAIRS else dict(return_dict=True, output_hidden_states=self.family == "vit")
                with torch.no_grad(): got = model(**given, **more)
                if self.family == "bert": outputs = (got.last_hidden_state, got.pooler_output)
                elif self.family in DINO:   # the registers are never read out
                    count = getattr(read, "num_register_tokens", 0)
                    outputs = (torch.cat([got.last_hidden_state[:, :1], got.last_hidden_state[:, 1 + count:]], 1),)
                elif self.family in PAIRS: outputs = (got.logits_per_image, got.image_embeds, got.text_embeds)
                else: outputs = (got.logits,)
                out = fingerprint(*(x.numpy() for x in outputs))
                if not np.isfinite(out).all(): self.why, out = "not finite", REFUSED
        except Exception as e:   # whatever it is: transformers does not do this config
            self.why, out = f"{type(e).__name__}: {str(e)[:150]}", REFUSED
        else: self.cache[key] = out
        return out


def record(family: str, trace: bool) -> dict:
    """All changes of a family."""
    oracle, prints = Oracle(family), []
    base = oracle.base()
    def outcome(change):
        out = oracle.run(changed(base, change))
        if trace and isinstance(out, int): print(f"   {json.dumps(change)}: {out} {oracle.why}")
        if isinstance(out, int): return out
        for i, known in enumerate(prints):
            if np.allclose(known, out, rtol=0, atol=1e-6 * abs(known).max()): return i
        prints.append(out)
        return len(prints) - 1
    if outcome({}) != 0: raise SystemExit(f"{family}: the base does not run: {oracle.why}")
    one = singles(family, base)
    said = {n: [[v, outcome({n: v})] for v in values] for n, values in sorted(one.items())}
    two = [[c, outcome(c)] for c in pairs(family, base, one)]
    shutil.rmtree(oracle.folder)
    return dict(base=base, default=oracle.default(), one=said, two=two, prints=[[float(f"{x:.7g}") for x in p] for p in prints])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help=", ".join(BASES))
    parser.add_argument("--trace", action="store_true", help="say what transformers refuses, and why")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))   # whatever a changed config asks for
    FOLDER.mkdir(parents=True, exist_ok=True)
    for family in args.families or BASES:
        got = record(family, args.trace)
        lines = [f'"base": {json.dumps(got["base"])}', f'"default": {json.dumps(got["default"])}']
        lines.append('"one": {\n' + ",\n".join(f" {json.dumps(n)}: {json.dumps(v, separators=(',', ':'))}"
                                               for n, v in got["one"].items()) + "}")
        for part in ("two", "prints"):
            lines.append(f'"{part}": [\n' + ",\n".join(" " + json.dumps(v, separators=(",", ":")) for v in got[part]) + "]")
        path = FOLDER / f"{family}.json"
        path.write_text("{" + ",\n".join(lines) + "}\n")
        all_of = [o for v in got["one"].values() for _, o in v] + [o for _, o in got["two"]]
        print(f"{family:8} {len(all_of)} changes, {sum(o == REFUSED for o in all_of)} refused, {sum(o == LARGE for o in all_of)} "
              f"too large, {len(got['prints'])} different outputs, {path.stat().st_size // 1024} KiB", file=sys.stderr)


if __name__ == "__main__": main()
