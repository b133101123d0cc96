#!/usr/bin/env python3
"""What transformers computes when one key of a golden's config.json is another: mutations.jsonl.gz, held by suites/mutations.suite.ts.

In       the goldens of tiny_families.py and encoder_goldens.py that transformers reads as they are
Out      one line a change: {"golden", "path": [key, …], "value", "logits": base64 of float32}: every KEPT-th logit at the last position of the
         medium prompt; keys that stop transformers from loading the checkpoint are left out. Of encoders {"golden", "file"?, "path", "value",
         "texts": [index in vectors.json, …], "logits"}: every KEPT_OF_VECTOR-th number of each text's vector, or scores, one behind the other;
         `file` where it is one of sentence-transformers'
"""
import argparse
import base64
import copy
import gzip
import json
import shutil
import tempfile
import warnings
from pathlib import Path

import torch
from encoder_goldens import ROWS, sentences_from, texts_of, vectors_of
from make_goldens import HERE, TINY, auto_class, load, logits_of
from tiny_families import FAMILIES
from transformers import AutoConfig

LEFT_OUT = {"architectures", "model_type", "transformers_version", "dtype", "torch_dtype", "vocab_size", "bos_token_id", "eos_token_id",
            "pad_token_id", "quantization_config", "_name_or_path", "id2label", "label2id"}  # fmt: skip
# every eighth of 131: a change moves them all
KEPT = 8
KEPT_OF_VECTOR = 4
# of each encoder a sentence and a longer one; of what scores pairs, a pair
MEDIUM, LONGER, PAIR = 2, 4, -1
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


def as_text(numbers):
    return base64.b64encode(numbers.numpy().astype("<f4").tobytes()).decode()


def encoder_rows(name, spec):
    """Every key of its config.json, and of sentence-transformers' files that say how vectors are made."""
    texts = texts_of(spec)
    chosen = [MEDIUM, LONGER, *([len(texts) + PAIR] if spec.get("pairs") else [])]
    files = ["config.json", *(file for file in spec["files"] if file.endswith("/config.json"))]
    for file in files:
        raw = json.loads((HERE / name / file).read_text())
        for path, value in mutations(raw):
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / name
                shutil.copytree(HERE / name, folder)
                (folder / file).write_text(json.dumps(changed(raw, path, value)))
                try:
                    vectors = vectors_of(sentences_from(folder, spec), [texts[index] for index in chosen])
                except Exception:  # noqa: BLE001: whatever a changed key stops
                    continue
            numbers = torch.cat([vector.flatten()[::KEPT_OF_VECTOR] for vector in vectors])
            if torch.isfinite(numbers).all():
                where = {} if file == "config.json" else {"file": file}
                yield {"golden": name, **where, "path": list(path), "value": value, "texts": chosen, "logits": as_text(numbers)}


def write(file, rows):
    """After each golden, so that a run that is cut short leaves what it has."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    file.write_bytes(gzip.compress(lines.encode(), 9, mtime=0))


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description="Change keys of goldens' config.json, one at a time.")
    parser.add_argument("--only", nargs="+", default=[], help="make these anew and keep the others; encoders: all of them")
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
                    rows.append({"golden": name, "path": list(path), "value": value, "logits": as_text(logits[::KEPT])})
        print(name, len(rows), flush=True)
        write(file, rows)
    for name, spec in ROWS.items():
        # laid out as published, which transformers doesn't read
        if spec.get("published") or (only and name not in only and "encoders" not in only):
            continue
        rows = [row for row in rows if row["golden"] != name]
        rows += encoder_rows(name, spec)
        print(name, len(rows), flush=True)
        write(file, rows)


if __name__ == "__main__":
    main()
