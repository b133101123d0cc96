#!/usr/bin/env python3
"""GGUF goldens: files by llama.cpp's own writer (the package `gguf`), answers by transformers' models over the weights that they stand for.

In       nothing but seeds
Out      gguf/NAME.gguf, gguf/NAME.json: a tiny model a family, and what transformers' class answers with the weights that `gguf` dequantises
         gguf/blocks.json.gz: a few blocks of each type of weights, and the floats that `gguf` makes of them
Layout   as llama.cpp's convert_hf_to_gguf.py writes: Llama's query and key rows permuted, 1 added to Gemma's norms. Where transformers reads
         the family from GGUF itself, it must give the same logits, or the layout here were wrong
Errors   refuses a golden whose greedy ids are nearly undecided, and draws the next seed

    python3 make_gguf.py [--only NAME]      # versions of requirements.txt
"""
import argparse
import base64
import gzip
import json
import re
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers as T
from gguf import GGMLQuantizationType as Q

OUT = Path(__file__).resolve().parent / "gguf"
MIN_GAP = 0.01
NEW_TOKENS = 12
BLOCK_TYPES = [Q.F32, Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q2_K, Q.Q3_K, Q.Q4_K, Q.Q5_K, Q.Q6_K, Q.IQ4_NL, Q.IQ4_XS,
               Q.MXFP4]  # fmt: skip

# Where a block's float16 scales stand, and by what the one for offsets is larger, so that random codes spread around 0.
SCALES = {
    Q.F16: [(0, 1)], Q.BF16: [(0, 1)], Q.Q4_0: [(0, 1)], Q.Q4_1: [(0, 1), (2, -7.5)], Q.Q5_0: [(0, 1)], Q.Q5_1: [(0, 1), (2, -15.5)],
    Q.Q8_0: [(0, 1)], Q.Q2_K: [(80, 1), (82, 1.5)], Q.Q3_K: [(108, 1)], Q.Q4_K: [(0, 1), (2, 7.5)], Q.Q5_K: [(0, 1), (2, 15.5)],
    Q.Q6_K: [(208, 1)], Q.IQ4_NL: [(0, 1)], Q.IQ4_XS: [(0, 1)],
}  # fmt: skip


def random_blocks(kind, count, deviation, rng):
    """Blocks of random codes whose weights have about this deviation."""
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    if kind == Q.MXFP4:
        blocks[:, 0] = 127 + np.floor(np.log2(deviation / 2)) + rng.integers(-1, 2, count)
    for scale in (1.0, None) if kind in SCALES else ():
        if scale is None:
            with np.errstate(all="ignore"):
                scale = deviation / max(gguf.quants.dequantize(blocks, kind).std(), 1e-9)
        for place, factor in SCALES[kind]:
            halves = (factor * scale * rng.uniform(0.7, 1.3, (count, 1))).astype(np.float16)
            blocks[:, place : place + 2] = halves.view(np.uint8)
    return blocks


def stored(shape, kind, deviation, rng):
    """@returns the array as it is written, and the floats that it stands for"""
    plain = (rng.standard_normal(shape) * deviation).astype(np.float32)
    if kind in (Q.F32, Q.F16):
        raw = plain.astype(np.float16 if kind == Q.F16 else np.float32)
        return raw, raw.astype(np.float32)
    try:
        raw = gguf.quants.quantize(plain, kind)
    except NotImplementedError:
        weights, size = gguf.GGML_QUANT_SIZES[kind]
        rows, columns = shape
        raw = random_blocks(kind, rows * columns // weights, deviation, rng).reshape(rows, columns // weights * size)
    return raw, gguf.quants.dequantize(raw, kind)


def unpermute(weight, heads):
    """Rows of llama.cpp's order in the order of Hugging Face's: the inverse of its converter's `permute`."""
    return weight.reshape(heads, weight.shape[0] // heads // 2, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


LAYER = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
FOUR_NORMS = {"post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}
MOE = {"ffn_gate_inp": "mlp.gate"}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 32, "beta_fast": 4.0, "beta_slow": 1.0}
LATENTS = {"kv_lora_rank": 32, "qk_nope_head_dim": 32, "qk_rope_head_dim": 8, "v_head_dim": 32, "moe_intermediate_size": 32, "n_routed_experts": 8,
           "num_experts_per_tok": 3, "n_shared_experts": 2, "first_k_dense_replace": 1, "rms_norm_eps": 0.02, "tie_word_embeddings": False}  # fmt: skip
TINY = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 260, "max_position_embeddings": 128, "bos_token_id": 256, "eos_token_id": 257}  # fmt: skip
SMALL_TYPES = [Q.Q8_0, Q.Q4_1, Q.Q5_0, Q.Q4_0, Q.Q5_1, Q.F16, Q.BF16]

FAMILIES = {
    "llama": {
        "config": T.LlamaConfig(**{**TINY, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1, "vocab_size": 132,
                                   "bos_token_id": 1, "eos_token_id": 2}, rms_norm_eps=0.02, tie_word_embeddings=False),
        "types": [Q.Q6_K, Q.Q4_K, Q.Q4_K, Q.Q4_K, Q.Q3_K, Q.Q2_K, Q.IQ4_XS, Q.Q4_K, Q.Q5_K],
    },
    "llama-stretched": {
        "arch": "llama", "reads": False, "factors": True,
        "config": T.LlamaConfig(**TINY, rms_norm_eps=0.02, attention_bias=True, tie_word_embeddings=True,
                                rope_parameters={"rope_type": "longrope", "rope_theta": 10000.0, "attention_factor": 1.0,
                                                 "original_max_position_embeddings": 128, "factor": 1.0,
                                                 "short_factor": [1.0, 1.0, 1.5, 2.5, 4.0, 8.0, 8.0, 8.0],
                                                 "long_factor": [1.0, 1.0, 1.5, 2.5, 4.0, 8.0, 8.0, 8.0]}),
    },
    "qwen2": {"config": T.Qwen2Config(**TINY, rms_norm_eps=0.02, tie_word_embeddings=True), "tokenizer": True},
    "qwen3": {"config": T.Qwen3Config(**TINY, head_dim=32, rms_norm_eps=0.02, tie_word_embeddings=False), "reads": False},
    "gemma": {"reads": False, "plus_one": True, "config": T.GemmaConfig(**TINY, head_dim=32, rms_norm_eps=0.2)},
    "gemma2": {
        "plus_one": True, "layer": FOUR_NORMS, "reads": False,
        "config": T.Gemma2Config(**TINY, head_dim=32, rms_norm_eps=0.2, query_pre_attn_scalar=32, sliding_window=16,
                                 attn_logit_softcapping=20.0, final_logit_softcapping=10.0),
    },
    "gemma3": {
        "plus_one": True, "layer": FOUR_NORMS, "reads": False,
        "config": T.Gemma3TextConfig(**TINY, head_dim=32, rms_norm_eps=0.2, query_pre_attn_scalar=32, sliding_window=16,
                                     layer_types=["sliding_attention", "full_attention"],
                                     rope_parameters={"full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 100000.0},
                                                      "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}),
    },
    "qwen3moe": {
        "reads": False, "layer": MOE,
        "config": T.Qwen3MoeConfig(**TINY, head_dim=32, rms_norm_eps=0.02, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
                                   norm_topk_prob=True, tie_word_embeddings=False),
    },
    "mixtral": {
        "arch": "llama", "reads": False, "layer": MOE,
        "config": T.MixtralConfig(**TINY, rms_norm_eps=0.02, num_local_experts=5, num_experts_per_tok=2, tie_word_embeddings=False),
    },
    "qwen2moe": {
        "reads": False, "mapped": gguf.MODEL_ARCH.QWEN2MOE,
        "config": T.Qwen2MoeConfig(**TINY, rms_norm_eps=0.02, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
                                   shared_expert_intermediate_size=64, norm_topk_prob=False, tie_word_embeddings=False),
    },
    "gpt-oss": {
        "reads": False, "mapped": gguf.MODEL_ARCH.GPT_OSS, "expert_types": [Q.MXFP4, Q.MXFP4, Q.Q4_1],
        "config": T.GptOssConfig(**{**TINY, "intermediate_size": 64}, head_dim=32, rms_norm_eps=0.02, sliding_window=16, num_local_experts=4,
                                 num_experts_per_tok=2, tie_word_embeddings=False, rope_parameters={**YARN, "truncate": False}),
    },
    # As the converter writes them since April 2025, keys and values of latents apart, and as before.
    "deepseek2": {
        "reads": False, "mapped": gguf.MODEL_ARCH.DEEPSEEK2, "apart": True,
        "config": T.DeepseekV3Config(**{**TINY, "num_key_value_heads": 4}, **LATENTS, q_lora_rank=32, n_group=4, topk_group=2,
                                     routed_scaling_factor=1.7, norm_topk_prob=True,
                                     rope_parameters={**YARN, "mscale": 0.7, "mscale_all_dim": 0.7}),
    },
    "deepseek2-lite": {
        "reads": False, "mapped": gguf.MODEL_ARCH.DEEPSEEK2, "arch": "deepseek2",
        "config": T.DeepseekV2Config(**{**TINY, "num_key_value_heads": 4}, **LATENTS, q_lora_rank=None, topk_method="greedy", norm_topk_prob=False,
                                     routed_scaling_factor=1.0),
    },
    "phi3": {"config": T.Phi3Config(**TINY, rms_norm_eps=0.02, sliding_window=16, pad_token_id=0), "reads": False},
}  # fmt: skip


def bytes_tokenizer(writer):
    """Byte-level, a token a byte, one that is two, and three of its own; with a chat template."""
    letters = list(map(chr, [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]))
    letters += [chr(256 + n) for n in range(256 - len(letters))]
    tokens = letters + ["<|begin|>", "<|end|>", "<mine>", "th"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 256 + [3, 3, 4, 1])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    writer.add_add_bos_token(True)
    writer.add_chat_template("{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}")


def describe_latents(writer, config, apart):
    v3 = config.model_type == "deepseek_v3"
    key, value = config.qk_nope_head_dim + config.qk_rope_head_dim, config.v_head_dim
    sizes = {
        "attention.head_count_kv": 1 if apart else config.num_attention_heads, "attention.kv_lora_rank": config.kv_lora_rank,
        "attention.key_length": config.kv_lora_rank + config.qk_rope_head_dim if apart else key,
        "attention.value_length": config.kv_lora_rank if apart else value, "leading_dense_block_count": config.first_k_dense_replace,
        "expert_feed_forward_length": config.moe_intermediate_size, "expert_count": config.n_routed_experts,
        "expert_used_count": config.num_experts_per_tok, "expert_shared_count": config.n_shared_experts,
        "rope.dimension_count": config.qk_rope_head_dim,
    }  # fmt: skip
    if apart:
        sizes |= {"attention.key_length_mla": key, "attention.value_length_mla": value}
    if config.q_lora_rank:
        sizes["attention.q_lora_rank"] = config.q_lora_rank
    if v3:
        sizes |= {"expert_group_count": config.n_group, "expert_group_used_count": config.topk_group, "expert_gating_func": 2}
        writer.add_bool("deepseek2.expert_weights_norm", config.norm_topk_prob)
    for name, number in sizes.items():
        writer.add_uint32(f"deepseek2.{name}", number)
    writer.add_float32("deepseek2.expert_weights_scale", config.routed_scaling_factor)
    if (factor := config.rope_parameters.get("mscale_all_dim")) is not None:
        writer.add_float32("deepseek2.rope.scaling.yarn_log_multiplier", 0.1 * factor)


def describe(writer, arch, config, family):
    latents = arch == "deepseek2"
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters
    whole = rope.get("full_attention", rope)
    for key, value in {
        "context_length": config.max_position_embeddings, "embedding_length": config.hidden_size, "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size, "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads, "attention.key_length": head_dim, "attention.value_length": head_dim, "vocab_size": config.vocab_size,
    }.items():  # fmt: skip
        if not (latents and ("_length" in key and "attention" in key or key.endswith("_kv"))):
            writer.add_uint32(f"{arch}.{key}", value)
    if latents:
        describe_latents(writer, config, family.get("apart"))
    if family.get("layer") is MOE or arch in ("qwen2moe", "gpt-oss"):
        writer.add_uint32(f"{arch}.expert_count", getattr(config, "num_local_experts", None) or config.num_experts)
        writer.add_uint32(f"{arch}.expert_used_count", config.num_experts_per_tok)
    if arch in ("qwen3moe", "qwen2moe"):
        writer.add_uint32(f"{arch}.expert_feed_forward_length", config.moe_intermediate_size)
    if arch == "qwen2moe":
        writer.add_uint32(f"{arch}.expert_shared_feed_forward_length", config.shared_expert_intermediate_size)
    if arch == "gpt-oss":
        writer.add_uint32(f"{arch}.expert_feed_forward_length", config.intermediate_size)
    writer.add_float32(f"{arch}.attention.layer_norm_rms_epsilon", config.rms_norm_eps)
    writer.add_float32(f"{arch}.rope.freq_base", whole["rope_theta"])
    if arch in ("llama", "phi3"):
        writer.add_uint32(f"{arch}.rope.dimension_count", head_dim)
    if whole["rope_type"] == "linear":
        writer.add_string(f"{arch}.rope.scaling.type", "linear")
        writer.add_float32(f"{arch}.rope.scaling.factor", whole["factor"])
    if whole["rope_type"] == "yarn":
        writer.add_string(f"{arch}.rope.scaling.type", "yarn")
        writer.add_float32(f"{arch}.rope.scaling.factor", whole["factor"])
        writer.add_uint32(f"{arch}.rope.scaling.original_context_length", whole["original_max_position_embeddings"])
        writer.add_float32(f"{arch}.rope.scaling.yarn_beta_fast", whole["beta_fast"])
        writer.add_float32(f"{arch}.rope.scaling.yarn_beta_slow", whole["beta_slow"])
    if arch in ("gemma2", "gemma3", "phi3", "gpt-oss"):
        writer.add_uint32(f"{arch}.attention.sliding_window", config.sliding_window)
    if arch == "gemma2":
        writer.add_float32("gemma2.attn_logit_softcapping", config.attn_logit_softcapping)
        writer.add_float32("gemma2.final_logit_softcapping", config.final_logit_softcapping)
    if arch == "gemma3":
        writer.add_uint32("gemma3.attention.sliding_window_pattern", 2)
    if family.get("tokenizer"):
        bytes_tokenizer(writer)


def converter_names(arch, layers):
    """Names by the table that llama.cpp's converter has them from, after what it does to some (conversion/deepseek.py, gpt_oss.py)."""
    table = gguf.get_tensor_name_map(arch, layers)

    def name(hf):
        hf = hf.replace("e_score_correction_bias", "e_score_correction.bias")
        hf = hf + ".weight" if hf.endswith("sinks") else hf
        found = table.get_name(hf, try_suffixes=(".weight", ".bias"))
        assert found, hf
        return found

    return name


def expert_stacks(hf, tensor, config, kinds, rng, put):
    """Writes gate, up and down of all experts of a layer, or their biases, and gives the tensor that they are."""
    stem, (count, *_) = hf.rsplit(".", 1)[0], tensor.shape
    alternate = config.model_type == "gpt_oss"
    roles = ("gate_proj", "up_proj") if "gate_up" in hf else ("down_proj",)
    parts = []
    for role in roles:
        if hf.endswith("_bias"):
            values = rng.uniform(-0.3, 0.3, (count, tensor.shape[1] // len(roles))).astype(np.float32)
            put(f"{stem}.{role}.bias", values, Q.F32)
        else:
            outputs, inputs = tensor.shape[:0:-1] if alternate else tensor.shape[1:]
            rows, kind = outputs // len(roles), next(kinds)
            raw, values = stored((count * rows, inputs), kind, 1.6 / inputs**0.5, rng)
            put(f"{stem}.{role}.weight", raw.reshape(count, rows, -1), kind)
            values = values.reshape(count, rows, inputs)
        parts.append(values)
    joined = np.stack(parts, 2).reshape(count, -1, *parts[0].shape[2:]) if alternate else np.concatenate(parts, 1)
    return joined.swapaxes(1, 2) if alternate and joined.ndim == 3 else joined


def latents_apart(hf, config, kinds, rng, put):
    """Writes the two matrices that keys (turned) and values are made by, and gives the one that they are."""
    heads, rank, plain, value = config.num_attention_heads, config.kv_lora_rank, config.qk_nope_head_dim, config.v_head_dim
    parts = []
    for role, rows, columns in (("k_b_proj", rank, plain), ("v_b_proj", value, rank)):
        kind = next(kinds)
        raw, values = stored((heads * rows, columns), kind, 1.6 / rank**0.5, rng)
        put(hf.replace("kv_b_proj", role), raw.reshape(heads, rows, -1), kind)
        parts.append(values.reshape(heads, rows, columns))
    return np.concatenate([parts[0].swapaxes(1, 2), parts[1]], 1).reshape(-1, rank)


def make(name, family, seed):
    """@returns the golden, or None where it is undecided"""
    rng = np.random.default_rng(seed)
    config, arch = family["config"], family.get("arch", name)
    config.dtype = "float32"
    model = T.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    names = {hf: f"blk.{{}}.{ours}" for ours, hf in {**LAYER, **family.get("layer", {})}.items()}
    if arch == "phi3":
        names["mlp.gate_up_proj"] = "blk.{}.ffn_up"
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{name}.gguf"
    writer = gguf.GGUFWriter(path, arch)
    describe(writer, arch, config, family)
    if family.get("factors"):
        writer.add_tensor("rope_freqs.weight", np.array(config.rope_parameters["short_factor"], np.float32))
    kinds = iter(10_000 * family.get("types", SMALL_TYPES))
    mapped = converter_names(family["mapped"], config.num_hidden_layers) if "mapped" in family else None
    expert_kinds = iter(10_000 * family["expert_types"]) if "expert_types" in family else kinds
    state = {}

    def put(hf, raw, kind):
        writer.add_tensor(mapped(hf), raw, raw_dtype=kind)

    for hf, tensor in model.state_dict().items():
        if hf == "lm_head.weight" and config.tie_word_embeddings:
            continue
        parts = hf.split(".")
        if mapped and ".experts." in hf:
            values = expert_stacks(hf, tensor, config, expert_kinds, rng, put)
            state[hf] = torch.from_numpy(np.ascontiguousarray(values))
            continue
        if family.get("apart") and "kv_b_proj" in hf:
            values = latents_apart(hf, config, kinds, rng, put)
            state[hf] = torch.from_numpy(np.ascontiguousarray(values))
            continue
        if ".experts." in hf:
            # All experts of a layer are one stack here and there; gate above up is two of llama.cpp's.
            count, outputs, inputs = tensor.shape
            roles = ("gate", "up") if hf.endswith("gate_up_proj") else ("down",)
            stacks = []
            for role in roles:
                kind, rows = next(kinds), outputs // len(roles)
                raw, values = stored((count * rows, inputs), kind, 1.6 / inputs**0.5, rng)
                writer.add_tensor(f"blk.{parts[2]}.ffn_{role}_exps.weight", raw.reshape(count, rows, -1), raw_dtype=kind)
                stacks.append(values.reshape(count, rows, inputs))
            state[hf] = torch.from_numpy(np.ascontiguousarray(np.concatenate(stacks, 1)))
            continue
        ours = mapped(hf) if mapped else whole.get(hf) or names[".".join(parts[3:-1])].format(parts[2]) + f".{parts[-1]}"
        shape = tuple(tensor.shape)
        if len(shape) == 1:
            plus = 1 if family.get("plus_one") else 0
            base = 0 if plus or parts[-1].endswith("bias") or parts[-1] == "sinks" else 1.0
            values = (base + rng.uniform(-0.3, 0.3, shape)).astype(np.float32)
            raw = (values + np.float32(plus)).astype(np.float32) if hf.endswith("norm.weight") else values
            values = raw - np.float32(plus) if hf.endswith("norm.weight") else values
            kind = Q.F32
        else:
            kind = Q.F32 if re.search(r"mlp\.(gate|router|shared_expert_gate)\.", hf) else next(kinds)
            # Attention peaked, and the stream large enough that layers matter.
            raw, values = stored(shape, kind, (1.0 if "embed" in hf or "lm_head" in hf else 1.6) / shape[1] ** 0.5, rng)
        if arch == "llama" and ("q_proj" in hf or "k_proj" in hf):
            values = unpermute(values, config.num_attention_heads if "q_proj" in hf else config.num_key_value_heads)
        if "shared_expert_gate" in hf:
            raw = raw[0]  # as published files have it
        writer.add_tensor(ours, raw, raw_dtype=kind)
        state[hf] = torch.from_numpy(np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    missing = model.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and missing.missing_keys in ([], ["lm_head.weight"]), missing
    model.tie_weights()
    prompts = [answer(model, rng.integers(3, config.vocab_size - 4, length).tolist()) for length in (5, 40)]
    if family.get("reads", True):
        # transformers' own reading of the file.
        other = T.AutoModelForCausalLM.from_pretrained(OUT, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager").eval()
        ids = torch.tensor([prompts[1]["ids"]])
        with torch.inference_mode():
            difference = (other(ids).logits - model(ids).logits).abs().max().item()
        assert difference < 1e-4, f"{name}: transformers reads another model: {difference}"
    if min(prompt.pop("gap") for prompt in prompts) < MIN_GAP:
        return None
    golden = {"madeWith": {"gguf": "0.19.0", "transformers": T.__version__}, "seed": seed, "vocabSize": config.vocab_size, "prompts": prompts}
    (OUT / f"{name}.json").write_text(json.dumps(golden) + "\n")
    return golden


def answer(model, ids):
    start, gap = list(ids), np.inf
    logits = None
    with torch.inference_mode():
        for step in range(NEW_TOKENS):
            row = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
            if step == 0:
                logits = row
            best = row.topk(2).values
            gap = min(gap, (best[0] - best[1]).item())
            ids = [*ids, int(row.argmax())]
    return {"ids": start, "greedyIds": ids[len(start) :], "logits": [float(f"{x:.7g}") for x in logits.tolist()], "gap": gap}


def blocks():
    rng = np.random.default_rng(1)
    cases = {}
    for kind in BLOCK_TYPES:
        weights, size = gguf.GGML_QUANT_SIZES[kind]
        count = 3 if weights > 1 else 64
        if kind == Q.F32:
            raw = rng.standard_normal((count, 1)).astype(np.float32).view(np.uint8)
        else:
            raw = random_blocks(kind, count, 0.1, rng)
        if kind in (Q.F16, Q.BF16):
            raw = rng.integers(0, 256, (count, 2), dtype=np.uint8)
            raw[:, 1] &= 0xBF  # no infinity, no NaN
        values = gguf.quants.dequantize(raw, kind).astype(np.float32)
        cases[kind.name] = {"type": int(kind), "bytes": base64.b64encode(raw.tobytes()).decode(),
                            "floats": base64.b64encode(values.tobytes()).decode()}  # fmt: skip
    text = json.dumps(cases).encode()
    with tempfile.TemporaryFile() as scratch, gzip.GzipFile(filename="", fileobj=scratch, mode="wb", mtime=0) as file:
        file.write(text)
        file.close()
        scratch.seek(0)
        (OUT / "blocks.json.gz").write_bytes(scratch.read())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only")
    only = parser.parse_args().only
    torch.manual_seed(0)
    OUT.mkdir(exist_ok=True)
    for name, family in FAMILIES.items():
        if only in (None, name):
            seed = next(seed for seed in range(1, 100) if make(name, family, seed))
            print(f"{name}: seed {seed}, {(OUT / f'{name}.gguf').stat().st_size} bytes")
    if only in (None, "blocks"):
        blocks()
        print(f"blocks: {(OUT / 'blocks.json.gz').stat().st_size} bytes")


if __name__ == "__main__":
    main()
