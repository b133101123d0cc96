"""Rows of encoder_goldens.py beside BERT's kin: further encoders, decoders whose hidden states are wanted, classifiers.

A classifier's vector are its scores, by transformers' own class; of two texts beside each other as well, where the row has pairs.
`published` brings config and tensors into the layout that the authors publish, after everything was computed.
"""
import torch
import transformers as T

PAIRS = [("One day", "The cat sat on the mat."), ("Who sat?", "Once upon a time there was a little girl named Lily. She loved to play.")]

SIZES = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 8, "intermediate_size": 100, "max_position_embeddings": 96}
LIKE_BERT = {**SIZES, "layer_norm_eps": 0.02, "hidden_act": "gelu", "type_vocab_size": 2, "pad_token_id": 0}
LIKE_ROBERTA = {**SIZES, "layer_norm_eps": 0.02, "hidden_act": "gelu", "type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
MODERN = {**SIZES, "num_hidden_layers": 4, "norm_eps": 0.02, "local_attention": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
          "cls_token_id": 1, "sep_token_id": 2, "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 500.0},
                                                                    "sliding_attention": {"rope_type": "default", "rope_theta": 40.0}}}  # fmt: skip
LIKE_LLAMA = {**SIZES, "num_key_value_heads": 2, "rms_norm_eps": 0.02, "pad_token_id": None, "bos_token_id": 0, "eos_token_id": 2}
LIKE_DEBERTA = {**SIZES, "layer_norm_eps": 0.02, "hidden_act": "gelu", "type_vocab_size": 0, "pad_token_id": 0, "relative_attention": True,
                "position_buckets": 8, "max_relative_positions": -1, "norm_rel_ebd": "layer_norm", "share_att_key": True,
                "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}  # fmt: skip
LABELS = {"id2label": {0: "black", 1: "red", 2: "green", 3: "blue", 4: "white"}}
EPS = {"eps": {"layer_norm_eps": 1e-12}}


def modules(*others):
    kinds = ["Transformer", "Pooling", *others]
    return [{"idx": i, "name": str(i), "path": f"{i}_{k}" if i else "", "type": f"sentence_transformers.models.{k}"} for i, k in enumerate(kinds)]


def pooled(mode, *others, size=64, longest=80):
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    return {
        "modules.json": modules(*others),
        "1_Pooling/config.json": {"word_embedding_dimension": size, **{f"pooling_mode_{m}": m == mode for m in modes}, "include_prompt": True},
        "sentence_bert_config.json": {"max_seq_length": longest, "do_lower_case": False},
    }


def dense(inputs, outputs):
    return {"in_features": inputs, "out_features": outputs, "bias": False, "activation_function": "torch.nn.modules.linear.Identity"}


def as_nomic(config, tensors):
    """nomic-ai/nomic-embed-text-v1.5"""
    published = {
        "architectures": ["NomicBertModel"], "model_type": "nomic_bert", "vocab_size": config["vocab_size"], "type_vocab_size": 2,
        "n_embd": config["hidden_size"], "n_head": config["num_attention_heads"], "n_inner": config["intermediate_size"],
        "n_layer": config["num_hidden_layers"], "n_positions": 96, "layer_norm_epsilon": config["layer_norm_eps"],
        "activation_function": "swiglu", "rotary_emb_base": config["rope_parameters"]["rope_theta"], "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False, "rotary_emb_scale_base": None, "rotary_scaling_factor": None, "prenorm": False,
        "parallel_block": False, "use_rms_norm": False, "qkv_proj_bias": False, "mlp_fc1_bias": False, "mlp_fc2_bias": False,
        "causal": False, "torch_dtype": config["dtype"],
    }  # fmt: skip
    names = [("embeddings.LayerNorm", "emb_ln"), ("self_attn.o_proj", "attn.out_proj"), ("up_proj", "fc11"), ("gate_proj", "fc12"),
             ("down_proj", "fc2"), ("post_attention_layernorm", "norm1"), ("post_mlp_layernorm", "norm2")]  # fmt: skip
    return published, fused(tensors, names, "layers.", "encoder.layers.", "attn.Wqkv")


def as_new(config, tensors):
    """Alibaba-NLP/gte-multilingual-base"""
    config = {**config, "architectures": ["NewModel"], "model_type": "new", "position_embedding_type": "rope", "layer_norm_type": "layer_norm",
              "pack_qkv": True, "logn_attention_scale": False, "rope_theta": config["rope_parameters"]["rope_theta"], "rope_scaling": None}  # fmt: skip
    del config["rope_parameters"]
    names = [("self_attn.o_proj", "attention.o_proj"), ("post_attention_layernorm", "attn_ln"), ("post_mlp_layernorm", "mlp_ln")]
    made = fused(tensors, names, "layers.", "encoder.layer.", "attention.qkv_proj")
    for name in [n for n in made if n.endswith("mlp.up_proj.weight")]:
        both = [made.pop(name), made.pop(name.replace("up_proj", "gate_proj"))]
        made[name.replace("up_proj", "up_gate_proj")] = torch.cat(both)
    return config, {f"new.{n}": t for n, t in made.items()}


def fused(tensors, names, layers, published_layers, qkv):
    made = {}
    for name, tensor in tensors.items():
        if "self_attn.q_proj" in name:
            parts = [tensors[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            name, tensor = name.replace("self_attn.q_proj", qkv), torch.cat(parts)
        elif "self_attn.k_proj" in name or "self_attn.v_proj" in name:
            continue
        for old, new in names:
            name = name.replace(old, new)
        made[name.replace(layers, published_layers, 1) if name.startswith(layers) else name] = tensor
    return made


FURTHER = {
    # windows to both sides on two of four layers, two rotations, no norm before the first attention
    "encoder-modernbert": {
        "model": T.ModernBertModel, "config": T.ModernBertConfig, "arguments": MODERN, "dtype": torch.bfloat16, "tokenizer": "wordpiece",
        "architecture": "ModernBertForMaskedLM", "rename": "model.{}".format, "head": False,
        "variations": {"eps": {"norm_eps": 1e-12}, "window": {"local_attention": 400}, "one": {"local_attention": 18},
                       "activation": {"hidden_activation": "gelu_new"}},
        "files": pooled("mean_tokens", "Normalize"),
    },
    # a bias by distance; heads that 4 ranks share unevenly
    "encoder-mpnet": {
        "model": T.MPNetModel, "config": T.MPNetConfig, "dtype": torch.float16, "tokenizer": "byte_level",
        "arguments": {**LIKE_ROBERTA, "num_attention_heads": 6, "hidden_size": 48, "relative_attention_num_buckets": 32},
        "architecture": "MPNetForMaskedLM", "rename": "mpnet.{}".format, "variations": EPS, "files": pooled("mean_tokens", "Normalize", size=48),
    },
    "encoder-nomic-bert": {
        "model": T.NomicBertModel, "config": T.NomicBertConfig, "dtype": torch.float32, "tokenizer": "wordpiece",
        "arguments": {**LIKE_BERT, "hidden_act": "silu", "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}},
        "architecture": "NomicBertModel", "rename": None, "variations": EPS, "files": pooled("mean_tokens", "Normalize"), "published": as_nomic,
    },
    "encoder-gte": {
        "model": T.GteModel, "config": T.GteConfig, "dtype": torch.float16, "tokenizer": "unigram",
        "arguments": {**LIKE_ROBERTA, "type_vocab_size": 0, "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}},
        "architecture": "GteModel", "rename": None, "variations": EPS, "files": pooled("cls_token", "Normalize"),
    },
    "encoder-gte-published": {
        "model": T.GteModel, "config": T.GteConfig, "dtype": torch.float16, "tokenizer": "unigram",
        "arguments": {**LIKE_ROBERTA, "rope_parameters": {"rope_type": "default", "rope_theta": 70.0}},
        "architecture": "GteModel", "rename": None, "variations": EPS, "files": pooled("cls_token", "Normalize"), "published": as_new,
    },
    # DeBERTa v3: no positions but distances, by logarithm from 4 on; heads that 4 ranks share unevenly
    "encoder-deberta": {
        "model": T.DebertaV2Model, "config": T.DebertaV2Config, "dtype": torch.float16, "tokenizer": "unigram",
        "arguments": {**LIKE_DEBERTA, "num_attention_heads": 6, "hidden_size": 48}, "architecture": "DebertaV2ForMaskedLM", "rename": "deberta.{}".format,
        "variations": {**EPS, "one kind": {"pos_att_type": ["c2p"]}, "buckets": {"max_relative_positions": 60}}, "files": pooled("mean_tokens", size=48),
    },
    # Qwen3-Embedding: a whole decoder's name, a bare one's tensors, the last token
    "encoder-qwen3": {
        "model": T.Qwen3Model, "config": T.Qwen3Config, "arguments": {**LIKE_LLAMA, "head_dim": 8}, "dtype": torch.bfloat16,
        "tokenizer": "byte_level", "architecture": "Qwen3ForCausalLM", "rename": None, "variations": {"eps": {"rms_norm_eps": 1e-12}},
        "files": pooled("lasttoken", "Normalize"),
    },
    # e5-mistral: a window before the token alone
    "encoder-mistral": {
        "model": T.MistralModel, "config": T.MistralConfig, "arguments": {**LIKE_LLAMA, "head_dim": 8, "sliding_window": 16}, "dtype": torch.float16,
        "tokenizer": "unigram", "architecture": "MistralModel", "rename": None,
        "variations": {"eps": {"rms_norm_eps": 1e-12}, "window": {"sliding_window": 400}}, "files": pooled("lasttoken", "Normalize"),
    },
    # EmbeddingGemma: windows to both sides, two dense layers
    "encoder-gemma3": {
        "model": T.Gemma3TextModel, "config": T.Gemma3TextConfig, "dtype": torch.float32, "tokenizer": "unigram",
        "arguments": {**LIKE_LLAMA, "num_hidden_layers": 3, "head_dim": 8, "query_pre_attn_scalar": 12, "sliding_window": 16,
                      "use_bidirectional_attention": True, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]},
        "architecture": "Gemma3TextModel", "rename": None,
        "variations": {"eps": {"rms_norm_eps": 1e-12}, "window": {"sliding_window": 400}, "one": {"sliding_window": 18}},
        "files": {**pooled("mean_tokens", "Dense", "Dense", "Normalize"), "2_Dense/config.json": dense(64, 96), "3_Dense/config.json": dense(96, 64)},
    },
    "encoder-llama-both-ways": {
        "model": T.LlamaModel, "config": T.LlamaConfig, "arguments": {**LIKE_LLAMA, "is_causal": False}, "dtype": torch.float16,
        "tokenizer": "byte_level", "architecture": "LlamaModel", "rename": None,
        "variations": {"eps": {"rms_norm_eps": 1e-12}, "causal": {"is_causal": True}}, "files": pooled("mean_tokens"),
    },
}  # fmt: skip

CLASSIFIERS = {
    # a cross-encoder: one number of two texts
    "encoder-classifier-bert": {
        "model": T.BertForSequenceClassification, "config": T.BertConfig, "arguments": {**LIKE_BERT, "num_labels": 1}, "dtype": torch.float32,
        "tokenizer": "wordpiece", "architecture": "BertForSequenceClassification", "rename": None, "variations": EPS, "pairs": True,
    },
    "encoder-classifier-bert-tokens": {
        "model": T.BertForTokenClassification, "config": T.BertConfig, "arguments": {**LIKE_BERT, **LABELS}, "dtype": torch.float16,
        "tokenizer": "wordpiece", "architecture": "BertForTokenClassification", "rename": None, "variations": EPS,
    },
    "encoder-classifier-roberta": {
        "model": T.RobertaForSequenceClassification, "config": T.RobertaConfig, "dtype": torch.bfloat16, "tokenizer": "byte_level",
        "arguments": {**LIKE_ROBERTA, **LABELS, "num_attention_heads": 6, "hidden_size": 48}, "architecture": "RobertaForSequenceClassification",
        "rename": None, "variations": EPS,
    },
    # a reranker: distances as they are, one of the kinds of scores, positions and kinds of texts beside
    "encoder-classifier-deberta": {
        "model": T.DebertaV2ForSequenceClassification, "config": T.DebertaV2Config, "dtype": torch.float32, "tokenizer": "wordpiece",
        "arguments": {**LIKE_DEBERTA, "num_labels": 1, "pos_att_type": ["p2c"], "position_buckets": -1, "norm_rel_ebd": "none", "type_vocab_size": 2,
                      "position_biased_input": True},
        "architecture": "DebertaV2ForSequenceClassification", "rename": None, "variations": EPS, "pairs": True,
    },
    # bge-reranker: pairs that nothing but their separators tells apart
    "encoder-classifier-xlm-roberta": {
        "model": T.XLMRobertaForSequenceClassification, "config": T.XLMRobertaConfig, "arguments": {**LIKE_ROBERTA, "num_labels": 1},
        "dtype": torch.float16, "tokenizer": "unigram", "architecture": "XLMRobertaForSequenceClassification", "rename": None,
        "variations": EPS, "pairs": True,
    },
    "encoder-classifier-distilbert": {
        "model": T.DistilBertForSequenceClassification, "config": T.DistilBertConfig, "dtype": torch.float32, "tokenizer": "wordpiece",
        "arguments": {"n_layers": 2, "n_heads": 8, "dim": 64, "hidden_dim": 100, "max_position_embeddings": 96, "activation": "gelu",
                      "id2label": {0: "NEGATIVE", 1: "POSITIVE"}},
        "architecture": "DistilBertForSequenceClassification", "rename": None, "variations": {"activation": {"activation": "gelu_new"}},
    },
    "encoder-classifier-modernbert": {
        "model": T.ModernBertForSequenceClassification, "config": T.ModernBertConfig, "dtype": torch.float16, "tokenizer": "wordpiece",
        "arguments": {**MODERN, **LABELS, "classifier_pooling": "mean"}, "architecture": "ModernBertForSequenceClassification", "rename": None,
        "variations": {"eps": {"norm_eps": 1e-12}, "pooling": {"classifier_pooling": "cls"}}, "pairs": True,
    },
    "encoder-classifier-modernbert-tokens": {
        "model": T.ModernBertForTokenClassification, "config": T.ModernBertConfig, "arguments": {**MODERN, **LABELS}, "dtype": torch.float32,
        "tokenizer": "wordpiece", "architecture": "ModernBertForTokenClassification", "rename": None, "variations": {"eps": {"norm_eps": 1e-12}},
    },
    "encoder-classifier-qwen2": {
        "model": T.Qwen2ForSequenceClassification, "config": T.Qwen2Config, "arguments": {**LIKE_LLAMA, **LABELS}, "dtype": torch.bfloat16,
        "tokenizer": "byte_level", "architecture": "Qwen2ForSequenceClassification", "rename": None, "variations": {"eps": {"rms_norm_eps": 1e-12}},
    },
    "encoder-classifier-llama-tokens": {
        "model": T.LlamaForTokenClassification, "config": T.LlamaConfig, "arguments": {**LIKE_LLAMA, **LABELS}, "dtype": torch.float16,
        "tokenizer": "unigram", "architecture": "LlamaForTokenClassification", "rename": None, "variations": {"eps": {"rms_norm_eps": 1e-12}},
    },
}  # fmt: skip
for row in CLASSIFIERS.values():
    row.update({"classifier": True, "files": {}})
