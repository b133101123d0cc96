#!/usr/bin/env python3
"""Make the golden files of this folder with Hugging Face transformers, the independent program that the product is held to.

In       ../../models/embedded, ../../models/training/heldout.txt
Out      one folder a name: embedded, llama, llama-linear, mistral, qwen2, qwen3, those of tiny_families.py and encoder_goldens.py, chooser, tokenizer
         (README.md has the formats)
Same     on one machine and the versions of requirements.txt the files come out the same; elsewhere floats may differ in the last digits
Errors   refuses, and writes nothing for that name, when a golden would be blind or undecided: see refuse()

    python3 make_goldens.py                    # all
    python3 make_goldens.py --only qwen3       # one
"""
import argparse
import copy
import functools
import json
import random
import re
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from encoder_goldens import ENCODERS
from safetensors.torch import load_file, save_file
from tiny_families import FAMILIES
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    LlamaConfig,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent.parent / "models"
EMBEDDED = MODELS / "embedded"
HELDOUT = MODELS / "training" / "heldout.txt"
END_OF_TEXT = "<|endoftext|>"

TOLERANCE = 1e-3
# A greedy token whose runner-up is nearer than this could be another one within the tolerance: the case is drawn again.
MIN_GAP = 5 * TOLERANCE
# What a wrong or ignored parameter must move the logits by, so that no test passes without it.
MIN_EFFECT = 100 * TOLERANCE
ACTIVATION_EFFECT = TOLERANCE
# float32 against float64: above this the tolerance would measure rounding, not correctness.
MAX_ROUNDING = TOLERANCE / 5
# A greedy text that repeats one id would be right whatever the positions are.
MIN_DIFFERENT = 12


class Refused(Exception):
    pass


def refuse(when, why):
    if when:
        raise Refused(why)


def versions():
    return {name: version(name) for name in ("transformers", "torch", "tokenizers")}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="ascii")


def replace_folder(made, name):
    """The finished folder takes the old one's place only when all of it is there."""
    target = HERE / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.move(made, target)
    target.chmod(0o755)


# -- models --------------------------------------------------------------------------------------------------------------


def auto_class(spec):
    """Models that also read images have another."""
    return AutoModelForImageTextToText if spec.get("reads_images") else AutoModelForCausalLM


def load(folder, dtype=torch.float32, config=None, auto=AutoModelForCausalLM, attention="eager"):
    """eager: attention as its formula, without a fused kernel's own order of sums."""
    model = auto.from_pretrained(folder, dtype=dtype, config=config, attn_implementation=attention)
    return model.eval()


@torch.no_grad()
def logits_of(model, ids):
    """[positions, vocabulary] of one sequence, in one pass without a cache."""
    return model(torch.tensor([ids]), use_cache=False).logits[0]


def greedy(model, prompt, count):
    """-> (ids, smallest distance between the best and the second-best logit). End ids do not end it."""
    ids, gap = list(prompt), float("inf")
    for _ in range(count):
        best = torch.topk(logits_of(model, ids)[-1], 2)
        gap = min(gap, (best.values[0] - best.values[1]).item())
        ids.append(best.indices[0].item())
    return ids[len(prompt) :], gap


def cached_greedy(model, prompt, count):
    """The same by generate() with its key-value cache: a second opinion inside transformers."""
    row = torch.tensor([prompt])
    out = model.generate(
        row, attention_mask=torch.ones_like(row), do_sample=False, max_new_tokens=count, min_new_tokens=count,
        eos_token_id=None, pad_token_id=0, repetition_penalty=1.0,
    )  # fmt: skip
    return out[0, len(prompt) :].tolist()


def end_ids_of(model):
    end = model.config.get_text_config().eos_token_id
    return set(end if isinstance(end, list) else [end])


def write_model_golden(folder, model_name, model, exact, prompts, positions, new_tokens):
    """golden.json and logits.f32. prompts: [{"name", "text"?, "ids"}]; positions(ids) -> which rows are kept."""
    rows, cases = [], []
    for prompt in prompts:
        ids = prompt["ids"]
        logits = logits_of(model, ids)
        rounding = (logits.double() - logits_of(exact, ids)).abs().max().item()
        refuse(rounding > MAX_ROUNDING, f"{prompt['name']}: float32 is {rounding:.1e} off")
        new, gap = greedy(model, ids, new_tokens)
        refuse(gap < MIN_GAP, f"{prompt['name']}: two logits within {gap:.1e}")
        refuse(end_ids_of(model) & set(new), f"{prompt['name']}: an end id is among the greedy ids")
        refuse(len(set(new)) < MIN_DIFFERENT, f"{prompt['name']}: {len(set(new))} different greedy ids")
        refuse(new != cached_greedy(model, ids, new_tokens), f"{prompt['name']}: generate() disagrees")
        kept = positions(ids)
        first = sum(len(r) for r in rows)
        rows.append(logits[kept].numpy().astype("<f4"))
        cases.append({**prompt, "logitPositions": kept, "firstLogitRow": first, "greedyIds": new, "smallestGap": round(gap, 6)})
        print(f"  {prompt['name']}: {len(ids)} tokens, smallest gap {gap:.4f}, float32 off by {rounding:.1e}")
    for file in folder.iterdir():
        file.chmod(0o644)
    (folder / "logits.f32").write_bytes(np.concatenate(rows).tobytes())
    write_json(folder / "golden.json", {
        "model": model_name, "madeWith": versions(), "computedIn": "float32", "tolerance": TOLERANCE,
        "vocabSize": model.config.get_text_config().vocab_size, "logitsFile": "logits.f32", "prompts": cases,
    })  # fmt: skip


def make_embedded():
    tokenizer = Tokenizer.from_file(str(EMBEDDED / "tokenizer.json"))
    stories = [s.strip("\n") for s in HELDOUT.read_text(encoding="ascii").split(END_OF_TEXT) if s.strip()]
    model, exact = load(EMBEDDED), load(EMBEDDED, torch.float64)

    def prompt(name, text):
        return {"name": name, "text": text, "ids": tokenizer.encode(text).ids}

    def opening(story, words):
        """The first words of a held-out story, line breaks kept."""
        end = 0
        for _ in range(words):
            end = min(i for i in (story.find(" ", end + 1), story.find("\n", end + 1)) if i > 0)
        return story[:end]

    # stories are tried in the order of the file until no greedy step is undecided
    def decided(name, words):
        for story in stories:
            if len(story.split()) <= words + 1:
                continue
            candidate = prompt(name, opening(story, words))
            if greedy(model, candidate["ids"], 64)[1] >= 2 * MIN_GAP:
                return candidate
        raise Refused(f"{name}: every story is undecided")

    prompts = [prompt("short", "Once upon a time"), decided("medium", 35), decided("long", 155)]
    folder = Path(tempfile.mkdtemp(dir=HERE))
    try:
        write_model_golden(folder, "embedded", model, exact, prompts, lambda ids: [len(ids) - 1], 64)
        replace_folder(folder, "embedded")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# Five tiny checkpoints of the four families. Sizes are odd on purpose: a vocabulary and an ffn that no world size divides, head_dim
# that is not hidden / heads. 8 heads and 2 or 4 KV heads: world sizes 1, 2 and 4 divide, and with 2 KV heads 4 ranks replicate them.
# rms_norm_eps is far from usual, because at 1e-5 nobody would see it ignored.
SHARED = {
    "num_hidden_layers": 2, "num_attention_heads": 8, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2,
    "rms_norm_eps": 0.02, "hidden_act": "silu",
}  # fmt: skip
TINY = {
    "llama": {
        "config": LlamaConfig,
        "arguments": {
            "vocab_size": 257, "hidden_size": 128, "intermediate_size": 200, "num_key_value_heads": 4, "head_dim": 16,
            "tie_word_embeddings": False,
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
        "dtype": torch.float32, "classic": True, "shard_bytes": 300_000,
        "variations": {"rope scaling": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}},
    },
    "llama-linear": {
        "config": LlamaConfig,
        "arguments": {
            "vocab_size": 131, "hidden_size": 96, "intermediate_size": 176, "num_key_value_heads": 2, "head_dim": 16,
            "tie_word_embeddings": True, "attention_bias": True,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
        },
        "dtype": torch.float16, "classic": False, "shard_bytes": None,
        "variations": {"rope scaling": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}},
    },
    "mistral": {
        "config": MistralConfig,
        "arguments": {
            "vocab_size": 257, "hidden_size": 64, "intermediate_size": 112, "num_key_value_heads": 4, "head_dim": 16,
            "tie_word_embeddings": False, "sliding_window": 16,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        "dtype": torch.bfloat16, "classic": True, "shard_bytes": None,
        "variations": {"window": {"sliding_window": None}, "window by one": {"sliding_window": 17}},
    },
    "qwen2": {
        "config": Qwen2Config,
        "arguments": {
            "vocab_size": 160, "hidden_size": 128, "intermediate_size": 136, "num_key_value_heads": 2,
            "tie_word_embeddings": False, "use_sliding_window": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
        "dtype": torch.float32, "classic": False, "shard_bytes": None,
        "variations": {},
    },
    "qwen3": {
        "config": Qwen3Config,
        "arguments": {
            "vocab_size": 131, "hidden_size": 96, "intermediate_size": 144, "num_key_value_heads": 4, "head_dim": 32,
            "tie_word_embeddings": True, "use_sliding_window": False, "attention_bias": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
        "dtype": torch.float32, "classic": True, "shard_bytes": None,
        "variations": {},
    },
}  # fmt: skip
PROMPT_LENGTHS = {"short": 5, "medium": 40, "long": 90}
TINY_NEW_TOKENS = 32


def redraw(model, generator):
    """Every parameter at a size where it shows: attention peaked, residual branches as large as the stream, logits of a few units."""
    tied = model.config.tie_word_embeddings

    def normal(parameter, deviation):
        return torch.randn(parameter.shape, generator=generator) * deviation

    for name, p in model.named_parameters():
        if name.endswith("norm.weight"):
            # heads' own norms set the size of scores (their mean is 1.5: peaked), the others that of the stream
            middle = 1.5 if name.endswith(("q_norm.weight", "k_norm.weight")) else 1.0
            value = middle + (torch.rand(p.shape, generator=generator) * 2 - 1) * 0.3
        elif name.endswith(".bias"):
            value = normal(p, 0.5)
        elif name.endswith("embed_tokens.weight"):
            value = normal(p, 3 / p.shape[1] ** 0.5 if tied else 1)
        elif name.endswith("lm_head.weight"):
            value = normal(p, 3 / p.shape[1] ** 0.5)
        elif name.endswith(("q_proj.weight", "k_proj.weight")):
            value = normal(p, 2.5 / p.shape[1] ** 0.5)
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            # where the head is the embedding, a small branch would leave the last token itself the likeliest next one
            value = normal(p, (3 if tied else 1) / p.shape[1] ** 0.5)
        else:
            value = normal(p, 1 / p.shape[1] ** 0.5)
        p.data.copy_(value)


def redraw_by_kind(model, generator, spec):
    """As redraw(), by what a module is and not by its name: for every family."""
    tied, vocabulary = model.config.tie_word_embeddings, model.config.get_text_config().vocab_size
    query = spec.get("query_deviation", 2.5)
    # a model with a bias in every linear and norm says the same word for ever when they are large
    bias = spec.get("bias_deviation", 0.3)
    drawn = set()
    middle_of_norms = 0.0 if spec.get("plus_one") else 1.0

    def normal(parameter, deviation):
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * deviation)

    for path, module in model.named_modules():
        kind, leaf = type(module).__name__, path.rpartition(".")[2]
        own = dict(module.named_parameters(recurse=False))
        for name, p in own.items():
            if id(p) in drawn:
                continue  # a tied head
            drawn.add(id(p))
            if "Norm" in kind:
                if name == "bias":
                    normal(p, bias)
                    continue
                # heads' own norms set the size of scores: peaked
                is_head_norm = re.search(r"(^|\.)[qk]_(layer)?norm", path) is not None
                middle = middle_of_norms + (0.5 if is_head_norm else 0)
                if path.endswith("word_embeddings_layernorm"):
                    middle = 0.3  # else the last token itself is always the likeliest next one
                if path in ("model.norm", "model.language_model.norm"):
                    middle = spec.get("final_norm", middle)
                spread = min(0.3, middle) if not spec.get("plus_one") else 0.3
                p.data.copy_(middle + (torch.rand(p.shape, generator=generator) * 2 - 1) * spread)
            elif name == "bias" or name.endswith("_bias"):
                normal(p, bias)
            elif name == "sinks":
                normal(p, 2)
            elif "Embedding" in kind:
                is_head = tied and p.shape[0] == vocabulary
                # where it is multiplied, a smaller one leaves the branches something to say
                normal(p, spec.get("embedding_deviation", 3) / p.shape[1] ** 0.5 if is_head else 1)
            else:
                inputs = p.shape[0] if kind == "Conv1D" else p.shape[-1]
                if p.shape[0] == vocabulary:
                    deviation = 3
                elif leaf in ("q_proj", "k_proj", "q_b_proj"):
                    deviation = query
                elif re.search(r"qkv|c_attn|query_key_value|Wqkv", leaf):
                    deviation = spec.get("fused_deviation", 1.7)
                elif leaf in OUTPUT_PROJECTIONS or name in OUTPUT_PROJECTIONS:
                    deviation = 3 if tied else 1
                elif "Router" in kind:
                    deviation = 1.5
                else:
                    deviation = 1
                normal(p, deviation / inputs**0.5)


OUTPUT_PROJECTIONS = ("o_proj", "down_proj", "c_proj", "dense", "dense_4h_to_h", "out_proj", "fc_out", "fc2")


def published_config(path, publish):
    config = publish(json.loads(path.read_text()))
    write_json(path, dict(sorted(config.items())))


def classic_config(path):
    """config.json as transformers wrote it before version 5: rope_theta and rope_scaling, torch_dtype, no layer_types."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    write_json(path, dict(sorted(config.items())))


def stored_tensors(model):
    """A tied head is no parameter of its own; a bias that training moves by itself (DeepSeek's router) is a buffer."""
    state = model.state_dict()
    return [*model.named_parameters(), *((name, buffer) for name, buffer in model.named_buffers() if name in state)]


def write_checkpoint(folder, model, spec):
    """config.json and safetensors; written here, not by save_pretrained, so that shards hold what the index says and nothing is renamed."""
    model.config.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = [type(model).__name__]
    config["dtype"] = str(spec["dtype"]).removeprefix("torch.")
    write_json(folder / "config.json", config)
    if spec.get("classic"):
        classic_config(folder / "config.json")
    if spec.get("publish"):
        published_config(folder / "config.json", spec["publish"])

    rename = spec.get("rename") or (lambda name: name)
    names = [rename(n) for n, _ in stored_tensors(model)]
    tensors = {rename(n): p.data.to(spec["dtype"]).contiguous() for n, p in stored_tensors(model)}
    if spec["shard_bytes"] is None:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return
    shards, size = [[]], 0
    for name in names:
        if size > 0 and size + tensors[name].nbytes > spec["shard_bytes"]:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensors[name].nbytes
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": {}}
    for number, members in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file({n: tensors[n] for n in members}, folder / file, {"format": "pt"})
        index["weight_map"].update({n: file for n in members})
    write_json(folder / "model.safetensors.index.json", index)


def effect(reference, model, prompts):
    return max((logits_of(model, p["ids"]) - r).abs().max().item() for p, r in zip(prompts, reference))


def check_not_blind(name, model, folder, prompts, spec):
    """Zero each tensor, ignore each setting: every one must move the logits."""
    reference = [logits_of(model, p["ids"]) for p in prompts]
    least, which = float("inf"), None
    for tensor, p in stored_tensors(model):
        if spec.get("without_effect") and re.search(spec["without_effect"], tensor):
            continue
        for part in p.data if p.dim() == 3 else [p.data]:  # each expert by itself
            kept = part.clone()
            part.zero_()
            moved = effect(reference, model, prompts)
            part.copy_(kept)
            refuse(moved < MIN_EFFECT, f"zeroing {tensor} moves the logits by {moved:.4f} only")
            least, which = min((least, which), (moved, tensor))
    variations = dict(spec["variations"])
    if name in TINY:
        rope = AutoConfig.from_pretrained(folder).rope_parameters
        rope = {"rope_parameters": {**rope, "rope_theta": rope["rope_theta"] * 10}}
        variations = {"eps": {"rms_norm_eps": 1e-5}, "rope base": rope, **variations}
    for what, change in variations.items():
        config = AutoConfig.from_pretrained(folder)
        for key, value in change.items():
            *path, leaf = key.split(".")
            setattr(functools.reduce(getattr, path, config), leaf, value)
        moved = effect(reference, load(folder, config=config, auto=auto_class(spec), attention=spec.get("attention", "eager")), prompts)
        # two formulas of one activation are near each other: the test's tolerance for the families is narrower than this
        least_effect = ACTIVATION_EFFECT if what == "activation" else MIN_EFFECT
        refuse(moved < least_effect, f"ignoring {what} moves the logits by {moved:.4f} only")
        print(f"  without its {what}: logits move by {moved:.2f}")
    print(f"  least effect of a zeroed tensor: {least:.2f} ({which})")


def make_tiny_with(name, spec, seed):
    generator = torch.Generator().manual_seed(seed)
    is_family = name in FAMILIES
    # a copy: transformers writes into the dictionaries it is given
    config = spec["config"](**({} if is_family else SHARED), **copy.deepcopy(spec["arguments"]))
    made = auto_class(spec).from_config(config, dtype=torch.float32)
    if is_family:
        redraw_by_kind(made, generator, spec)
    else:
        redraw(made, generator)
    if spec.get("adjust"):
        spec["adjust"](made)
    made.tie_weights()
    folder = Path(tempfile.mkdtemp(dir=HERE))
    try:
        write_checkpoint(folder, made, spec)
        # from here on only what lies on disk counts, weights rounded as stored
        attention = spec.get("attention", "eager")
        model, exact = (load(folder, dtype, auto=auto_class(spec), attention=attention) for dtype in (torch.float32, torch.float64))
        stored = {k: v for f in folder.glob("*.safetensors") for k, v in load_file(f).items()}
        rename = spec.get("rename") or (lambda tensor: tensor)
        for tensor, p in model.named_parameters():
            refuse(not torch.equal(p.data, stored[rename(tensor)].float()), f"{tensor} was not loaded as stored")
        prompts = [
            {"name": length, "ids": torch.randint(3, config.get_text_config().vocab_size, (count,), generator=generator).tolist()}
            for length, count in spec.get("prompt_lengths", PROMPT_LENGTHS).items()
        ]
        check_not_blind(name, model, folder, prompts, spec)
        every = list(range(max(len(p["ids"]) for p in prompts)))
        few = (lambda ids: sorted({0, len(ids) // 2, len(ids) - 1})) if is_family else (lambda ids: every[: len(ids)])
        write_model_golden(folder, name, model, exact, prompts, few, TINY_NEW_TOKENS)
        if spec.get("repack"):
            config, tensors = spec["repack"](json.loads((folder / "config.json").read_text()), stored)
            write_json(folder / "config.json", config)
            save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
            if config["model_type"] == model.config.model_type and spec.get("reload", True):  # transformers reads that spelling too, and as the same
                again = dict(load(folder, auto=auto_class(spec)).named_parameters())
                refuse(any(not torch.equal(again[n], p) for n, p in model.named_parameters()), "the published spelling differs")
        replace_folder(folder, name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_tiny(name):
    for seed in range(1, 201):
        try:
            make_tiny_with(name, {**TINY, **FAMILIES}[name], seed)
            print(f"  seed {seed}")
            return
        except Refused as reason:
            print(f"  seed {seed} refused: {reason}")
    raise Refused(f"{name}: no seed would do")


# -- chooser -------------------------------------------------------------------------------------------------------------

# place among the best logits -> bias: made likely, forbidden, made less likely; draw_case puts the ids in
BIAS = {5: 2.0, 1: -100.0, 2: -1.5}
EVERYTHING = {
    "repetitionPenalty": 1.1, "presencePenalty": 0.4, "frequencyPenalty": 0.1, "logitBias": BIAS, "minNewTokens": 64,
    "temperature": 1.2, "topK": 12, "topP": 0.92, "minP": 0.02, "typicalP": 0.85,
}  # fmt: skip
# (name, vocabulary, number of generated ids, parameters)
CHOOSER_CASES = [
    ("min-new-tokens-reached", 32, 12, {"minNewTokens": 12}),
    ("min-new-tokens-short", 32, 11, {"minNewTokens": 12}),
    ("temperature-low", 257, 8, {"temperature": 0.7}),
    ("temperature-high", 1000, 8, {"temperature": 1.8}),
    ("top-k-few", 32, 8, {"topK": 5}),
    ("top-k-many", 1000, 8, {"topK": 50}),
    ("top-p-wide", 257, 8, {"topP": 0.9}),
    ("top-p-narrow", 1000, 8, {"topP": 0.3}),
    ("min-p-low", 257, 8, {"minP": 0.05}),
    ("min-p-high", 32, 8, {"minP": 0.3}),
    ("typical-p-wide", 1000, 8, {"typicalP": 0.9}),
    ("typical-p-narrow", 257, 8, {"typicalP": 0.3}),
    ("repetition-penalty", 257, 30, {"repetitionPenalty": 1.3}),
    ("repetition-reward", 32, 30, {"repetitionPenalty": 0.8}),
    ("presence-penalty", 32, 30, {"presencePenalty": 0.9}),
    ("frequency-penalty", 257, 40, {"frequencyPenalty": 0.6}),
    ("presence-and-frequency-reward", 1000, 40, {"presencePenalty": -0.5, "frequencyPenalty": -0.4}),
    ("logit-bias", 257, 8, {"logitBias": BIAS}),
    ("everything", 257, 40, EVERYTHING),
    ("everything-other", 1000, 25, {
        **EVERYTHING, "repetitionPenalty": 0.9, "presencePenalty": -0.4, "frequencyPenalty": 0.1, "minNewTokens": 26,
        "temperature": 1.6, "topK": 40, "topP": 0.97, "minP": 0.12, "typicalP": 0.7,
    }),
]  # fmt: skip
# Top-k, top-p and min-p all cut the unlikely end, and the tightest hides the others: between them the two cases show all three.
HIDDEN = {"everything": {"minP"}, "everything-other": {"topK", "topP"}, "min-new-tokens-reached": {"minNewTokens"}}
CHOOSER_ORDER = [
    "repetitionPenalty", "presencePenalty", "frequencyPenalty", "logitBias", "minNewTokens",
    "temperature", "topK", "topP", "minP", "typicalP",
]  # fmt: skip


class CountPenalty:
    """logit -= presence * [count > 0] + frequency * count, over the generated ids alone, as OpenAI documents it.
    transformers has no such processor; this is the formula itself."""

    def __init__(self, prompt_length, presence, frequency):
        self.prompt_length, self.presence, self.frequency = prompt_length, presence, frequency

    def __call__(self, input_ids, scores):
        counts = torch.bincount(input_ids[0, self.prompt_length :], minlength=scores.shape[-1]).to(scores.dtype)
        return scores - (self.presence * (counts > 0) + self.frequency * counts)


def processors_of(params, prompt_length, end_ids):
    """In the order that generate() uses, but for the bias: generate() would put it before the repetition penalty."""
    chain, p = LogitsProcessorList(), params
    if "repetitionPenalty" in p:
        chain.append(RepetitionPenaltyLogitsProcessor(p["repetitionPenalty"]))
    if "presencePenalty" in p or "frequencyPenalty" in p:
        chain.append(CountPenalty(prompt_length, p.get("presencePenalty", 0), p.get("frequencyPenalty", 0)))
    if "logitBias" in p:
        chain.append(SequenceBiasLogitsProcessor({(int(i),): b for i, b in p["logitBias"].items()}))
    if "minNewTokens" in p:
        chain.append(MinNewTokensLengthLogitsProcessor(prompt_length, p["minNewTokens"], end_ids))
    if "temperature" in p:
        chain.append(TemperatureLogitsWarper(p["temperature"]))
    if "topK" in p:
        chain.append(TopKLogitsWarper(p["topK"]))
    if "topP" in p:
        chain.append(TopPLogitsWarper(p["topP"]))
    if "minP" in p:
        chain.append(MinPLogitsWarper(p["minP"]))
    if "typicalP" in p:
        chain.append(TypicalLogitsWarper(p["typicalP"]))
    return chain


def probabilities(case, dtype, without=None):
    params = {k: v for k, v in case["params"].items() if k != without}
    history = torch.tensor([case["promptIds"] + case["generatedIds"]])
    scores = torch.from_numpy(np.array(case["logits"], np.float32)).to(dtype)[None]
    chain = processors_of(params, len(case["promptIds"]), case["endIds"])
    return chain(history, scores).softmax(-1)[0].double()


def shortest(value):
    """The fewest digits that give back this float32."""
    return float(str(np.float32(value)))


def draw_case(name, vocab, generated, params, seed):
    rng = np.random.default_rng(seed)
    # the best ids are the likely ones of the history too, so that penalties change what is kept
    logits = [shortest(x) for x in rng.normal(0, 3, vocab).astype(np.float32)]
    refuse(len(set(logits)) < vocab, "two logits are equal")
    best = np.argsort(logits)[::-1][: max(12, vocab // 20)]

    def ids(count):
        return [int(i) for i in np.where(rng.random(count) < 0.5, rng.choice(best, count), rng.integers(0, vocab, count))]

    if "logitBias" in params:
        params = {**params, "logitBias": {str(best[place]): bias for place, bias in params["logitBias"].items()}}
    case = {
        "name": name, "vocabSize": vocab, "params": params, "promptIds": ids(20), "generatedIds": ids(generated),
        # the best id is an end id, so that masking it shows
        "endIds": [int(best[0]), int(best[3])], "logits": logits,
    }  # fmt: skip
    exact, single = probabilities(case, torch.float64), probabilities(case, torch.float32)
    refuse(not torch.equal(exact == 0, single == 0), "float32 and float64 keep different tokens")
    refuse((exact - single).abs().max().item() > 1e-6, "float32 and float64 differ")
    for param in params:  # each must show, in the company of the others too
        moved = (probabilities(case, torch.float64, without=param) - exact).abs().max().item()
        refuse(param not in HIDDEN.get(name, ()) and moved < 1e-3, f"{param} moves no probability by more than {moved:.1e}")
    # a probability that float32 can't tell from 0 is kept as it is: the test's tolerance is absolute
    case["probabilities"] = [float(f"{x:.9g}") for x in exact.tolist()]
    case["keptTokens"] = int((exact > 0).sum())
    return case


def make_chooser():
    cases = []
    for number, (name, vocab, generated, params) in enumerate(CHOOSER_CASES):
        for seed in range(1000 * number, 1000 * number + 1000):
            try:
                cases.append(draw_case(name, vocab, generated, params, seed))
                break
            except Refused as reason:
                last = reason
        else:
            raise Refused(f"{name}: no seed would do: {last}")
        print(f"  {name}: seed {seed}, {cases[-1]['keptTokens']} of {vocab} kept")
    folder = HERE / "chooser"
    folder.mkdir(exist_ok=True)
    # one case a line: readable in a diff, and not a number a line
    lines = ",\n".join(json.dumps(case) for case in cases)
    head = json.dumps({"madeWith": versions(), "tolerance": 1e-5, "order": CHOOSER_ORDER})[:-1]
    (folder / "cases.json").write_text(f'{head}, "cases": [\n{lines}\n]}}\n', encoding="ascii")


# -- tokenizer -----------------------------------------------------------------------------------------------------------

TEXTS = [
    "", " ", "  ", "\n", "\n\n", " \n ", "\t", "\r\n", "a", " a", "a ", "  a", "a  b", "a   b", "a\nb", "a \n b", "a\n\n\nb",
    "\ta\tb",
    "Hello world", "Hello, world!", "don't", "DON'T", "I'll I've he's they're I'd I'm", "'s", "' s", "rock'n'roll", "o'clock",
    "1", "12", "123", "12345678901234567890", "3.14159", "1,000,000", "1st 2nd 3rd", "a1b2c3", "x=1+2*3;", "$9.99 (100%)",
    "...", "!!!???", "--", "a--b", '"Oh!" said she.', "(a) [b] {c} <d>", "\\n is not a newline", "/usr", "foo_bar-baz.qux@quux",
    END_OF_TEXT, "a" + END_OF_TEXT + "b", " " + END_OF_TEXT + " ", END_OF_TEXT * 2, "<|endoftext", "endoftext|>", "< |endoftext|>",
    "caf\u00e9", "cafe\u0301", "na\u00efve r\u00e9sum\u00e9", "\u00dcber stra\u00dfe", "\u0130stanbul", "\u0141\u00f3d\u017a",
    "\u00bfqu\u00e9?",
    "\u00e6 \u0153 \u00f8 \u00e5", "\u2018single\u2019 \u201cdouble\u201d", "\u2014 \u2013 \u2026", "\u00a0no\u00a0break",
    "\u200bzero\u200bwidth", "\ufeffmark",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440", "\u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5",
    "\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0643",
    "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u4f60\u597d\uff0c\u4e16\u754c",
    "\u3053\u3093\u306b\u3061\u306f", "\uc548\ub155\ud558\uc138\uc694",
    "\u0661\u0662\u0663", "\u2167 \u00bd \u00b2", "\u2211\u222b\u221a\u221e\u2260", "\u20ac\u00a3\u00a5", "\u2122\u00a9\u00ae",
    "\U0001f642", "\U0001f642\U0001f642", "a\U0001f642b", "\U0001f44d\U0001f3fd",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1eb\U0001f1f7", "\u2764\ufe0f", "1\ufe0f\u20e3",
    "\U0001d54f\U0001d550", "\U00020bb7", "\x00", "a\x00b", "\x07\x1b\x7f", "\x85\u2028\u2029", "\u3000wide\u3000", "\ufffd",
    "\U0010ffff", "\ue000",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", " " * 40, "\n" * 20, "ab" * 100,
    "The quick brown fox jumps over the lazy dog.",
]  # fmt: skip
ENCODED, DECODED = 200, 60
RANDOM_RANGES = [(0x20, 0x7E)] * 4 + [(0xA0, 0x24F), (0x370, 0x4FF), (0x900, 0x97F), (0x4E00, 0x4FFF), (0x1F600, 0x1F64F), (9, 13)]


def make_tokenizer():
    tokenizer = Tokenizer.from_file(str(EMBEDDED / "tokenizer.json"))
    rng = random.Random(1)
    lines = HELDOUT.read_text(encoding="ascii").splitlines()
    stories = rng.sample([line for line in lines if line != END_OF_TEXT], 55)
    texts = TEXTS + stories
    while len(texts) < ENCODED:
        texts.append("".join(chr(rng.randint(*rng.choice(RANDOM_RANGES))) for _ in range(rng.randint(1, 40))))
    refuse(len(texts) != ENCODED or len(set(texts)) != ENCODED, f"{len(set(texts))} different texts of {len(texts)}")

    def decoded(ids):
        return {
            "decoded": tokenizer.decode(ids, skip_special_tokens=True),
            "decodedWithSpecial": tokenizer.decode(ids, skip_special_tokens=False),
        }

    encode_cases = []
    for text in texts:
        ids = tokenizer.encode(text).ids
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        encode_cases.append({"text": text, "ids": ids, "idsWithoutSpecial": plain, **decoded(ids)})
    # ids as a model may make them: broken UTF-8 in the middle and at both ends
    decode_cases = []
    for number in range(DECODED):
        last = 256 if number % 2 else tokenizer.get_vocab_size() - 1
        ids = [rng.randint(0, last) for _ in range(rng.randint(1, 24))]
        decode_cases.append({"ids": ids, **decoded(ids)})
    folder = HERE / "tokenizer"
    folder.mkdir(exist_ok=True)
    parts = [f'"{key}": [\n' + ",\n".join(json.dumps(case) for case in cases) + "\n]"
             for key, cases in (("encodeCases", encode_cases), ("decodeCases", decode_cases))]  # fmt: skip
    head = json.dumps({"model": "embedded", "madeWith": versions()})[:-1]
    (folder / "cases.json").write_text(f"{head}, {', '.join(parts)}}}\n", encoding="ascii")
    print(f"  {len(encode_cases)} texts, {len(decode_cases)} id lists")


def main():
    makers = {
        "embedded": make_embedded,
        **{name: lambda name=name: make_tiny(name) for name in (*TINY, *FAMILIES)},
        "chooser": make_chooser,
        "tokenizer": make_tokenizer,
        **ENCODERS,
    }
    parser = argparse.ArgumentParser(description="Make the golden files with transformers.")
    parser.add_argument("--only", choices=makers, help="make this one alone")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    for name, make in makers.items():
        if only in (None, name):
            print(name, flush=True)
            make()


if __name__ == "__main__":
    try:
        main()
    except Refused as reason:
        sys.exit(f"refused: {reason}")
