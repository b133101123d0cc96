"""The tiny checkpoints of test/integration/models/families.test.ts: one or two a decoder family, two layers each.

A row    class of the config, its arguments, stored dtype; how config.json and tensors are spelled where they are published
         (`publish`, `rename`); what the maker must see when it is ignored (`variations`; value: changed keys of the config);
         tensors that change nothing by mathematics (`without_effect`)
Sizes    8 heads mostly, or 12 where the number must not be a power of two (ALiBi's slopes); sizes that no world size divides;
         epsilon of 0.02 (Gemma 0.2, whose stream is larger), because at 1e-5 nobody would see it ignored
"""
import functools
import re

import torch
import transformers as T
from transformers.integrations.mxfp4 import convert_moe_packed_tensors


def classic(config):
    """config.json as transformers wrote it before version 5."""
    rope = config.pop("rope_parameters", None)
    if rope is not None:
        config["rope_theta"] = rope.pop("rope_theta")
        if "partial_rotary_factor" in rope:
            config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
        original = rope.pop("original_max_position_embeddings", None)
        config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
        if original is not None:
            if rope["rope_type"] == "longrope":
                config["original_max_position_embeddings"] = original
            else:
                rope["original_max_position_embeddings"] = original
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    return config


def neox(config):
    classic(config)
    config["rotary_pct"] = config.pop("partial_rotary_factor")
    config["rotary_emb_base"] = config.pop("rope_theta")
    config.pop("rope_scaling")
    return config


def gemma3(config):
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope["full_attention"].pop("rope_theta")
    config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
    config["rope_scaling"] = rope["full_attention"]
    config["torch_dtype"] = config.pop("dtype")
    config["sliding_window_pattern"] = 2
    config.pop("layer_types", None)
    config.pop("_sliding_window_pattern", None)
    return config


def internlm2(config, tensors):
    """As its authors publish it: transformers has no InternLM2, but it is Llama with other names and one tensor for q, k and v.
    Laid out after the model's own modeling_internlm2.py: of each group its queries, its key, its value."""
    classic(config)
    config.update(architectures=["InternLM2ForCausalLM"], model_type="internlm2", bias=False)
    for key in ("attention_bias", "mlp_bias"):
        config.pop(key)
    groups, size = config["num_key_value_heads"], config["head_dim"]
    spelling = {"embed_tokens": "tok_embeddings", "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm",
                "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3",
                "mlp.down_proj": "feed_forward.w2", "lm_head": "output"}  # fmt: skip
    packed = {}
    for name, tensor in tensors.items():
        if "q_proj" in name:
            q, k, v = (tensors[name.replace("q_proj", f"{role}_proj")].unflatten(0, (groups, -1, size)) for role in "qkv")
            packed[name.replace("self_attn.q_proj", "attention.wqkv")] = torch.cat([q, k, v], 1).flatten(0, 2)
        elif not re.search("[kv]_proj", name):
            packed[functools.reduce(lambda text, pair: text.replace(*pair), spelling.items(), name)] = tensor
    return config, packed


def qwen1(config, tensors):
    """As its authors publish it: Qwen2 under GPT-2's names, q, k and v below each other, w1 the up and w2 the gate projection.
    Laid out after the model's own modeling_qwen.py."""
    published = {
        "architectures": ["QWenLMHeadModel"], "model_type": "qwen", "hidden_size": config["hidden_size"],
        "intermediate_size": 2 * config["intermediate_size"], "kv_channels": config["hidden_size"] // config["num_attention_heads"],
        "layer_norm_epsilon": config["rms_norm_eps"], "max_position_embeddings": 32768, "no_bias": True,
        "num_attention_heads": config["num_attention_heads"], "num_hidden_layers": config["num_hidden_layers"],
        "rotary_emb_base": config["rope_parameters"]["rope_theta"], "rotary_pct": 1.0, "scale_attn_weights": True,
        "seq_length": config["max_position_embeddings"], "tie_word_embeddings": False, "torch_dtype": config["dtype"],
        "use_dynamic_ntk": True, "use_logn_attn": True, "vocab_size": config["vocab_size"],
        "bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"],
    }  # fmt: skip
    spelling = {"model.embed_tokens": "transformer.wte", "model.layers": "transformer.h", "model.norm": "transformer.ln_f",
                "input_layernorm": "ln_1", "post_attention_layernorm": "ln_2", "self_attn.o_proj": "attn.c_proj",
                "self_attn.q_proj": "attn.c_attn", "mlp.up_proj": "mlp.w1", "mlp.gate_proj": "mlp.w2",
                "mlp.down_proj": "mlp.c_proj"}  # fmt: skip
    packed = {}
    for name, tensor in tensors.items():
        if re.search("[kv]_proj", name):
            continue
        if "q_proj" in name:
            tensor = torch.cat([tensors[name.replace("q_proj", f"{role}_proj")] for role in "qkv"])
        packed[functools.reduce(lambda text, pair: text.replace(*pair), spelling.items(), name)] = tensor
    return published, packed


def experts_apart(config, tensors, folder, roles):
    """A tensor for each expert, as published; transformers keeps all experts of a layer in one. roles: gate, up, down."""
    classic(config)
    apart = {}
    for name, tensor in tensors.items():
        stem, _, kind = name.rpartition(".experts.")
        stem = re.sub(r"\.mlp$", f".{folder}", stem)
        if kind == "gate_up_proj":
            for expert, both in enumerate(tensor):
                for role, part in zip(roles, both.chunk(2)):
                    apart[f"{stem}.experts.{expert}.{role}.weight"] = part
        elif kind == "down_proj":
            for expert, part in enumerate(tensor):
                apart[f"{stem}.experts.{expert}.{roles[2]}.weight"] = part
        else:
            apart[name.replace(".mlp.gate.", f".{folder}.gate.")] = tensor
    return config, apart


def kimi_k25(config, tensors):
    """As published: DeepSeek V3's tensors, a tensor for each expert, behind the name that other senses' models give a text model."""
    _, apart = experts_apart({"dtype": None}, tensors, "mlp", ("gate_proj", "up_proj", "down_proj"))
    return config, {image_names(name): tensor for name, tensor in apart.items()}


def mixtral(config, tensors):
    return experts_apart(config, tensors, "block_sparse_moe", ("w1", "w3", "w2"))


def qwen_moe(config, tensors):
    return experts_apart(config, tensors, "mlp", ("gate_proj", "up_proj", "down_proj"))


def phimoe(config, tensors):
    config, tensors = experts_apart(config, tensors, "block_sparse_moe", ("w1", "w3", "w2"))
    return config, {name.replace(".mlp.router.", ".block_sparse_moe.gate."): tensor for name, tensor in tensors.items()}


def qwen3_vl_moe(config, tensors):
    """As published: the stacks' matrices are [in, out]."""
    return config, {name: tensor.transpose(1, 2) if ".experts." in name else tensor for name, tensor in tensors.items()}


def draw_xielu(model):
    """Numbers of each layer's own, as far from their first values as training brings them."""
    generator = torch.Generator().manual_seed(12)
    for module in model.modules():
        if type(module).__name__ == "XIELUActivation":
            for parameter in (module.alpha_p, module.alpha_n):
                parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.7 + 0.3)


def granite_moe(config, tensors):
    """As published: all experts in one tensor, gate above up, under names of their own."""
    classic(config)
    spelling = {"block_sparse_moe.experts.gate_up_proj": "block_sparse_moe.input_linear.weight",
                "block_sparse_moe.experts.down_proj": "block_sparse_moe.output_linear.weight",
                "block_sparse_moe.router.weight": "block_sparse_moe.router.layer.weight"}  # fmt: skip
    return config, {functools.reduce(lambda text, pair: text.replace(*pair), spelling.items(), name): tensor for name, tensor in tensors.items()}


def ernie_moe(config, tensors):
    config, tensors = experts_apart(config, tensors, "mlp", ("gate_proj", "up_proj", "down_proj"))
    return config, {name.replace("mlp.gate.moe_statics", "mlp.moe_statics"): tensor for name, tensor in tensors.items()}


def draw_choice_bias(model):
    """Large enough to change which experts are chosen."""
    generator = torch.Generator().manual_seed(11)
    for module in model.modules():
        bias = getattr(module, "e_score_correction_bias", None)
        if bias is not None:
            bias.data.copy_(torch.randn(bias.shape, generator=generator) * 0.2)


E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def to_mxfp4(matrix):
    """[..., n] -> blocks uint8 [..., n/32, 16], scales uint8 [..., n/32]: OCP Microscaling, the even column in the low nibble."""
    groups = matrix.float().unflatten(-1, (-1, 32))
    exponent = torch.floor(torch.log2(groups.abs().amax(-1))) - 2  # the largest magnitude is 6 = 1.5 * 2^2
    scaled = groups / torch.exp2(exponent)[..., None]
    code = (scaled.abs()[..., None] - E2M1).abs().argmin(-1) + 8 * (scaled < 0)
    return (code[..., 0::2] + 16 * code[..., 1::2]).to(torch.uint8), (exponent + 127).to(torch.uint8)


def from_mxfp4(blocks, scales):
    """Written apart from to_mxfp4: the sign is bit 3, then two bits of exponent (bias 1), one of mantissa."""
    nibble = torch.stack([blocks & 15, blocks >> 4], -1).flatten(-2).int()
    exponent, mantissa = (nibble >> 1) & 3, (nibble & 1).float()
    magnitude = torch.where(exponent == 0, mantissa / 2, (1 + mantissa / 2) * torch.exp2(exponent.float() - 1))
    return (torch.where(nibble > 7, -magnitude, magnitude) * torch.exp2(scales.float() - 127)[..., None]).flatten(-2)


EXPERT_STACKS = r"experts\.(gate_up|down)_proj$"


def round_experts(model):
    """Every expert weight to what MXFP4 can say, along its inputs: transformers keeps them [experts, in, out]."""
    for name, p in model.named_parameters():
        if re.search(EXPERT_STACKS, name):
            p.data.copy_(from_mxfp4(*to_mxfp4(p.data.transpose(1, 2))).transpose(1, 2))


def mxfp4(config, tensors):
    """As openai/gpt-oss-20b is published: blocks and scales [experts, out, in / 32, ...]."""
    types = config["layer_types"]
    classic(config)
    config.update(layer_types=types, initial_context_length=32, experts_per_token=config["num_experts_per_tok"], quantization_config={
        "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
        "quant_method": "mxfp4"})  # fmt: skip
    packed = {}
    for name, tensor in tensors.items():
        if re.search(EXPERT_STACKS, name):
            blocks, scales = to_mxfp4(tensor.transpose(1, 2))
            theirs = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
            if not torch.equal(theirs, tensor.float()):
                raise ValueError(f"{name}: transformers unpacks it differently")
            packed[f"{name}_blocks"], packed[f"{name}_scales"] = blocks, scales
        else:
            packed[name] = tensor
    return config, packed


CODES = {}  # of the model that is being made: tensor -> codes [out, in], scales and zero points [out, groups], group of each input
LINEARS = r"layers\..*_proj\.weight$"


def round_to_codes(model, group, is_ordered=False):
    """Every linear of the layers to 4-bit codes: (code - zero) * scale, a scale (float16) and a zero point for a group of inputs.
    is_ordered: a group's inputs lie anywhere, as GPTQ's desc_act leaves them."""
    CODES.clear()
    generator = torch.Generator().manual_seed(7)
    for name, p in model.named_parameters():
        if not re.search(LINEARS, name):
            continue
        out, inputs = p.shape
        groups = torch.arange(inputs) // group
        if is_ordered:
            groups = groups[torch.randperm(inputs, generator=generator)]
        code = torch.empty(out, inputs, dtype=torch.int64)
        scales, zeros = torch.empty(out, inputs // group), torch.empty(out, inputs // group, dtype=torch.int64)
        for index in range(inputs // group):
            part = p.data[:, groups == index]
            low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
            scale = ((high - low) / 15).half().float()
            # 1 to 15: the first format cannot say 0
            zero = torch.round(-low / scale).clamp(1, 15)
            code[:, groups == index] = (torch.round(part / scale[:, None]) + zero[:, None]).clamp(0, 15).long()
            scales[:, index], zeros[:, index] = scale, zero.long()
        p.data.copy_((code - zeros[:, groups]) * scales[:, groups])
        CODES[name] = code, scales, zeros, groups


def words(codes, order):
    """[n, m] of 0 to 15 -> int32 [n, m / 8]; order: which of eight columns stands in a word's 4-bit places, from the lowest on."""
    eight = codes.unflatten(1, (-1, 8))[..., order]
    value = sum(eight[..., place] << (4 * place) for place in range(8))
    return torch.where(value >= 2**31, value - 2**32, value).to(torch.int32)


IN_TURN = [0, 1, 2, 3, 4, 5, 6, 7]


def gptq(version, is_ordered=False, has_biases=False):
    """Laid out after AutoGPTQ's QuantLinear: codes packed along inputs, zero points along outputs, in the first format less one."""

    def repack(config, tensors):
        classic(config)
        config["quantization_config"] = {
            "bits": 4, "group_size": 32, "desc_act": is_ordered, "sym": False, "quant_method": "gptq", "checkpoint_format": version,
            "damp_percent": 0.1, "true_sequential": True}  # fmt: skip
        packed = {}
        for name, tensor in tensors.items():
            if name not in CODES:
                packed[name] = tensor
                continue
            code, scales, zeros, groups = CODES[name]
            stem = name.removesuffix(".weight")
            packed[f"{stem}.qweight"] = words(code, IN_TURN).T
            packed[f"{stem}.qzeros"] = words(zeros.T - (0 if version == "gptq_v2" else 1), IN_TURN)
            packed[f"{stem}.scales"] = scales.T.half()
            packed[f"{stem}.g_idx"] = groups.to(torch.int32)
            if has_biases:
                packed[f"{stem}.bias"] = torch.zeros(code.shape[0], dtype=torch.float16)
        return config, packed

    return repack


def awq(config, tensors):
    """Laid out after AutoAWQ's WQLinear_GEMM: all packed along outputs, which stand in a word in the order 0, 2, 4, 6, 1, 3, 5, 7."""
    classic(config)
    config["quantization_config"] = {
        "bits": 4, "group_size": 64, "quant_method": "awq", "version": "gemm", "zero_point": True, "modules_to_not_convert": None}  # fmt: skip
    packed = {}
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    for name, tensor in tensors.items():
        if name not in CODES:
            packed[name] = tensor
            continue
        code, scales, zeros, _ = CODES[name]
        stem = name.removesuffix(".weight")
        packed[f"{stem}.qweight"] = words(code.T, order)
        packed[f"{stem}.qzeros"] = words(zeros.T, order)
        packed[f"{stem}.scales"] = scales.T.half()
    return config, packed


def compressed(layout, **weights):
    """By compressed-tensors itself: its codes, its packing, and the floats that it makes of them."""
    from compressed_tensors.compressors.base import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams

    args = QuantizationArgs(**weights)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    compressor = BaseCompressor.get_value_from_registry(layout)

    def adjust(model):
        CODES.clear()
        for name, p in model.named_parameters():
            if not re.search(LINEARS, name):
                continue
            out, inputs = p.shape
            if args.strategy == "block":
                high, wide = args.block_structure
                parts = torch.nn.functional.pad(p.data, (0, -inputs % wide, 0, -out % high)).unflatten(1, (-1, wide)).unflatten(0, (-1, high))
                low, top = parts.amin((1, 3)), parts.amax((1, 3))
            else:
                parts = p.data.unflatten(1, (-1, args.group_size or inputs))
                low, top = parts.amin(2), parts.amax(2)
            scale, zero = calculate_qparams(low, top, args)
            state = {"weight": p.data, "weight_scale": scale.half().float()}
            if not args.symmetric:
                state["weight_zero_point"] = zero
            packed = compressor.compress(state, scheme)
            p.data.copy_(compressor.decompress(packed, scheme)["weight"])
            CODES[name] = packed

    def repack(config, tensors):
        classic(config)
        config["quantization_config"] = {
            "quant_method": "compressed-tensors", "format": layout, "quantization_status": "compressed", "ignore": ["lm_head"],
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": args.model_dump(mode="json"), "input_activations": None,
                                          "output_activations": None}},
            "kv_cache_scheme": None, "sparsity_config": {}, "transform_config": {}, "global_compression_ratio": None}  # fmt: skip
        return config, unfolded(tensors)

    return {"adjust": adjust, "repack": repack, "reload": False}


def unfolded(tensors):
    """Each linear's parts in the place of its weight."""
    packed = {}
    for name, tensor in tensors.items():
        if name in CODES:
            packed.update({f"{name.removesuffix('weight')}{part}": value for part, value in CODES[name].items()})
        else:
            packed[name] = tensor
    return packed


def float8_blocks(size):
    """Laid out as DeepSeek publishes and transformers' FP8Linear has it; the floats by transformers' own dequantisation."""
    from transformers.integrations.finegrained_fp8 import _dequantize_fp8_weight

    def adjust(model):
        CODES.clear()
        for name, p in model.named_parameters():
            if not re.search(LINEARS, name):
                continue
            out, inputs = p.shape
            padded = torch.nn.functional.pad(p.data, (0, -inputs % size, 0, -out % size))
            scale = padded.unflatten(1, (-1, size)).unflatten(0, (-1, size)).abs().amax((1, 3)) / 448
            whole = scale.repeat_interleave(size, 0).repeat_interleave(size, 1)[:out, :inputs]
            code = (p.data / whole).to(torch.float8_e4m3fn)
            p.data.copy_(_dequantize_fp8_weight(code, scale, [size, size], torch.float32))
            CODES[name] = {"weight": code, "weight_scale_inv": scale}

    def repack(config, tensors):
        classic(config)
        config["quantization_config"] = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [size, size],
                                         "modules_to_not_convert": ["lm_head"]}  # fmt: skip
        return config, unfolded(tensors)

    return {"adjust": adjust, "repack": repack, "reload": False}


def with_window_pattern(config):
    """As published: one set for both kinds of layers, the window by its pattern."""
    types = config["layer_types"]
    classic(config)
    config.update(layer_types=types)
    return config


def minicpm(config, tensors):
    """As its authors publish it: transformers has no MiniCPM, but it is Granite's block with the multipliers written otherwise.
    After the model's own modeling_minicpm.py: scale_emb, scale_depth / sqrt(layers), hidden size / dim_model_base."""
    classic(config)
    base_size = config["hidden_size"] / config.pop("logits_scaling")
    config.update(architectures=["MiniCPMForCausalLM"], model_type="minicpm", scale_emb=config.pop("embedding_multiplier"),
                  scale_depth=config.pop("residual_multiplier") * config["num_hidden_layers"] ** 0.5, dim_model_base=base_size)
    for key in ("attention_multiplier", "mlp_bias"):
        config.pop(key)
    return config, tensors


def image_names(name):
    """As models that also read images were published before transformers 5."""
    name = re.sub(r"^model\.language_model\.", "language_model.model.", name)
    return re.sub(r"^lm_head\.", "language_model.lm_head.", name).removeprefix("model.")


def without_prefix(name):
    """openai-community/gpt2 and bigscience/bloom are saved without the name of their base model."""
    return re.sub(r"^transformer\.", "", name)


DEFAULT = {"rope_type": "default", "rope_theta": 10000.0}
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LLAMA_LIKE = {
    "num_hidden_layers": 2, "num_attention_heads": 8, "hidden_size": 64, "intermediate_size": 100, "vocab_size": 131,
    "max_position_embeddings": 256, **IDS,
}  # fmt: skip
GPT2_LIKE = {"n_layer": 2, "n_head": 8, "n_embd": 64, "n_positions": 160, "vocab_size": 131, "layer_norm_epsilon": 0.02, **IDS}
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16


def row(config, arguments, dtype=F32, publish=None, rename=None, variations=None, **rest):
    return {
        "config": config, "arguments": arguments, "dtype": dtype, "publish": publish, "rename": rename,
        "variations": variations or {}, "shard_bytes": None, **rest,
    }  # fmt: skip


def eps(key):
    return {"eps": {key: 1e-5}}


GPT2_EPS = eps("layer_norm_epsilon")
RMS_EPS = eps("rms_norm_eps")
LAYER_EPS = eps("layer_norm_eps")
EXACT, TANH, RELU = {"activation": {"hidden_act": "gelu"}}, {"activation": {"hidden_act": "gelu_new"}}, {"activation": {"hidden_act": "relu"}}


def base(theta=100000.0, **rest):
    return {"rope base": {"rope_parameters": {"rope_type": "default", "rope_theta": theta, **rest}}}


YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 32, "beta_fast": 4.0, "beta_slow": 1.0, "truncate": False}
GPT_OSS = {**LLAMA_LIKE, "head_dim": 16, "rms_norm_eps": 0.02, "sliding_window": 16, "num_local_experts": 6, "num_experts_per_tok": 3,
           "swiglu_limit": 1.5, "rope_parameters": YARN}  # fmt: skip
GPT_OSS_VARIATIONS = {
    **RMS_EPS, "window by one": {"sliding_window": 17}, "rope scaling": {"rope_parameters": dict(DEFAULT)},
    "truncate": {"rope_parameters": {**YARN, "truncate": True}}, "limit": {"swiglu_limit": 7.0}, "alpha": {"swiglu_alpha": 1.0},
    "experts per token": {"num_experts_per_tok": 2},
}  # fmt: skip

MINISTRAL = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 16, "beta_fast": 4.0, "beta_slow": 1.0,
             "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.5}
MISTRAL4 = {**MINISTRAL, "mscale_all_dim": 0.7, "partial_rotary_factor": 0.4}
EYES = r"visual|vision_tower|vision_model|multi_modal_projector|mm_projector"
TINY_EYES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}

LATENT = {"kv_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 12, "v_head_dim": 10, "rms_norm_eps": 0.02}
LATENT_EXPERTS = {**LATENT, "moe_intermediate_size": 36, "n_routed_experts": 8, "num_experts_per_tok": 3, "n_shared_experts": 2}
LATENT_YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 32, "beta_fast": 4.0, "beta_slow": 1.0,
               "mscale": 1.0, "mscale_all_dim": 0.7}
GROUPS = {"n_group": 4, "topk_group": 2, "routed_scaling_factor": 1.7, "first_k_dense_replace": 1}
LATENT_VARIATIONS = {
    **RMS_EPS, "rope scaling": {"rope_parameters": dict(DEFAULT)}, "scale of scores": {"rope_parameters": {**LATENT_YARN, "mscale_all_dim": 0.0}},
    "groups": {"topk_group": 4}, "routing scale": {"routed_scaling_factor": 1.0},
}  # fmt: skip
LLAMA4 = {**LLAMA_LIKE, "head_dim": 16, "num_key_value_heads": 4, "intermediate_size": 36, "intermediate_size_mlp": 100, "rms_norm_eps": 0.02,
          "num_local_experts": 5, "rope_parameters": dict(DEFAULT), "attention_chunk_size": 16}

FAMILIES = {
    "gpt2": row(T.GPT2Config, GPT2_LIKE, rename=without_prefix,
                variations={**GPT2_EPS, "activation": {"activation_function": "gelu"}}),
    "gpt2-inverse-layer": row(
        T.GPT2Config, {**GPT2_LIKE, "scale_attn_by_inverse_layer_idx": True, "n_inner": 100},
        BF16, variations={"scaling by layer": {"scale_attn_by_inverse_layer_idx": False}}),
    "gpt-neox": row(
        T.GPTNeoXConfig, {**LLAMA_LIKE, "hidden_size": 96, "layer_norm_eps": 0.02, "hidden_act": "gelu",
                          "rope_parameters": {**DEFAULT, "partial_rotary_factor": 0.34}},
        F16, neox, lambda name: name.replace("lm_head.", "embed_out."),
        {**LAYER_EPS, **TANH, **base(partial_rotary_factor=0.34), "parallel residual": {"use_parallel_residual": False},
         "partial rotation": {"rope_parameters": {**DEFAULT, "partial_rotary_factor": 1.0}}}),
    "gpt-neox-sequential": row(
        T.GPTNeoXConfig, {**LLAMA_LIKE, "layer_norm_eps": 0.02, "hidden_act": "gelu_fast", "use_parallel_residual": False,
                          "attention_bias": False, "rope_parameters": {**DEFAULT, "partial_rotary_factor": 0.25}},
        BF16, None, None, {"parallel residual": {"use_parallel_residual": True}}),
    "gptj": row(T.GPTJConfig, {**GPT2_LIKE, "rotary_dim": 4}, F16,
                variations={**GPT2_EPS, "partial rotation": {"rotary_dim": 8}}),
    "phi": row(
        T.PhiConfig, {**LLAMA_LIKE, "num_key_value_heads": 2, "layer_norm_eps": 0.02,
                      "rope_parameters": {**DEFAULT, "partial_rotary_factor": 0.5}},
        F16, classic, None,
        {**LAYER_EPS, **base(partial_rotary_factor=0.5),
         "partial rotation": {"rope_parameters": {**DEFAULT, "partial_rotary_factor": 1.0}}}),
    "phi3": row(
        T.Phi3Config, {**LLAMA_LIKE, "num_key_value_heads": 4, "rms_norm_eps": 0.02, "sliding_window": 16,
                       "rope_parameters": dict(DEFAULT)},
        BF16, classic, None,
        {**RMS_EPS, **base(), "window": {"sliding_window": None}, "window by one": {"sliding_window": 17}}),
    "phi3-longrope": row(
        T.Phi3Config, {
            **LLAMA_LIKE, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 0.02,
            "original_max_position_embeddings": 40, "max_position_embeddings": 160, "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75,
                "original_max_position_embeddings": 40,
                "short_factor": [1.0, 1.1, 1.2, 1.4, 1.7, 2.0], "long_factor": [1.0, 1.5, 2.5, 4.0, 6.0, 9.0],
            }},
        F16, classic, None,
        {**RMS_EPS, "long factors": {"original_max_position_embeddings": 160},
         "rope scaling": {"rope_parameters": {**DEFAULT, "partial_rotary_factor": 0.75}}},
        # below and above the original context; no prompt crosses it on its way, since transformers then computes its cache again
        prompt_lengths={"short": 5, "medium": 60, "long": 90}),
    "gemma": row(
        T.GemmaConfig, {**LLAMA_LIKE, "num_key_value_heads": 1, "head_dim": 16, "rms_norm_eps": 0.2, "hidden_size": 72,
                        "rope_parameters": dict(DEFAULT)},
        BF16, lambda config: {**classic(config), "hidden_act": "gelu"}, None,  # its old spelling of the tanh form
        {**RMS_EPS, **base(), "activation": {"hidden_act": "gelu"}}, plus_one=True, embedding_deviation=0.3, final_norm=6.0),
    "gemma2": row(
        T.Gemma2Config, {**LLAMA_LIKE, "num_key_value_heads": 4, "head_dim": 16, "rms_norm_eps": 0.2, "sliding_window": 16,
                         "query_pre_attn_scalar": 24, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 8.0,
                         "rope_parameters": dict(DEFAULT)},
        BF16, classic, None,
        {**RMS_EPS, **base(), "window": {"sliding_window": 250}, "window by one": {"sliding_window": 17},
         "attention soft-cap": {"attn_logit_softcapping": None}, "logit soft-cap": {"final_logit_softcapping": None},
         "query scale": {"query_pre_attn_scalar": 16}}, plus_one=True, embedding_deviation=0.3, final_norm=6.0),
    "gemma3": row(
        T.Gemma3TextConfig, {
            **LLAMA_LIKE, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 24, "rms_norm_eps": 0.2,
            "sliding_window": 16, "query_pre_attn_scalar": 20, "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 100000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1000.0},
            }},
        BF16, gemma3, None,
        {**RMS_EPS, "window by one": {"sliding_window": 17}, "query scale": {"query_pre_attn_scalar": 24},
         "local rope": {"rope_parameters": {
             "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 100000.0},
             "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
         "global rope": {"rope_parameters": {
             "full_attention": {"rope_type": "default", "rope_theta": 100000.0},
             "sliding_attention": {"rope_type": "default", "rope_theta": 1000.0}}}}, plus_one=True, embedding_deviation=0.3, final_norm=6.0),
    "falcon-7b": row(
        T.FalconConfig, {"num_hidden_layers": 2, "num_attention_heads": 8, "hidden_size": 64, "vocab_size": 131,
                         "layer_norm_epsilon": 0.02, "max_position_embeddings": 256, "multi_query": True,
                         "parallel_attn": True, "bias": False, "rope_parameters": dict(DEFAULT), **IDS},
        F16, classic, None, {**GPT2_EPS, **base(), "activation": {"activation": "gelu_new"}}),
    "falcon-40b": row(
        T.FalconConfig, {"num_hidden_layers": 2, "num_attention_heads": 8, "num_kv_heads": 2, "hidden_size": 96,
                         "vocab_size": 131, "layer_norm_epsilon": 0.02, "max_position_embeddings": 256, "bias": True,
                         "new_decoder_architecture": True, "ffn_hidden_size": 100, "rope_parameters": dict(DEFAULT), **IDS},
        BF16, None, None, {**GPT2_EPS}),
    "falcon-11b": row(
        T.FalconConfig, {"num_hidden_layers": 3, "num_attention_heads": 4, "num_kv_heads": 2, "hidden_size": 48,
                         "vocab_size": 131, "layer_norm_epsilon": 0.02, "max_position_embeddings": 256, "bias": False,
                         "new_decoder_architecture": True, "num_ln_in_parallel_attn": 1, "ffn_hidden_size": 100,
                         "tie_word_embeddings": False, "rope_parameters": dict(DEFAULT), **IDS},
        BF16, None, None, {**GPT2_EPS}),
    "stablelm": row(
        T.StableLmConfig, {**LLAMA_LIKE, "num_key_value_heads": 4, "hidden_size": 96, "layer_norm_eps": 0.02, "use_qkv_bias": True,
                           "rope_parameters": {**DEFAULT, "partial_rotary_factor": 0.5}},
        F16, classic, None, {**LAYER_EPS, **base(partial_rotary_factor=0.5)}),
    "stablelm-12b": row(
        T.StableLmConfig, {**LLAMA_LIKE, "num_key_value_heads": 2, "layer_norm_eps": 0.02, "qk_layernorm": True,
                           "use_parallel_residual": True, "rope_parameters": {**DEFAULT, "partial_rotary_factor": 0.25}},
        BF16, None, None, {**LAYER_EPS, "parallel residual": {"use_parallel_residual": False}}),
    "opt": row(
        T.OPTConfig, {"num_hidden_layers": 2, "num_attention_heads": 8, "hidden_size": 96, "ffn_dim": 100, "vocab_size": 131,
                      "max_position_embeddings": 160, **IDS},
        F16, None, lambda name: name.replace("model.decoder.", "decoder."), {"activation": {"activation_function": "gelu"}},
        without_effect=r"k_proj\.bias"),
    "bloom": row(
        T.BloomConfig, {"n_layer": 2, "n_head": 12, "hidden_size": 96, "vocab_size": 131, "layer_norm_epsilon": 0.02, **IDS},
        F16, None, without_prefix, {**GPT2_EPS}, bias_deviation=0.15, fused_deviation=2.5),
    "starcoder2": row(
        T.Starcoder2Config, {**LLAMA_LIKE, "num_key_value_heads": 2, "norm_epsilon": 0.02, "sliding_window": 16,
                             "rope_parameters": dict(DEFAULT)},
        BF16, classic, None,
        {**eps("norm_epsilon"), **base(), "activation": {"hidden_act": "gelu"}, "window by one": {"sliding_window": 17}}),
    "gpt-bigcode": row(T.GPTBigCodeConfig, {**GPT2_LIKE, "n_inner": 100}, F16,
                       variations={**GPT2_EPS, "activation": {"activation_function": "gelu"}}),
    "gpt-bigcode-multi-head": row(T.GPTBigCodeConfig, {**GPT2_LIKE, "multi_query": False}, BF16),
    "granite": row(
        T.GraniteConfig, {**LLAMA_LIKE, "num_key_value_heads": 4, "rms_norm_eps": 0.02, "tie_word_embeddings": True,
                          "embedding_multiplier": 2.5, "attention_multiplier": 0.2, "residual_multiplier": 0.6,
                          "logits_scaling": 0.4, "rope_parameters": dict(DEFAULT)},
        BF16, classic, None,
        {**RMS_EPS, **base(), "embedding multiplier": {"embedding_multiplier": 1.0}, "attention": {"attention_multiplier": 0.25},
         "residual": {"residual_multiplier": 1.0}, "logits": {"logits_scaling": 1.0}}, embedding_deviation=1),
    "olmo": row(
        T.OlmoConfig, {**LLAMA_LIKE, "num_key_value_heads": 4, "clip_qkv": 1.5, "rope_parameters": dict(DEFAULT)},
        BF16, classic, None, {**base(), "clip": {"clip_qkv": None}}),
    "olmo2": row(
        T.Olmo2Config, {**LLAMA_LIKE, "num_key_value_heads": 2, "rms_norm_eps": 0.02, "rope_parameters": dict(DEFAULT)},
        BF16, classic, None, {**RMS_EPS, **base()}),
    "cohere": row(
        T.CohereConfig, {**LLAMA_LIKE, "num_key_value_heads": 4, "layer_norm_eps": 0.02, "logit_scale": 0.7,
                         "rope_parameters": dict(DEFAULT)},
        F16, classic, None, {**LAYER_EPS, **base(), "logit scale": {"logit_scale": 1.0}}),
    "cohere-plus": row(
        T.CohereConfig, {**LLAMA_LIKE, "num_key_value_heads": 2, "layer_norm_eps": 0.02, "logit_scale": 1.3, "use_qk_norm": True,
                         "rope_parameters": dict(DEFAULT)},
        BF16, None, None, {**LAYER_EPS}),
    "mpt": row(
        T.MptConfig, {"n_layers": 2, "n_heads": 12, "d_model": 96, "max_seq_len": 256, "vocab_size": 131,
                      "layer_norm_epsilon": 1e-5, "attn_config": {"clip_qkv": 1.5, "softmax_scale": 0.5}, **IDS},
        F16, None, None, {"clip": {"attn_config.clip_qkv": None}, "scale": {"attn_config.softmax_scale": None}}),
    "codegen": row(T.CodeGenConfig, {**GPT2_LIKE, "rotary_dim": 4}, F16,
                   variations={**GPT2_EPS, "partial rotation": {"rotary_dim": 8}}),
    "smollm3": row(
        T.SmolLM3Config, {**LLAMA_LIKE, "num_key_value_heads": 4, "rms_norm_eps": 0.02, "no_rope_layers": [1, 0],
                          "rope_parameters": dict(DEFAULT)},
        BF16, classic, None, {**RMS_EPS, **base()}),
    "smollm3-yarn": row(
        T.SmolLM3Config, {
            **LLAMA_LIKE, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 0.02, "no_rope_layer_interval": 4,
            "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 32}},
        BF16, classic, None, {"rope scaling": {"rope_parameters": dict(DEFAULT)}}),
    "internlm2": row(
        T.LlamaConfig, {**LLAMA_LIKE, "num_key_value_heads": 4, "rms_norm_eps": 0.02, "rope_parameters": dict(DEFAULT)},
        F16, None, None, {**RMS_EPS, **base()}, repack=internlm2),
    "qwen": row(
        T.Qwen2Config, {**LLAMA_LIKE, "num_key_value_heads": 8, "rms_norm_eps": 0.02, "rope_parameters": dict(DEFAULT)},
        F16, None, None, {**RMS_EPS, **base()}, repack=qwen1),
    "mixtral": row(
        T.MixtralConfig, {**LLAMA_LIKE, "intermediate_size": 44, "num_key_value_heads": 4, "rms_norm_eps": 0.02,
                          "num_local_experts": 8, "num_experts_per_tok": 2, "rope_parameters": dict(DEFAULT)},
        BF16, None, None, {**RMS_EPS, **base(), "experts per token": {"num_experts_per_tok": 3}}, repack=mixtral),
    "qwen2-moe": row(
        T.Qwen2MoeConfig, {**LLAMA_LIKE, "num_key_value_heads": 2, "rms_norm_eps": 0.02, "moe_intermediate_size": 36,
                           "shared_expert_intermediate_size": 52, "num_experts": 5, "num_experts_per_tok": 2,
                           "rope_parameters": dict(DEFAULT)},
        BF16, None, None, {**RMS_EPS, **base(), "sum of the chosen": {"norm_topk_prob": True}}, repack=qwen_moe),
    "qwen3-moe": row(
        T.Qwen3MoeConfig, {**LLAMA_LIKE, "num_key_value_heads": 4, "head_dim": 16, "rms_norm_eps": 0.02, "norm_topk_prob": True,
                           "moe_intermediate_size": 36, "num_experts": 6, "num_experts_per_tok": 3, "mlp_only_layers": [0],
                           "rope_parameters": dict(DEFAULT)},
        BF16, None, None, {**RMS_EPS, **base(), "sum of the chosen": {"norm_topk_prob": False}}, repack=qwen_moe),
    "gpt-neo": row(
        T.GPTNeoConfig, {"num_layers": 2, "num_heads": 8, "hidden_size": 64, "vocab_size": 131, "max_position_embeddings": 160,
                         "attention_types": [[["global", "local"], 1]], "window_size": 16, "layer_norm_epsilon": 0.02, **IDS},
        F16, None, None, {**GPT2_EPS, "window by one": {"window_size": 17}}, query_deviation=1.2),
    "gpt-oss": row(
        T.GptOssConfig, {**GPT_OSS, "intermediate_size": 44, "num_key_value_heads": 2},
        BF16, None, None, GPT_OSS_VARIATIONS),
    "gpt-oss-mxfp4": row(
        T.GptOssConfig, {**GPT_OSS, "intermediate_size": 96, "num_key_value_heads": 4},
        BF16, None, None, GPT_OSS_VARIATIONS, adjust=round_experts, repack=mxfp4),
    "gptq": row(
        T.LlamaConfig, {**LLAMA_LIKE, "intermediate_size": 96, "head_dim": 16, "num_key_value_heads": 4, "rms_norm_eps": 0.02,
                        "rope_parameters": dict(DEFAULT)},
        F32, None, None, {**RMS_EPS, **base()}, adjust=lambda model: round_to_codes(model, 32), repack=gptq("gptq", has_biases=True),
        reload=False),
    "gptq-act-order": row(
        T.Qwen2Config, {**LLAMA_LIKE, "intermediate_size": 96, "num_key_value_heads": 2, "rms_norm_eps": 0.02,
                        "rope_parameters": dict(DEFAULT)},
        F32, None, None, {**RMS_EPS, **base()}, adjust=lambda model: round_to_codes(model, 32, True),
        repack=gptq("gptq_v2", is_ordered=True), reload=False),
    "awq": row(
        T.Qwen2Config, {**LLAMA_LIKE, "hidden_size": 128, "intermediate_size": 192, "num_key_value_heads": 4, "rms_norm_eps": 0.02,
                        "rope_parameters": dict(DEFAULT)},
        F32, None, None, {**RMS_EPS, **base()}, adjust=lambda model: round_to_codes(model, 64), repack=awq, reload=False),
    "compressed-int8": row(
        T.Qwen2Config, {**LLAMA_LIKE, "intermediate_size": 96, "num_key_value_heads": 2, "rms_norm_eps": 0.02,
                        "rope_parameters": dict(DEFAULT)},
        F32, None, None, {**RMS_EPS, **base()}, **compressed("int-quantized", num_bits=8, type="int", symmetric=True, strategy="channel")),
    "compressed-int4": row(
        T.LlamaConfig, {**LLAMA_LIKE, "intermediate_size": 96, "head_dim": 16, "num_key_value_heads": 4, "rms_norm_eps": 0.02,
                        "rope_parameters": dict(DEFAULT)},
        F32, None, None, {**RMS_EPS, **base()},
        **compressed("pack-quantized", num_bits=4, type="int", symmetric=False, strategy="group", group_size=32)),
    "compressed-float8": row(
        T.Qwen2Config, {**LLAMA_LIKE, "intermediate_size": 100, "num_key_value_heads": 2, "rms_norm_eps": 0.02,
                        "rope_parameters": dict(DEFAULT)},
        F32, None, None, {**RMS_EPS, **base()},
        **compressed("float-quantized", num_bits=8, type="float", symmetric=True, strategy="block", block_structure=[32, 48])),
    "float8-blocks": row(
        T.LlamaConfig, {**LLAMA_LIKE, "intermediate_size": 100, "num_key_value_heads": 4, "rms_norm_eps": 0.02,
                        "rope_parameters": dict(DEFAULT)},
        F32, None, None, {**RMS_EPS, **base()}, **float8_blocks(32)),
    "ernie4-5": row(
        T.Ernie4_5Config, {**LLAMA_LIKE, "num_key_value_heads": 2, "rms_norm_eps": 0.02, "use_bias": True,
                           "rope_parameters": dict(DEFAULT)},
        BF16, classic, None, {**RMS_EPS, **base()}),
    "helium": row(
        T.HeliumConfig, {**LLAMA_LIKE, "num_key_value_heads": 4, "head_dim": 8, "rms_norm_eps": 0.02, "rope_parameters": dict(DEFAULT)},
        BF16, classic, None, {**RMS_EPS, **base()}),
    "llama-nine-heads": row(
        T.LlamaConfig, {**LLAMA_LIKE, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 72, "head_dim": 16,
                        "rms_norm_eps": 0.02, "tie_word_embeddings": True, "rope_parameters": dict(DEFAULT)},
        BF16, classic, None, {**RMS_EPS, **base()}, embedding_deviation=1),
    "cwm": row(
        T.CwmConfig, {**LLAMA_LIKE, "num_key_value_heads": 4, "head_dim": 16, "rms_norm_eps": 0.02, "sliding_window": 16,
                      "rope_parameters": {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                                          "high_freq_factor": 4.0, "original_max_position_embeddings": 32}},
        BF16, classic, None,
        {**RMS_EPS, "rope scaling": {"rope_parameters": dict(DEFAULT)}, "window": {"sliding_window": 250}, "window by one": {"sliding_window": 17}}),
    "jais2": row(
        T.Jais2Config, {**LLAMA_LIKE, "num_key_value_heads": 2, "layer_norm_eps": 0.02, "rope_parameters": dict(DEFAULT)},
        F16, None, None, {**LAYER_EPS, **base(), **RELU}),
    "arcee": row(
        T.ArceeConfig, {**LLAMA_LIKE, "num_key_value_heads": 4, "rms_norm_eps": 0.02, "rope_parameters": dict(DEFAULT)},
        F16, classic, None, {**RMS_EPS, **base(), **RELU}),
    "glm": row(
        T.GlmConfig, {**LLAMA_LIKE, "num_key_value_heads": 2, "head_dim": 16, "rms_norm_eps": 0.02,
                      "rope_parameters": {**DEFAULT, "partial_rotary_factor": 0.5}},
        BF16, classic, None, {**RMS_EPS, **base(partial_rotary_factor=0.5)}),
    "glm4": row(
        T.Glm4Config, {**LLAMA_LIKE, "num_key_value_heads": 4, "head_dim": 16, "rms_norm_eps": 0.02, "attention_bias": False,
                       "rope_parameters": {**DEFAULT, "partial_rotary_factor": 0.5}},
        BF16, classic, None, {**RMS_EPS, **base(partial_rotary_factor=0.5)}),
    "olmo3": row(
        T.Olmo3Config, {**LLAMA_LIKE, "num_key_value_heads": 4, "rms_norm_eps": 0.02, "sliding_window": 16,
                        "layer_types": ["sliding_attention", "full_attention"],
                        "rope_parameters": {"full_attention": {**YARN, "truncate": True}, "sliding_attention": dict(DEFAULT)}},
        BF16, None, None,
        {**RMS_EPS, "window by one": {"sliding_window": 17},
         "rope scaling": {"rope_parameters": {"full_attention": dict(DEFAULT), "sliding_attention": dict(DEFAULT)}}}),
    "exaone4": row(
        T.Exaone4Config, {**LLAMA_LIKE, "num_key_value_heads": 2, "rms_norm_eps": 0.02, "sliding_window": 16, "sliding_window_pattern": 2,
                          "rope_parameters": dict(DEFAULT)},
        BF16, with_window_pattern, None, {**RMS_EPS, **base(), "window by one": {"sliding_window": 17}}),
    "exaone4-plain": row(
        T.Exaone4Config, {**LLAMA_LIKE, "num_key_value_heads": 4, "rms_norm_eps": 0.02, "sliding_window": None, "tie_word_embeddings": True,
                          "layer_types": ["full_attention", "full_attention"], "rope_parameters": dict(DEFAULT)},
        BF16, with_window_pattern, None, {**RMS_EPS, **base()}, embedding_deviation=1),
    "cohere2": row(
        T.Cohere2Config, {**LLAMA_LIKE, "num_key_value_heads": 4, "layer_norm_eps": 0.02, "logit_scale": 0.7, "sliding_window": 16,
                          "layer_types": ["sliding_attention", "full_attention"], "rope_parameters": dict(DEFAULT)},
        F16, with_window_pattern, None, {**LAYER_EPS, **base(), "window by one": {"sliding_window": 17}, "logit scale": {"logit_scale": 1.0}}),
    "seed-oss": row(
        T.SeedOssConfig, {**LLAMA_LIKE, "num_key_value_heads": 2, "head_dim": 16, "rms_norm_eps": 0.02, "rope_parameters": dict(DEFAULT)},
        BF16, classic, None, {**RMS_EPS, **base()}),
    "nemotron": row(
        T.NemotronConfig, {**LLAMA_LIKE, "num_key_value_heads": 4, "norm_eps": 0.02, "hidden_size": 96,
                           "rope_parameters": {**DEFAULT, "partial_rotary_factor": 0.5}},
        BF16, classic, None, {**eps("norm_eps"), **base(partial_rotary_factor=0.5), **RELU}, plus_one=True, final_norm=0.0),
    "hunyuan": row(
        T.HunYuanDenseV1Config, {**LLAMA_LIKE, "num_key_value_heads": 4, "head_dim": 16, "rms_norm_eps": 0.02,
                                 "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "alpha": 50.0, "factor": 1.0}},
        BF16, classic, None,
        {**RMS_EPS, "alpha": {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "alpha": 1.0, "factor": 1.0}}}),
    "minicpm": row(
        T.GraniteConfig, {**LLAMA_LIKE, "num_key_value_heads": 4, "rms_norm_eps": 0.02, "tie_word_embeddings": True,
                          "embedding_multiplier": 2.5, "attention_multiplier": 8**-0.5, "residual_multiplier": 0.6,
                          "logits_scaling": 0.5, "rope_parameters": dict(DEFAULT)},
        BF16, None, None, {**RMS_EPS, **base()}, repack=minicpm, embedding_deviation=1),
    "ministral3": row(
        T.Ministral3Config, {**LLAMA_LIKE, "num_key_value_heads": 4, "head_dim": 16, "rms_norm_eps": 0.02, "rope_parameters": MINISTRAL},
        BF16, None, None, {**RMS_EPS, "growth": {"rope_parameters": {**MINISTRAL, "llama_4_scaling_beta": 0.0}},
                           "period": {"rope_parameters": {**MINISTRAL, "original_max_position_embeddings": 24}}}),
    "gemma3-multimodal": row(
        T.Gemma3Config, {
            "text_config": {
                **LLAMA_LIKE, "num_key_value_heads": 4, "head_dim": 16, "rms_norm_eps": 0.2, "sliding_window": 16, "query_pre_attn_scalar": 20,
                "layer_types": ["sliding_attention", "full_attention"],
                "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 100000.0},
                                    "sliding_attention": {"rope_type": "default", "rope_theta": 1000.0}}},
            "vision_config": {**TINY_EYES, "image_size": 28, "patch_size": 14}, "mm_tokens_per_image": 4, **IDS},
        BF16, None, image_names, {"window by one": {"text_config.sliding_window": 17}, "eps": {"text_config.rms_norm_eps": 1e-5}},
        plus_one=True, embedding_deviation=0.3, final_norm=6.0, reads_images=True, without_effect=EYES),
    "mistral3": row(
        T.Mistral3Config, {
            "text_config": {**LLAMA_LIKE, "model_type": "mistral", "num_key_value_heads": 2, "head_dim": 16, "rms_norm_eps": 0.02,
                            "sliding_window": None, "rope_parameters": dict(DEFAULT)},
            "vision_config": {**TINY_EYES, "model_type": "pixtral", "head_dim": 8, "image_size": 28, "patch_size": 14},
            "tie_word_embeddings": False, "image_token_index": 5, **IDS},
        BF16, None, image_names, {"eps": {"text_config.rms_norm_eps": 1e-5}}, reads_images=True, without_effect=EYES),
    "qwen2-vl": row(
        T.Qwen2_5_VLConfig, {
            "text_config": {**LLAMA_LIKE, "num_key_value_heads": 2, "rms_norm_eps": 0.02,
                            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}},
            "vision_config": {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 64},
            "image_token_id": 0, "video_token_id": 0, "vision_start_token_id": 0, "vision_end_token_id": 0, **IDS},
        BF16, None, lambda name: name.replace("model.language_model.", "model.").replace("model.visual.", "visual."),
        {"eps": {"text_config.rms_norm_eps": 1e-5}}, reads_images=True, without_effect=EYES),
    "qwen3-vl": row(
        T.Qwen3VLConfig, {
            "text_config": {**LLAMA_LIKE, "num_key_value_heads": 4, "head_dim": 16, "rms_norm_eps": 0.02,
                            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [3, 3, 2], "mrope_interleaved": True}},
            "vision_config": {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 64,
                              "num_position_embeddings": 4, "deepstack_visual_indexes": [0]},
            "image_token_id": 0, "video_token_id": 0, "vision_start_token_id": 0, "vision_end_token_id": 0, **IDS},
        BF16, None, None, {"eps": {"text_config.rms_norm_eps": 1e-5}}, reads_images=True, without_effect=EYES),
    "llava": row(
        T.LlavaConfig, {
            "text_config": {**LLAMA_LIKE, "model_type": "llama", "num_key_value_heads": 4, "rms_norm_eps": 0.02, "rope_parameters": dict(DEFAULT)},
            "vision_config": {**TINY_EYES, "model_type": "clip_vision_model", "image_size": 28, "patch_size": 14, "projection_dim": 16},
            "image_token_index": 0, **IDS},
        F16, None, image_names, {"eps": {"text_config.rms_norm_eps": 1e-5}}, reads_images=True, without_effect=EYES),
    "olmoe": row(
        T.OlmoeConfig, {**LLAMA_LIKE, "intermediate_size": 36, "num_key_value_heads": 4, "rms_norm_eps": 0.02, "num_experts": 6,
                        "num_experts_per_tok": 3, "rope_parameters": dict(DEFAULT)},
        BF16, None, None, {**RMS_EPS, **base(), "sum of the chosen": {"norm_topk_prob": True}}, repack=qwen_moe),
    "granite-moe": row(
        T.GraniteMoeConfig, {**LLAMA_LIKE, "intermediate_size": 36, "num_key_value_heads": 4, "rms_norm_eps": 0.02, "num_local_experts": 5,
                             "num_experts_per_tok": 2, "tie_word_embeddings": True, "embedding_multiplier": 2.5,
                             "attention_multiplier": 0.2, "residual_multiplier": 0.6, "logits_scaling": 0.4, "rope_parameters": dict(DEFAULT)},
        BF16, None, None, {**RMS_EPS, **base(), "residual": {"residual_multiplier": 1.0}}, repack=granite_moe, embedding_deviation=1),
    "glm4-moe": row(
        T.Glm4MoeConfig, {**LLAMA_LIKE, "num_key_value_heads": 2, "head_dim": 16, "rms_norm_eps": 0.02, "moe_intermediate_size": 36,
                          "n_routed_experts": 8, "num_experts_per_tok": 3, "n_group": 4, "topk_group": 2, "n_shared_experts": 2,
                          "routed_scaling_factor": 1.7, "first_k_dense_replace": 1, "use_qk_norm": True, "attention_bias": True,
                          "rope_parameters": {**DEFAULT, "partial_rotary_factor": 0.5}},
        BF16, None, None,
        {**RMS_EPS, **base(partial_rotary_factor=0.5), "scale": {"routed_scaling_factor": 1.0}, "groups": {"topk_group": 4},
         "sum of the chosen": {"norm_topk_prob": False}},
        repack=qwen_moe, adjust=draw_choice_bias),
    "dots1": row(
        T.Dots1Config, {**LLAMA_LIKE, "num_key_value_heads": 4, "head_dim": 16, "rms_norm_eps": 0.02, "moe_intermediate_size": 36,
                        "n_routed_experts": 6, "num_experts_per_tok": 3, "n_shared_experts": 1, "routed_scaling_factor": 2.5,
                        "norm_topk_prob": True, "sliding_window": None, "rope_parameters": dict(DEFAULT)},
        BF16, None, None, {**RMS_EPS, **base(), "scale": {"routed_scaling_factor": 1.0}}, repack=qwen_moe, adjust=draw_choice_bias),
    "ernie4-5-moe": row(
        T.Ernie4_5_MoeConfig, {**LLAMA_LIKE, "num_key_value_heads": 2, "rms_norm_eps": 0.02, "moe_intermediate_size": 36,
                               "moe_num_experts": 6, "moe_k": 3, "moe_num_shared_experts": 2, "moe_layer_start_index": 1,
                               "rope_parameters": dict(DEFAULT)},
        BF16, None, None, {**RMS_EPS, **base()}, repack=ernie_moe, adjust=draw_choice_bias, embedding_deviation=1),
    "hunyuan-moe": row(
        T.HunYuanMoEV1Config, {**LLAMA_LIKE, "intermediate_size": 44, "num_key_value_heads": 4, "head_dim": 16, "rms_norm_eps": 0.02,
                               "num_experts": 5, "moe_topk": 2, "rope_parameters": dict(DEFAULT)},
        BF16, None, None, {**RMS_EPS, **base()}, repack=qwen_moe),
    "opt-350m": row(
        T.OPTConfig, {"num_hidden_layers": 2, "num_attention_heads": 8, "hidden_size": 96, "ffn_dim": 100, "vocab_size": 131,
                      "max_position_embeddings": 160, "word_embed_proj_dim": 48, "do_layer_norm_before": False, **IDS},
        F16, None, lambda name: name.replace("model.decoder.", "decoder."), {"activation": {"activation_function": "gelu"}},
        without_effect=r"k_proj\.bias"),
    "apertus": row(
        T.ApertusConfig, {**LLAMA_LIKE, "num_key_value_heads": 4, "rms_norm_eps": 0.02, "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 32, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0}},
        BF16, classic, None, {**RMS_EPS, **base()}, adjust=draw_xielu, without_effect=r"act_fn\.eps"),
    "phimoe": row(
        T.PhimoeConfig, {**LLAMA_LIKE, "intermediate_size": 44, "num_key_value_heads": 2, "rms_norm_eps": 0.02, "num_local_experts": 6,
                         "num_experts_per_tok": 2, "router_jitter_noise": 0.3, "attention_bias": True, "lm_head_bias": True,
                         "rope_parameters": dict(DEFAULT)},
        BF16, None, None, {**RMS_EPS, **base(), "nearness": {"router_jitter_noise": 0.01}}, repack=phimoe, without_effect=r"k_proj\.bias"),
    "qwen3-vl-moe": row(
        T.Qwen3VLMoeConfig, {
            "text_config": {**LLAMA_LIKE, "num_key_value_heads": 4, "head_dim": 16, "rms_norm_eps": 0.02, "moe_intermediate_size": 36,
                            "num_experts": 6, "num_experts_per_tok": 3, "tie_word_embeddings": False,
                            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [3, 3, 2], "mrope_interleaved": True}},
            "vision_config": {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 64,
                              "num_position_embeddings": 4, "deepstack_visual_indexes": [0]},
            "tie_word_embeddings": False,
            "image_token_id": 0, "video_token_id": 0, "vision_start_token_id": 0, "vision_end_token_id": 0, **IDS},
        BF16, None, None, {"eps": {"text_config.rms_norm_eps": 1e-5}}, reads_images=True, without_effect=EYES, repack=qwen3_vl_moe),
    "deepseek-v2": row(
        T.DeepseekV2Config, {**LLAMA_LIKE, **LATENT_EXPERTS, **GROUPS, "q_lora_rank": 28, "topk_method": "group_limited_greedy", "attention_bias": True,
                             "rope_parameters": LATENT_YARN},
        BF16, None, None, LATENT_VARIATIONS, repack=qwen_moe),
    "deepseek-v2-lite": row(
        T.DeepseekV2Config, {**LLAMA_LIKE, **LATENT_EXPERTS, "q_lora_rank": None, "num_attention_heads": 6, "v_head_dim": 16, "rope_parameters": dict(DEFAULT),
                             "hidden_size": 60},
        BF16, None, None, {**RMS_EPS, **base(), "experts per token": {"num_experts_per_tok": 2}}, repack=qwen_moe),
    "deepseek-v3": row(
        T.DeepseekV3Config, {**LLAMA_LIKE, **LATENT_EXPERTS, **GROUPS, "num_key_value_heads": 8, "q_lora_rank": 28, "rope_parameters": LATENT_YARN},
        BF16, None, None, {**LATENT_VARIATIONS, "sum of the chosen": {"norm_topk_prob": False}, "pairs": {"rope_interleave": False}},
        repack=qwen_moe, adjust=draw_choice_bias),
    "moonlight": row(
        T.DeepseekV3Config, {**LLAMA_LIKE, **LATENT_EXPERTS, "q_lora_rank": None, "num_key_value_heads": 8, "n_group": 1, "topk_group": 1, "routed_scaling_factor": 2.4,
                             "first_k_dense_replace": 1, "rope_interleave": False, "attention_bias": True, "rope_parameters": dict(DEFAULT)},
        BF16, None, None, {**RMS_EPS, **base()}, repack=qwen_moe, adjust=draw_choice_bias),
    "glm4-moe-lite": row(
        T.Glm4MoeLiteConfig, {**LLAMA_LIKE, **LATENT_EXPERTS, "q_lora_rank": 28, "num_attention_heads": 5, "num_key_value_heads": 5,
                              "rope_parameters": dict(DEFAULT)},
        BF16, None, None, {**RMS_EPS, **base(), "sum of the chosen": {"norm_topk_prob": False}}, repack=qwen_moe, adjust=draw_choice_bias),
    "kimi-k25": row(
        T.Kimi_K25Config, {
            "text_config": {**LLAMA_LIKE, **LATENT_EXPERTS, **GROUPS, "model_type": "deepseek_v3", "num_key_value_heads": 8, "q_lora_rank": 28,
                            "tie_word_embeddings": False, "rope_parameters": LATENT_YARN},
            "vision_config": {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
            "projection_hidden_size": 16, "tie_word_embeddings": False, "image_token_id": 0, "video_token_id": 0, "vision_start_token_id": 0,
            "vision_end_token_id": 0, **IDS},
        BF16, None, None, {"eps": {"text_config.rms_norm_eps": 1e-5}, "groups": {"text_config.topk_group": 4}}, reads_images=True,
        without_effect=EYES, repack=kimi_k25, adjust=draw_choice_bias),
    "mistral4": row(
        T.Mistral4Config, {**LLAMA_LIKE, **LATENT_EXPERTS, **GROUPS, "num_key_value_heads": 8, "q_lora_rank": 28, "rope_parameters": MISTRAL4},
        BF16, None, None, {**RMS_EPS, "growth": {"rope_parameters": {**MISTRAL4, "llama_4_scaling_beta": 0.0}},
                           "period": {"rope_parameters": {**MISTRAL4, "original_max_position_embeddings": 24}}, "groups": {"topk_group": 4},
                           "routing scale": {"routed_scaling_factor": 1.0}, "sum of the chosen": {"norm_topk_prob": False},
                           "pairs": {"rope_interleave": False}},
        reads_images=True),  # transformers' table of such models alone has it
    # without a padding token, whose row of the embedding transformers 5.23 makes 0 as it loads
    "youtu": row(
        T.YoutuConfig, {**LLAMA_LIKE, **LATENT, "q_lora_rank": 28, "num_key_value_heads": 8, "tie_word_embeddings": True, "pad_token_id": None,
                        "rope_parameters": dict(DEFAULT)},
        BF16, classic, None, {**RMS_EPS, **base()}, embedding_deviation=1),
    "minicpm3": row(
        T.MiniCPM3Config, {**LLAMA_LIKE, **LATENT, "q_lora_rank": 28, "num_key_value_heads": 8, "tie_word_embeddings": True, "scale_emb": 2.5,
                           "scale_depth": 1.1, "dim_model_base": 32, "rope_parameters": dict(DEFAULT)},
        BF16, classic, None, {**RMS_EPS, **base(), "branches": {"scale_depth": 2.0}}, embedding_deviation=1),
    "llama4": row(
        T.Llama4TextConfig, {**LLAMA4, "num_experts_per_tok": 2, "no_rope_layers": [1, 0], "interleave_moe_layer_step": 2, "floor_scale": 8,
                             "attn_scale": 0.5},
        BF16, None, None,
        {**RMS_EPS, **base(), "pieces": {"attention_chunk_size": 17}, "growth": {"attn_temperature_tuning": False}, "period": {"floor_scale": 9},
         "norm of heads": {"use_qk_norm": False}, "experts per token": {"num_experts_per_tok": 1}}),
    "llama4-multimodal": row(
        T.Llama4Config, {
            "text_config": {**LLAMA4, "num_experts_per_tok": 1, "no_rope_layer_interval": 2, "use_qk_norm": False, "attn_temperature_tuning": False,
                            "rope_parameters": {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 16.0, "low_freq_factor": 1.0,
                                                "high_freq_factor": 1.0, "original_max_position_embeddings": 32}},
            "vision_config": {**TINY_EYES, "image_size": 28, "patch_size": 14, "vision_output_dim": 16, "projector_input_dim": 16,
                              "projector_output_dim": 16, "pixel_shuffle_ratio": 0.5}, **IDS},
        BF16, None, None, {"eps": {"text_config.rms_norm_eps": 1e-5}, "pieces": {"text_config.attention_chunk_size": 17}}, reads_images=True,
        without_effect=EYES),
    # transformers' eager attention adds ALiBi twice, with the mask and beside it; its default, sdpa, once
    "falcon-rw": row(
        T.FalconConfig, {"num_hidden_layers": 2, "num_attention_heads": 12, "hidden_size": 96, "vocab_size": 131, "layer_norm_epsilon": 0.02,
                         "max_position_embeddings": 512, "alibi": True, "multi_query": False, "parallel_attn": False, "bias": True, **IDS},
        BF16, None, None, {**GPT2_EPS, "positions": {"alibi": False}}, attention="sdpa", bias_deviation=0.15, fused_deviation=2.5,
        prompt_lengths={"short": 5, "medium": 40, "long": 300}),
}  # fmt: skip
