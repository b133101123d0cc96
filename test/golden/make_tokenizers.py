"""
Small tokenizers in the exact structures of published families, and what Python's `tokenizers` and `sentencepiece` make of 2,000 lines.

    python3 make_tokenizers.py                a minute; --only NAME makes one

In      tokenizer_lines.py, tokenizer_families.py; versions of requirements.txt
Out     tokenizers/lines.json.gz          the lines
        tokenizers/<family>.json.gz       {tokenizer, config, prefixIds, suffixIds, ids, decoded, decodedCrc, streamDiffers}
        tokenizers/charsmap.json.gz       the precompiled normalizer of nmt_nfkc (base64), which stands in several of them as CHARSMAP
        tokenizers/<name>.spm.json.gz     {model: base64 before and after the charsmap, config, ids, decoded}: by SentencePiece's own trainer
Errors  an assertion where a file would not say what it promises
"""
import argparse
import base64
import gzip
import io
import json
import pathlib
import zlib

import sentencepiece
from tokenizers import Tokenizer, decoders

from tokenizer_families import FAMILIES, SENTENCEPIECE, pieces_of
from tokenizer_lines import make_lines, make_training_text

FOLDER = pathlib.Path(__file__).parent / "tokenizers"
LINES = make_lines(seed=20261125, count=2000)
TRAINING = make_training_text(seed=7)


def write(name, value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    with open(FOLDER / name, "wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=9) as file:
        file.write(text.encode("utf-8"))


def read_model(data):
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(data)
    return processor


def train_sentencepiece(arguments):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TRAINING), model_writer=model, minloglevel=2, num_threads=1, **arguments)
    return model.getvalue()


MODELS = {name: train_sentencepiece(arguments) for name, (arguments, _) in SENTENCEPIECE.items()}
CHARSMAP = pieces_of(MODELS["unigram-nmt-nfkc"]).normalizer_spec.precompiled_charsmap


def changed(lines):
    """Decoded texts of the lines that do not come out as they went in."""
    return {str(index): text for index, text in enumerate(lines) if text != LINES[index]}


def make_family(name, build):
    structure, config = build(TRAINING, MODELS)
    tokenizer = Tokenizer.from_str(json.dumps(structure))
    # tokenizers 0.23 decodes an added token that is looked for in the normalized text in its normalized form, so that `<s>` of Llama 1
    # comes out as " <s>" and is not even skipped; earlier versions do not. Decoding depends on the field in no other way.
    plain_tokens = [{**token, "normalized": False} for token in structure["added_tokens"]]
    decoder = Tokenizer.from_str(json.dumps({**structure, "added_tokens": plain_tokens}))
    assert all(decoder.token_to_id(token["content"]) == tokenizer.token_to_id(token["content"]) == token["id"] for token in plain_tokens), name
    ids, decoded, crcs, stream_differs = [], [], [], 0
    frame = None
    for line in LINES:
        plain = tokenizer.encode(line, add_special_tokens=False).ids
        framed = tokenizer.encode(line, add_special_tokens=True).ids
        if frame is None:  # the first line is empty: what is added to it is all that is ever added
            frame = framed
            length = len(frame)
            split = next(n for n in range(length + 1)
                         if tokenizer.encode("a", add_special_tokens=True).ids == frame[:n] + tokenizer.encode("a", add_special_tokens=False).ids + frame[n:])
        assert framed == frame[:split] + plain + frame[split:], (name, line)
        ids.append(plain)
        decoded.append(decoder.decode(framed, skip_special_tokens=True))
        crcs.append(zlib.crc32(decoder.decode(framed, skip_special_tokens=False).encode("utf-8")))
        stream = decoders.DecodeStream(skip_special_tokens=True)
        pieces = "".join(stream.step(decoder, id) or "" for id in framed)
        stream_differs += pieces != decoded[-1]
    shared = json.loads(json.dumps(structure).replace(base64.b64encode(CHARSMAP).decode("ascii"), "CHARSMAP"))
    write(f"{name}.json.gz", {
        "tokenizer": shared, "config": config, "prefixIds": frame[:split], "suffixIds": frame[split:],
        "ids": ids, "decoded": changed(decoded), "decodedCrc": crcs, "streamDiffers": stream_differs,
    })
    print(f"{name}: {tokenizer.get_vocab_size()} tokens, {sum(map(len, ids))} ids, DecodeStream differs on {stream_differs} lines")


def make_sentencepiece(name, arguments, config, data):
    processor = read_model(data)
    ids = [processor.encode(line) for line in LINES]
    parts = data.split(CHARSMAP)
    assert len(parts) == (1 if arguments["normalization_rule_name"] == "identity" else 2), name
    write(f"{name}.spm.json.gz", {
        "model": [base64.b64encode(part).decode("ascii") for part in parts], "config": config, "arguments": arguments,
        "ids": ids, "decoded": changed([processor.decode(line) for line in ids]),
    })
    print(f"{name}: {len(data)} bytes, {sum(map(len, ids))} ids")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only")
    only = parser.parse_args().only
    FOLDER.mkdir(exist_ok=True)
    write("lines.json.gz", LINES)
    write("charsmap.json.gz", base64.b64encode(CHARSMAP).decode("ascii"))
    for name, build in FAMILIES.items():
        if only in (None, name):
            make_family(name, build)
    for name, (arguments, config) in SENTENCEPIECE.items():
        if only in (None, name):
            make_sentencepiece(name, arguments, config, MODELS[name])


main()
