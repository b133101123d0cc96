#!/usr/bin/env python3
"""List the keys of transformers' own config classes and their defaults: config-keys.json.gz, held by config-keys.test.ts.

In       transformers' tables of causal and masked models
Out      {"madeWith", "models": {architecture: {"modelType", "sizes": {name: number}, "keys": {key: default}}}}; `keys` is config.json as the class makes
         it of nothing, without what all classes have from their base; `sizes` are what transformers calls the dimensions, whatever their keys
Limits   classes that cannot be made of nothing are left out, as are those of several parts (their text parts are rows of their own)

    python3 list_config_keys.py
"""
import gzip
import json
import warnings
from importlib.metadata import version
from pathlib import Path

import transformers
from transformers import PretrainedConfig
from transformers.models.auto import modeling_auto as auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

HERE = Path(__file__).resolve().parent
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
# of the base, but part of the mathematics
KEPT = ("tie_word_embeddings", "is_decoder", "add_cross_attention")


def plain(config):
    return json.loads(config.to_json_string(use_diff=False))


def main():
    warnings.simplefilter("ignore")
    base = set(plain(PretrainedConfig())) - set(KEPT)
    models = {}
    for table in (auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES):
        for model_type, name in table.items():
            if not isinstance(name, str) or name in models:
                continue
            try:
                config = CONFIG_MAPPING[model_type]()
                if getattr(transformers, name).config_class is not type(config):
                    continue  # another type of the same class comes
                keys = {key: value for key, value in plain(config).items() if key not in base}
                sizes = {size: getattr(config, size) for size in SIZES if isinstance(getattr(config, size, None), int)}
            except Exception as reason:  # noqa: BLE001: any of 200 classes' own
                print(f"  {name}: {type(reason).__name__}: {str(reason)[:100]}")
                continue
            if not config.sub_configs:
                models[name] = {"modelType": model_type, "sizes": sizes, "keys": dict(sorted(keys.items()))}
    text = json.dumps({"madeWith": {"transformers": version("transformers")}, "models": dict(sorted(models.items()))})
    (HERE / "config-keys.json.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(len(models), "classes")


if __name__ == "__main__":
    main()
