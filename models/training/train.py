#!/usr/bin/env python3
"""Train the embedded story model: a small Llama in the plain Hugging Face layout.

In       a text file: one paragraph a line, every story ended by a line <|endoftext|>
Out      DIR/{config.json, generation_config.json, tokenizer.json, tokenizer_config.json, model.safetensors (fp16), loss.csv,
         heldout.txt}; all but the last are rewritten every 100 steps, so that a run may be cut short
Needs    PyTorch >= 1.13 and numpy, CPU or GPU. Development only: the product never runs this.
Same     seed and corpus give the same tokenizer and the same held-out text. The weights are the same only with --steps, on
         the same PyTorch build and thread count: with --minutes the learning rate follows the clock.
Limits   ASCII text; the pre-tokenisation below equals the ByteLevel one of tokenizer.json for ASCII only

    python3 train.py stories.txt OUT          # the committed model: all defaults
"""
import argparse
import collections
import csv
import hashlib
import json
import math
import os
import re
import struct
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

END_OF_TEXT = "<|endoftext|>"
CONTEXT = 512
# GPT-2's pre-tokenisation, for ASCII text
PIECE = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")
REPORT_EVERY = 100
WARM_UP_STEPS = 60
LAST_LR_SHARE = 0.05


# -- tokenizer -----------------------------------------------------------------------------------------------------------


def byte_to_char():
    """GPT-2's printable stand-in for each byte, as ByteLevel tokenizers write them."""
    printable = set(range(33, 127)) | set(range(161, 173)) | set(range(174, 256))
    table, extra = {}, 0
    for byte in range(256):
        if byte in printable:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(256 + extra)
            extra += 1
    return table


def merge_pair(symbols, pair):
    """The symbols with every occurrence of the pair joined, from the left."""
    out, k = [], 0
    while k < len(symbols):
        if k + 1 < len(symbols) and (symbols[k], symbols[k + 1]) == pair:
            out.append(pair[0] + pair[1])
            k += 2
        else:
            out.append(symbols[k])
            k += 1
    return out


def train_bpe(text, vocab_size):
    """Byte-level BPE -> (vocab: token -> id, merges: list of pairs); id 0 is END_OF_TEXT, 1 to 256 are the bytes."""
    to_char = byte_to_char()
    counts = collections.Counter(PIECE.findall(text.replace(END_OF_TEXT, "")))
    # a piece seen once teaches nothing that is seen again
    pieces = [([to_char[b] for b in piece.encode()], n) for piece, n in counts.items() if n > 1]
    vocab = {END_OF_TEXT: 0}
    for byte in range(256):
        vocab[to_char[byte]] = len(vocab)
    pairs, where = collections.Counter(), collections.defaultdict(set)
    for i, (symbols, n) in enumerate(pieces):
        for pair in zip(symbols, symbols[1:]):
            pairs[pair] += n
            where[pair].add(i)
    merges = []
    while len(vocab) < vocab_size:
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        vocab[best[0] + best[1]] = len(vocab)
        for i in where.pop(best):
            symbols, n = pieces[i]
            merged = merge_pair(symbols, best)
            if len(merged) == len(symbols):
                continue  # an earlier merge took the pair away
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] -= n
            for pair in zip(merged, merged[1:]):
                pairs[pair] += n
                where[pair].add(i)
            pieces[i] = (merged, n)
        del pairs[best]
    return vocab, merges


def encode(text, vocab, merges):
    """Token ids of the corpus as uint16, id 0 before every story; each distinct piece is merged once."""
    to_char, rank, cache = byte_to_char(), {pair: i for i, pair in enumerate(merges)}, {}

    def ids_of(piece):
        symbols = [to_char[b] for b in piece.encode()]
        while len(symbols) > 1:
            best, k = min((rank.get(pair, math.inf), k) for k, pair in enumerate(zip(symbols, symbols[1:])))
            if best == math.inf:
                break
            symbols[k : k + 2] = [symbols[k] + symbols[k + 1]]
        return [vocab[s] for s in symbols]

    ids = []
    for story in text.split(END_OF_TEXT):
        story = story.strip("\n")
        if not story:
            continue
        ids.append(0)
        for piece in PIECE.findall(story):
            if piece not in cache:
                cache[piece] = ids_of(piece)
            ids.extend(cache[piece])
    return np.array(ids, dtype=np.uint16)


def decode(ids, vocab):
    to_byte = {char: byte for byte, char in byte_to_char().items()}
    by_id = {i: token for token, i in vocab.items()}
    parts = [(END_OF_TEXT + "\n").encode() if i == 0 else bytes(to_byte[c] for c in by_id[i]) for i in ids]
    return b"".join(parts).decode()


# -- model ---------------------------------------------------------------------------------------------------------------


class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


class Block(nn.Module):
    """One Llama layer: x [batch, time, hidden] -> the same. Members are named as in a Llama checkpoint."""

    def __init__(self, c):
        super().__init__()
        hidden, ffn, eps = c["hidden_size"], c["intermediate_size"], c["rms_norm_eps"]
        self.heads, self.kv_heads, self.head_dim = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(hidden, eps), RMSNorm(hidden, eps)
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        self.self_attn = nn.ModuleDict(
            {"q_proj": linear(hidden, q), "k_proj": linear(hidden, kv), "v_proj": linear(hidden, kv), "o_proj": linear(q, hidden)}
        )
        self.mlp = nn.ModuleDict(
            {"gate_proj": linear(hidden, ffn), "up_proj": linear(hidden, ffn), "down_proj": linear(ffn, hidden)}
        )

    def attention(self, x, cos, sin, mask):
        batch, length, _ = x.shape

        def by_head(name, heads):
            return self.self_attn[name](x).view(batch, length, heads, self.head_dim).transpose(1, 2)

        def rotate(z):
            half = self.head_dim // 2
            return z * cos + torch.cat((-z[..., half:], z[..., :half]), -1) * sin

        group = self.heads // self.kv_heads
        q = rotate(by_head("q_proj", self.heads))
        k = rotate(by_head("k_proj", self.kv_heads)).repeat_interleave(group, 1)
        v = by_head("v_proj", self.kv_heads).repeat_interleave(group, 1)
        weights = torch.softmax((q @ k.transpose(-1, -2)) * self.head_dim**-0.5 + mask, -1)
        return self.self_attn["o_proj"]((weights @ v).transpose(1, 2).reshape(batch, length, -1))

    def forward(self, x, cos, sin, mask):
        x = x + self.attention(self.input_layernorm(x), cos, sin, mask)
        n = self.post_attention_layernorm(x)
        return x + self.mlp["down_proj"](F.silu(self.mlp["gate_proj"](n)) * self.mlp["up_proj"](n))


class Llama(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Block(c) for _ in range(c["num_hidden_layers"]))
        self.norm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                # what is added to the residual stream starts smaller, so that its sum over layers does not grow (GPT-2)
                into_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, 0, 0.02 / (math.sqrt(2 * c["num_hidden_layers"]) if into_residual else 1))

    def forward(self, ids):
        """ids [batch, time] -> logits [batch, time, vocab]; the head is the embedding."""
        length, head_dim = ids.shape[1], self.c["head_dim"]
        frequency = self.c["rope_theta"] ** (torch.arange(0, head_dim, 2, device=ids.device) / head_dim)
        angle = torch.arange(length, device=ids.device)[:, None] / frequency
        angle = torch.cat((angle, angle), -1)
        mask = torch.full((length, length), -1e9, device=ids.device).triu(1)
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, angle.cos(), angle.sin(), mask)
        return F.linear(self.norm(x), self.embed_tokens.weight)


# -- files ---------------------------------------------------------------------------------------------------------------


def write_json(path, value, **options):
    path.write_text(json.dumps(value, **options) + "\n", encoding="utf-8")


def write_tokenizer(folder, vocab, merges):
    special = {
        "id": 0, "content": END_OF_TEXT, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        "special": True,
    }  # fmt: skip
    begin, a, b = (
        {"SpecialToken": {"id": END_OF_TEXT, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"Sequence": {"id": "B", "type_id": 1}},
    )
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [special], "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": {  # a prompt begins with END_OF_TEXT, as every story did
            "type": "TemplateProcessing", "single": [begin, a], "pair": [begin, a, b],
            "special_tokens": {END_OF_TEXT: {"id": END_OF_TEXT, "ids": [0], "tokens": [END_OF_TEXT]}},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": vocab, "merges": [list(pair) for pair in merges],
        },
    }  # fmt: skip
    write_json(folder / "tokenizer.json", tokenizer, ensure_ascii=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT,
        "model_max_length": CONTEXT, "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    write_json(folder / "tokenizer_config.json", config, indent=2)


def write_safetensors(path, tensors):
    """name -> fp16 numpy array, in the safetensors format; the old file stays whole until the new one is."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, array in tensors.items():
        header[name] = {"dtype": "F16", "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).tobytes())
    os.replace(unfinished, path)


def write_model(model, folder):
    tensors = {"model." + name: p.detach().cpu().half().numpy() for name, p in model.named_parameters()}
    write_safetensors(folder / "model.safetensors", tensors)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "attention_bias": False,
        "mlp_bias": False, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.02, "rope_scaling": None,
        "tie_word_embeddings": True, "torch_dtype": "float16", "use_cache": True, **model.c,
    }  # fmt: skip
    write_json(folder / "config.json", config, indent=2)
    sampling = {"do_sample": True, "temperature": 0.8, "top_k": 40, "top_p": 0.95}
    write_json(folder / "generation_config.json", {"bos_token_id": 0, "eos_token_id": 0, **sampling}, indent=2)


# -- training ------------------------------------------------------------------------------------------------------------


def options():
    parser = argparse.ArgumentParser(description="Train the embedded story model.")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=72, help="length of the run; the learning rate ends with it")
    parser.add_argument("--steps", type=int, help="instead of --minutes: the run can then be repeated to the bit")
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--ffn", type=int, default=704)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--time", type=int, default=192, help="tokens of a training window")
    parser.add_argument("--lr", type=float, default=2.5e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def split_stories(ids, rng):
    """-> (training ids, held-out stories): one story of fifty is held out, whole."""
    stories = np.split(ids, np.flatnonzero(ids == 0)[1:])
    rng.shuffle(stories)
    held = max(1, len(stories) // 50)
    return np.concatenate(stories[held:]), stories[:held]


def main():
    o = options()
    torch.manual_seed(o.seed)
    torch.set_num_threads(o.threads)
    rng = np.random.default_rng(o.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    o.out.mkdir(parents=True, exist_ok=True)

    raw = o.corpus.read_bytes()
    print(f"corpus SHA-256 {hashlib.sha256(raw).hexdigest()}, seed {o.seed}", flush=True)
    text, began = raw.decode("ascii"), time.time()
    vocab, merges = train_bpe(text, o.vocab)
    write_tokenizer(o.out, vocab, merges)
    ids = encode(text, vocab, merges)
    seconds = time.time() - began
    print(f"{len(ids):,} tokens, {len(text) / len(ids):.2f} characters a token, {seconds:.0f} s", flush=True)

    train, held_stories = split_stories(ids, rng)
    (o.out / "heldout.txt").write_text("\n".join(decode(s, vocab) for s in held_stories) + "\n", encoding="ascii")
    held = np.concatenate(held_stories)

    model = Llama({
        "vocab_size": o.vocab, "hidden_size": o.hidden, "intermediate_size": o.ffn, "num_hidden_layers": o.layers,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": o.hidden // 8, "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    }).to(device)  # fmt: skip
    parameters = list(model.parameters())
    millions = sum(p.numel() for p in parameters) / 1e6
    print(f"{millions:.2f} M parameters on {device}, train {len(train):,}, held out {len(held):,}", flush=True)
    groups = [
        {"params": [p for p in parameters if p.dim() == 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.dim() != 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=o.lr, betas=(0.9, 0.95))

    def windows(data, count):
        starts = rng.integers(0, len(data) - o.time - 1, count)
        return torch.from_numpy(np.stack([data[s : s + o.time + 1] for s in starts]).astype(np.int64)).to(device)

    def loss_of(rows):
        return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())

    # a fixed sample of the held-out text keeps the curve cheap; heldout_loss.py takes all of it
    fixed = windows(held, 32)
    start, step, smooth = time.time(), 0, None
    with (o.out / "loss.csv").open("w", newline="") as file:
        log = csv.writer(file, lineterminator="\n")
        log.writerow(["step", "tokens", "minutes", "train_loss", "heldout_loss"])
        while True:
            # the schedule follows the clock (or the steps), so that any budget ends cooled down
            gone = step / o.steps if o.steps else (time.time() - start) / (o.minutes * 60)
            if gone >= 1:
                break
            decay = LAST_LR_SHARE + (1 - LAST_LR_SHARE) * 0.5 * (1 + math.cos(math.pi * gone))
            for group in optimizer.param_groups:
                group["lr"] = o.lr * min(1, (step + 1) / WARM_UP_STEPS) * decay
            loss = loss_of(windows(train, o.batch))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step += 1
            smooth = loss.item() if smooth is None else 0.95 * smooth + 0.05 * loss.item()
            if step % REPORT_EVERY == 0:
                with torch.no_grad():
                    held_loss = loss_of(fixed).item()
                tokens, minutes = step * o.batch * o.time, (time.time() - start) / 60
                log.writerow([step, tokens, f"{minutes:.2f}", f"{smooth:.4f}", f"{held_loss:.4f}"])
                file.flush()
                losses = f"loss {smooth:.3f}, held out {held_loss:.3f}"
                print(f"step {step}, {tokens / 1e6:.2f} M tokens, {minutes:.1f} min: {losses}", flush=True)
                write_model(model, o.out)
    write_model(model, o.out)


if __name__ == "__main__":
    main()
