#!/usr/bin/env python3
"""Twenty unpicked samples of the embedded model, and the check that they are made of words.

In       ../embedded, heldout.txt (where the prompts come from), words.txt.gz
Out      the samples as Markdown, and the figures of the check, on stdout; exit status 1 if the check fails
Prompts  the first 12 words of the first 20 held-out stories, in the order of the file; sample n uses story n and seed n
Settings generation_config.json as shipped, float32, 100 new tokens; the end id is held back until then, so that every
         sample has its 100 tokens
Check    over all samples, at least 97 % of the words occur in the corpus; in no sample does a run of six words occur
         three times. wordlist.py says what a word is.

    python3 sample.py            # --json: {"settings", "samples": [{"seed", "prompt", "text"}]} for other checks
"""
import argparse
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from wordlist import most_repeats, read_list, words_of_continuation

HERE = Path(__file__).parent
SAMPLES, PROMPT_WORDS, NEW_TOKENS = 20, 12, 100
MIN_KNOWN, MAX_REPEATS = 0.97, 2


def prompts():
    stories = (HERE / "heldout.txt").read_text(encoding="ascii").split("<|endoftext|>")
    stories = [story.split() for story in stories if story.strip()]
    return [" ".join(words[:PROMPT_WORDS]) for words in stories[:SAMPLES]]


def sample(model, tokenizer, prompt, seed, **settings):
    torch.manual_seed(seed)
    inputs = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, pad_token_id=0, **settings)
    return tokenizer.decode(out[0, inputs["input_ids"].shape[1] :])


def check(texts):
    """-> (known share of the words, words in all, unknown words, most repeats of a six-word run in one text)."""
    corpus = read_list()
    words = [words_of_continuation(text) for text in texts]
    every = [word for of_one in words for word in of_one]
    unknown = [word for word in every if word not in corpus]
    return 1 - len(unknown) / len(every), len(every), unknown, max(map(most_repeats, words))


def main():
    parser = argparse.ArgumentParser(description="Twenty unpicked samples, and the check of their words.")
    parser.add_argument("--model", type=Path, default=HERE.parent / "embedded")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    settings = json.loads((options.model / "generation_config.json").read_text())
    samples = [{"seed": n, "prompt": p, "text": sample(model, tokenizer, p, n)} for n, p in enumerate(prompts())]

    if options.json:
        json.dump({"settings": settings, "samples": samples}, sys.stdout, indent=2)
        print()
    else:
        for s in samples:
            # one line a sample: a paragraph break of the model is shown as a pilcrow
            print(f"{s['seed']}. **{s['prompt']}**{s['text']}".replace("\n", " ¶ "), end="\n\n")
    known, count, unknown, repeats = check([s["text"] for s in samples])
    print(f"known words: {known:.2%} of {count} (unknown: {', '.join(unknown)}); most repeats: {repeats}", file=sys.stderr)
    return 0 if known >= MIN_KNOWN and repeats <= MAX_REPEATS else 1


if __name__ == "__main__":
    sys.exit(main())
