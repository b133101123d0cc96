#!/usr/bin/env python3
"""What transformers computes when one key of a golden's config.json is another: mutations.jsonl.gz, held by suites/mutations.suite.ts.

In       the goldens of tiny_families.py that transformers reads as they are
Out      one line a change: {"golden", "path": [key, …], "value", "logits": base64 of float32}: every KEPT-th logit at the last position of the
         medium prompt; keys that stop transformers from loading the checkpoint are left out
"""
import argparse
import base64
import copy
import gzip
import json
import tempfile
import warnings
from pathlib import Path

import torch
from make_goldens import HERE, TINY, auto_class, load, logits_of
from tiny_families import FAMILIES
from transformers import AutoConfig

LEFT_OUT = {"architectures", "model_type", "transformers_version", "dtype", "torch_dtype", "vocab_size", "bos_token_id", "eos_token_id",
            "pad_token_id", "quantization_config", "_name_or_path"}  # fmt: skip
# every eighth of 131: a change moves them all
KEPT = 8
# laid out as published, which transformers reads too
PUBLISHED = {"deepseek-v2", "deepseek-v3"}
WORDS = {"silu": "relu", "relu2": "relu", "gelu": "relu", "sliding_attention": "full_attention", "full_attention": "sliding_attention",
         "chunked_attention": "full_attention"}


def others(value):
    """One other value that might be meant."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [value * 1.5 if value else 0.5]
    if isinstance(value, str):
        return [WORDS.get(value, "relu")]
    return []


def mutations(config, path=()):
    for key, value in config.items():
        if key in LEFT_OUT:
            continue
        if isinstance(value, dict):
            yield from mutations(value, (*path, key))
        elif isinstance(value, list) and value and key == "layer_types":
            yield (*path, key), [WORDS[value[0]], *value[1:]]
        else:
            for other in others(value):
                yield (*path, key), other


def changed(config, path, value):
    config = copy.deepcopy(config)
    at = config
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return config


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description="Change keys of goldens' config.json, one at a time.")
    parser.add_argument("--only", nargs="+", default=[], help="make these anew and keep the others")
    only = parser.parse_args().only
    file = HERE / "mutations.jsonl.gz"
    kept = gzip.decompress(file.read_bytes()).decode().splitlines() if only else []
    rows = [row for row in map(json.loads, kept) if row["golden"] not in only]
    for name, spec in {**TINY, **FAMILIES}.items():
        if only and name not in only:
            continue
        if (spec.get("repack") and name not in PUBLISHED) or spec.get("rename"):
            continue
        folder = HERE / name
        config = json.loads((folder / "config.json").read_text())
        ids = json.loads((folder / "golden.json").read_text())["prompts"][1]["ids"]
        for path, value in mutations(config):
            with tempfile.TemporaryDirectory() as scratch:
                for weights in folder.glob("*.safetensors*"):
                    (Path(scratch) / weights.name).symlink_to(weights)
                (Path(scratch) / "config.json").write_text(json.dumps(changed(config, path, value)))
                try:
                    AutoConfig.from_pretrained(scratch)
                    logits = logits_of(load(scratch, auto=auto_class(spec), attention=spec.get("attention", "eager")), ids)[-1]
                except Exception:  # noqa: BLE001: whatever a changed key stops
                    continue
                if torch.isfinite(logits).all():
                    text = base64.b64encode(logits[::KEPT].numpy().astype("<f4").tobytes()).decode()
                    rows.append({"golden": name, "path": list(path), "value": value, "logits": text})
        print(name, len(rows), flush=True)
        # after each, so that a run that is cut short leaves what it has
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        file.write_bytes(gzip.compress(lines.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
