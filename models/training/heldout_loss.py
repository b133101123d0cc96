#!/usr/bin/env python3
"""Loss of the embedded model on the held-out stories: nats a token, float32, by transformers.

In       ../embedded, heldout.txt
Out      one line a window length on stdout
Method   the stories are joined, each begun by its <|endoftext|>, and cut into windows that do not overlap; in a window of
         n + 1 tokens the last n are predicted, the first from a context of one token, the last from n. The mean is over all
         predicted tokens. Words at the start of a window see little context, so longer windows would give a lower loss,
         were the model good beyond the 192 tokens that it was trained on: the two figures by position show whether it is.

    python3 heldout_loss.py
"""
import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
END_OF_TEXT = "<|endoftext|>"


def heldout_ids(tokenizer):
    """Ids of all held-out stories; the post-processor puts id 0 before each, as in training."""
    stories = [s.strip("\n") for s in (HERE / "heldout.txt").read_text(encoding="ascii").split(END_OF_TEXT)]
    return [token for story in stories if story for token in tokenizer.encode(story).ids]


@torch.no_grad()
def losses_by_position(model, ids, window):
    """[windows, window] nats of each predicted token."""
    count = (len(ids) - 1) // window
    starts = torch.arange(count)[:, None] * window
    rows = torch.tensor(ids)[starts + torch.arange(window + 1)[None]]
    parts = []
    for batch in rows.split(16):
        logits = model(batch[:, :-1]).logits
        parts.append(F.cross_entropy(logits.transpose(1, 2), batch[:, 1:], reduction="none"))
    return torch.cat(parts)


def main():
    parser = argparse.ArgumentParser(description="Held-out loss of the embedded model.")
    parser.add_argument("--model", type=Path, default=HERE.parent / "embedded")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    ids = heldout_ids(Tokenizer.from_file(str(options.model / "tokenizer.json")))
    print(f"{len(ids):,} held-out tokens")
    for window in (192, 512):
        losses = losses_by_position(model, ids, window)
        by_position = losses.mean(0)
        line = f"windows of {window}: {losses.mean().item():.4f} nats a token over {losses.numel():,}"
        line += f"; positions 96 to 191: {by_position[96:192].mean().item():.4f}"
        if window > 192:
            line += f", 192 to 319: {by_position[192:320].mean().item():.4f}"
            line += f", 320 to 511: {by_position[320:512].mean().item():.4f}"
        print(line)


if __name__ == "__main__":
    main()
