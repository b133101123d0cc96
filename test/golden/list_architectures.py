#!/usr/bin/env python3
"""List the architectures that transformers knows, with a tiny config.json and the tensors of each that can be made small.

In       transformers' own tables of causal, masked and image-to-text models
Out      architectures.json.gz: {"madeWith", "names": {kind: [name, …]}, "models": {name: {"config": {…}, "tensors": {name: shape}}}}
         ../../partitioner/policies/transformers-names.ts: their names and model types
Limits   a model whose sizes no table below makes small is a name without tensors; no weights are made (torch's meta device)

    python3 list_architectures.py
"""
import gzip
import json
import re
import signal
import textwrap
import warnings
from importlib.metadata import version
from pathlib import Path

import torch
import transformers
from transformers.models.auto import modeling_auto as auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

HERE = Path(__file__).resolve().parent
KINDS = {
    "causal": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "masked": auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "imageToText": auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
}
SMALL = {
    "hidden_size": 64, "n_embd": 64, "d_model": 64, "dim": 64, "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "intermediate_size": 96, "ffn_dim": 96, "n_inner": 96, "ffn_hidden_size": 96, "moe_intermediate_size": 32, "vocab_size": 131,
    "shared_expert_intermediate_size": 48, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "n_group": 1, "topk_group": 1, "max_position_embeddings": 256, "n_positions": 256, "decoder_layers": 2, "encoder_layers": 2,
    "decoder_attention_heads": 4, "encoder_attention_heads": 4, "decoder_ffn_dim": 96, "encoder_ffn_dim": 96, "q_lora_rank": 24,
    "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "qk_head_dim": 24, "first_k_dense_replace": 1,
    "embedding_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "word_embed_proj_dim": 64,
}  # fmt: skip
BY_LAYER = ("layer_types", "mlp_layer_types", "no_rope_layers")


def shrink(config):
    for key, value in SMALL.items():
        if getattr(config, key, None) is not None and not isinstance(getattr(config, key), (list, dict)):
            try:
                setattr(config, key, value)
            except (AttributeError, NotImplementedError):
                pass  # a name for another one
    for key in BY_LAYER:
        value = getattr(config, key, None)
        if isinstance(value, list):
            setattr(config, key, value[:2])
    for key, part in list(vars(config).items()):
        if isinstance(part, transformers.PretrainedConfig):
            shrink(part)
    return config


def too_long(*_):
    raise TimeoutError("too long")


def built(model_type, name):
    """config.json and tensors, or None."""
    signal.alarm(30)
    try:
        config = shrink(CONFIG_MAPPING[model_type]())
        with torch.device("meta"):
            model = getattr(transformers, name)(config)
        tensors = {key: list(value.shape) for key, value in model.state_dict().items()}
        if sum(torch.Size(shape).numel() for shape in tensors.values()) > 3_000_000:
            return None
        text = {**json.loads(config.to_json_string(use_diff=False)), "architectures": [name]}
        return {"config": text, "tensors": tensors}
    except Exception as reason:  # noqa: BLE001: any of 300 models' own
        print(f"  {name}: {type(reason).__name__}: {str(reason)[:100]}")
        return None
    finally:
        signal.alarm(0)


def main():
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, too_long)
    names, models = {}, {}
    for kind, table in KINDS.items():
        names[kind] = sorted({name for name in table.values() if isinstance(name, str)})
        for model_type, name in table.items():
            if name in models:
                continue
            found = built(model_type, name)
            if found is not None:
                models[name] = found
    text = json.dumps({"madeWith": {"transformers": version("transformers")}, "names": names, "models": dict(sorted(models.items()))})
    (HERE / "architectures.json.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print({kind: len(found) for kind, found in names.items()}, len(models), "with tensors")
    write_names(names)


def write_names(names):
    def block(words):
        return "\n".join(f"  {line}" for line in textwrap.wrap(" ".join(sorted(words)), 116, break_long_words=False, break_on_hyphens=False))

    types = {model_type for table in KINDS.values() for model_type in table}
    (HERE.parent.parent / "partitioner" / "policies" / "transformers-names.ts").write_text(f"""/**
 * What transformers {version("transformers")} knows: architectures and model types of its causal, masked and image-to-text models.
 *
 * Out     names; known-architectures.ts says what becomes of them
 * Source  written by test/golden/list_architectures.py
 */
const words = (text: string): ReadonlySet<string> => new Set(text.trim().split(/\\s+/));

/** Decoders. */
export const CAUSAL_NAMES = words(`
{block(names["causal"])}
`);

/** Encoders. */
export const MASKED_NAMES = words(`
{block(names["masked"])}
`);

/** Text out of images, or of images and text. */
export const IMAGE_NAMES = words(`
{block(names["imageToText"])}
`);

export const MODEL_TYPES = words(`
{block(types)}
`);
""")


if __name__ == "__main__":
    main()
