#!/usr/bin/env python3
"""What transformers answers with the weights that 4 and 8 bits leave: the reference of devices that do not round activations.

In       the tiny checkpoints of this folder; the partitioner's shards of them for WebGPU (blocks of codes and scales, rows in floats)
Out      quantised.jsonl.gz (README.md has the format)
How      Codes and scales are read here, after the definition of ONNX Runtime's MatMulNBits, and put back into the checkpoint in the places
         of the floats that they came from, which transformers then loads and runs in float32. Where a row or column belongs is found by
         likeness to the checkpoint's own, not by the partitioner's layout: each must have exactly one that is like it, so that a row that
         is elsewhere, twice, or scaled is seen here.
Prompts  those of golden.json; where two logits of a greedy step come within MIN_GAP, the prompt's first id is the next one, until none do
Errors   refuses, and writes nothing, when a weight is not to be found or farther off than its bits let it be

    python3 make_quantised.py                  # half a minute; needs the built project (npm run build)
"""
import base64
import gzip
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from make_goldens import MIN_GAP, Refused, greedy, load, logits_of, refuse, versions
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

HERE = Path(__file__).resolve().parent
PROGRAM = HERE.parent.parent / "server" / "shardserve.mjs"
FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gpt2", "gptj", "gpt-neox", "phi3", "mixtral"]
# As WebGPU has them by default; and one with the linears at 8 bits that small models have there on a CPU.
FORMATS = [(name, dtype, None) for dtype in ("int4", "int8") for name in FAMILIES] + [("llama", "int4", "head,qkv")]
NEW_TOKENS = 8
# |rounded - exact| / |exact| of a linear: rounding to 15 or 255 steps of Gaussian numbers in blocks of 16 or 32 leaves 0.1 and 0.006.
MOST_OFF = {4: 0.15, 8: 0.01}
# cos of the angle to the row that it came from; to another it is 0.5 at most
LEAST_LIKE = 0.95


class Shards:
    """The linears of one rank's shards as floats: name -> [outputs, inputs]."""

    def __init__(self, folder):
        self.manifest = json.loads((folder / "manifest.json").read_text())
        self.bytes = (folder / "rank-0.weights").read_bytes()
        self.tensors = {tensor["name"]: tensor for tensor in self.manifest["tensors"]}

    def read(self, tensor, kind):
        refuse(tensor["file"] != "rank", f"{tensor['name']} is not where it was looked for")
        flat = np.frombuffer(self.bytes, kind, offset=tensor["offset"], count=int(np.prod(tensor["shape"])))
        return flat.reshape(tensor["shape"])

    def dequantised(self, name):
        tensor = self.tensors[name + ".weight"]
        bits, block = tensor["packing"]["bits"], tensor["packing"]["blockSize"]
        refuse(name + ".zero-points" in self.tensors, f"{name} has zero points")
        codes = self.read(tensor, np.uint8)
        outputs, blocks, _ = codes.shape
        if bits == 4:  # the lower half of a byte comes first
            codes = np.stack([codes & 15, codes >> 4], axis=-1)
        codes = codes.reshape(outputs, blocks, block).astype(np.float32)
        scales = self.read(self.tensors[name + ".scales"], np.float32)[:, :, None]
        return ((codes - 2 ** (bits - 1)) * scales).reshape(outputs, blocks * block)

    def linears(self):
        """-> (what it was made of, weights, bits)"""
        done = set()
        for tensor in self.manifest["tensors"]:
            if "packing" not in tensor:
                continue
            name = tensor["name"].removesuffix(".weight")
            stem = name.split(".piece-")[0]
            if stem in done:
                continue
            done.add(stem)
            count = tensor.get("piece", {"of": 1})["of"]
            names = [name] if "piece" not in tensor else [f"{stem}.piece-{index}" for index in range(count)]
            sources = {source.split("[")[0] for source in tensor["sources"]}
            yield sources, np.concatenate([self.dequantised(one) for one in names], axis=1), tensor["packing"]["bits"]


def rows_of(exact, rounded, factor):
    """For each row of the one that of the other which it became; None where there are none of this length or none that is like it.
    Rows may hold the factor of scores already (queries do), which the model multiplies itself: they are divided by it.
    """
    if exact.shape[1] != rounded.shape[1]:
        return None
    sizes = np.linalg.norm(exact, axis=1)[:, None] * np.maximum(np.linalg.norm(rounded, axis=1), 1e-30)[None]
    likeness = (exact @ rounded.T) / sizes
    found = likeness.argmax(axis=1)
    is_there = likeness.max(axis=1).min() > LEAST_LIKE and len(set(found.tolist())) == len(found)
    if not is_there:
        return None
    found = rounded[found]
    grown = (found * exact).sum(axis=1) / (exact * exact).sum(axis=1)
    holds = np.abs(np.log(grown / factor)) < np.abs(np.log(grown))
    return np.where(holds[:, None], found / np.float32(factor), found)


def put_back(exact, rounded, factor):
    """The checkpoint's tensor with what was rounded in its place, whichever way it lies."""
    for turned in (False, True):
        here = exact.T if turned else exact
        for found, back in ((rows_of(here, rounded, factor), lambda x: x), (rows_of(here.T, rounded.T, factor), lambda x: x.T)):
            if found is not None:
                found = back(found)
                return found.T if turned else found
    return None


def head_size(folder):
    config = AutoConfig.from_pretrained(folder)
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def rounded_checkpoint(name, shards, folder):
    """Writes a checkpoint of what the shards hold."""
    source = HERE / name
    tensors = {}
    for file in sorted(source.glob("*.safetensors")):
        tensors.update({key: value.float() for key, value in load_file(file).items()})
    config = json.loads((source / "config.json").read_text())
    config["torch_dtype"] = "float32"
    config.pop("dtype", None)
    is_tied = "lm_head.weight" not in tensors and "embed_out.weight" not in tensors
    embeddings = [key for key in tensors if key.endswith(("embed_tokens.weight", "wte.weight"))]
    factor = head_size(source) ** -0.5
    found, worst = set(), {4: 0.0, 8: 0.0}
    for sources, weights, bits in shards.linears():
        for source_name in sources:
            # GPT-2's may be published without
            key = source_name if source_name in tensors else source_name.removeprefix("transformer.")
            exact = tensors[key].numpy()
            rounded = put_back(exact, weights, factor)
            refuse(rounded is None, f"{name}: {key} is not in the shards")
            off = float(np.linalg.norm(rounded - exact) / np.linalg.norm(exact))
            refuse(off > MOST_OFF[bits], f"{name}: {key} is {off:.3f} off in {bits} bits")
            worst[bits] = max(worst[bits], off)
            target = "lm_head.weight" if is_tied and key in embeddings else key
            refuse(target in found, f"{name}: {key} is there twice")
            found.add(target)
            tensors[target] = torch.from_numpy(np.ascontiguousarray(rounded))
    if is_tied:  # the embedding stays as it was
        config["tie_word_embeddings"] = False
        refuse("lm_head.weight" not in found, f"{name}: no head")
    left = [key for key, value in tensors.items() if value.dim() >= 2 and key not in found and key not in embeddings]
    # tables of positions and routers stay floats
    refuse([key for key in left if not key.endswith(("wpe.weight", "embed_in.weight", "gate.weight", ".bias", ".masked_bias"))],
           f"{name}: not in the shards: {left}")  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return worst


def decided(model, ids):
    """-> (prompt, greedy ids, smallest gap) by the rule above."""
    vocabulary = model.config.vocab_size
    for step in range(vocabulary):
        prompt = [(ids[0] + step) % vocabulary, *ids[1:]]
        new, gap = greedy(model, prompt, NEW_TOKENS)
        if gap >= MIN_GAP:
            return prompt, new, gap
    raise Refused("every prompt is undecided")


def make(name, dtype, eight_bit, scratch):
    arguments = ["partition", str(HERE / name), "--dtype", dtype, "--device", "webgpu", "--store", str(scratch / "store"), "--json"]
    if eight_bit is not None:
        arguments += ["--eight-bit", eight_bit]
    subprocess.run(["node", str(PROGRAM), *arguments], check=True, stdout=subprocess.DEVNULL)
    (shards,) = (scratch / "store").glob("*/manifest.json")
    folder = scratch / "model"
    folder.mkdir()
    worst = rounded_checkpoint(name, Shards(shards.parent), folder)
    model = load(folder)
    golden = json.loads((HERE / name / "golden.json").read_text())
    prompts = []
    for prompt in golden["prompts"]:
        ids, new, gap = decided(model, prompt["ids"])
        logits = logits_of(model, ids)[-1].numpy().astype("<f4")
        prompts.append({
            "ids": ids, "greedyIds": new, "smallestGap": round(gap, 6), "logits": base64.b64encode(logits.tobytes()).decode("ascii"),
            "isGoldens": ids == prompt["ids"] and new == prompt["greedyIds"][:NEW_TOKENS],
        })  # fmt: skip
    gaps = ", ".join(f"{one['smallestGap']:.3f}" for one in prompts)
    same = sum(one.pop("isGoldens") for one in prompts)
    off = ", ".join(f"{bits} bits {worst[bits]:.3f} off" for bits in worst if worst[bits] > 0)
    print(f"{name} {dtype}{'' if eight_bit is None else ' ' + eight_bit}: {off}; gaps {gaps}; {same} of 3 as in floats", flush=True)
    return {"model": name, "dtype": dtype, "eightBit": eight_bit, "vocabSize": model.config.vocab_size, "prompts": prompts}


def main():
    torch.set_num_threads(1)
    rows = []
    for name, dtype, eight_bit in FORMATS:
        scratch = Path(tempfile.mkdtemp())
        try:
            rows.append(make(name, dtype, eight_bit, scratch))
        finally:
            shutil.rmtree(scratch)
    head = {"madeWith": versions(), "computedIn": "float32"}
    text = "".join(json.dumps(row) + "\n" for row in (head, *rows))
    with open(HERE / "quantised.jsonl.gz", "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(text.encode("ascii"))


if __name__ == "__main__":
    try:
        main()
    except Refused as reason:
        sys.exit(f"refused: {reason}")
