#!/usr/bin/env python3
"""What counts as a word when the model's text is checked, and the list of the corpus's words.

In       the corpus (stories.txt)
Out      words.txt.gz: every distinct word of it, lower case, sorted, one a line
Limits   ASCII English; anything but letters and inner apostrophes ends a word

The list is committed, so that the check runs where the corpus is not.

    python3 wordlist.py stories.txt
"""
import argparse
import gzip
import re
from pathlib import Path

WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
LIST = Path(__file__).with_name("words.txt.gz")


def words_of(text):
    """Lower-case words of a text, in order: don't is one word, well-known two."""
    return WORD.findall(text.lower())


def words_of_continuation(text):
    """Whole words of a continuation: one glued to the prompt, and the last one, may be cut, so both are left out."""
    return words_of(re.sub(r"^[A-Za-z']+", "", text))[:-1]


def most_repeats(words, length=6):
    """How often the most frequent run of so many words occurs (0 for a shorter text)."""
    counts = {}
    for start in range(len(words) - length + 1):
        run = tuple(words[start : start + length])
        counts[run] = counts.get(run, 0) + 1
    return max(counts.values(), default=0)


def read_list():
    return set(gzip.decompress(LIST.read_bytes()).decode("ascii").split())


def main():
    parser = argparse.ArgumentParser(description="Write words.txt.gz, the distinct words of the corpus.")
    parser.add_argument("corpus", type=Path)
    words = sorted(set(words_of(parser.parse_args().corpus.read_text(encoding="ascii").replace("<|endoftext|>", ""))))
    # mtime=0: the same corpus gives the same bytes
    LIST.write_bytes(gzip.compress("\n".join(words + [""]).encode("ascii"), 9, mtime=0))
    print(f"{len(words):,} words, {LIST.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
