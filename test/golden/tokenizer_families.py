"""
The structures of published tokenizers: normalizer, pre-tokenizer, model, post-processor, decoder and added tokens as their tokenizer.json has them.

In      training lines; SentencePiece models by name
Out     FAMILIES: name → function that gives (tokenizer.json, tokenizer_config.json); SENTENCEPIECE: name → (trainer's arguments, config)
Source  the published files of each family, read for their structure only: vocabularies and merges are trained here
"""
import base64
import json

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as protobuf
from tokenizers import Tokenizer, models, trainers
from tokenizers.pre_tokenizers import ByteLevel as ByteLevelPieces

VOCABULARY = 900


def added(start, contents, special=True, normalized=False, lstrip=False, rstrip=False, single_word=False):
    return [{"id": start + index, "content": content, "single_word": single_word, "lstrip": lstrip, "rstrip": rstrip,
             "normalized": normalized, "special": special} for index, content in enumerate(contents)]


def byte_level(use_regex=True, add_prefix_space=False):
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(kind, *parts):
    return {"type": "Sequence", {"pre": "pretokenizers", "norm": "normalizers", "post": "processors", "dec": "decoders"}[kind]: list(parts)}


def template(tokens, before=(), after=()):
    """TemplateProcessing with the tokens of these names before and after the text."""
    def piece(name):
        return {"SpecialToken": {"id": name, "type_id": 0}}
    single = [piece(name) for name in before] + [{"Sequence": {"id": "A", "type_id": 0}}] + [piece(name) for name in after]
    pair = single + [{"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair,
            "special_tokens": {name: {"id": name, "ids": [tokens[name]], "tokens": [name]} for name in set(before) | set(after)}}


def assemble(model, added_tokens, normalizer=None, pre_tokenizer=None, post_processor=None, decoder=None):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added_tokens, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": decoder, "model": model}


def train_bpe(lines, normalizer, pre_tokenizer, first=(), alphabet=None, size=VOCABULARY, **options):
    """A BPE model trained with the family's own normalizer and pre-tokenizer; `first` are tokens that stand before all others."""
    skeleton = Tokenizer.from_str(json.dumps(assemble(json.loads(Tokenizer(models.BPE()).to_str())["model"], [], normalizer, pre_tokenizer)))
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(first), show_progress=False,
                                  initial_alphabet=ByteLevelPieces.alphabet() if alphabet is None else alphabet)
    skeleton.train_from_iterator(lines, trainer)
    model = json.loads(skeleton.to_str())["model"]
    model.update(options)
    return model


def byte_level_family(regexes, specials, extra=(), normalizer=None, before=(), after=(), sequence_of=None, post=None, config=None, **options):
    """Byte-level BPE: `regexes` split before the bytes, or `sequence_of` is the whole pre-tokenizer."""
    def build(lines, _models):
        pre = sequence_of or sequence("pre", *[split(text) for text in regexes], byte_level(use_regex=False))
        model = train_bpe(lines, normalizer, pre, **options)
        start = len(model["vocab"])
        tokens = added(start, specials) + list(extra(start + len(specials)) if extra else [])
        ids = {token["content"]: token["id"] for token in tokens}
        parts = [{"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}]
        if before or after:
            parts.append(template(ids, before, after))
        processor = post(ids) if post else parts[0] if len(parts) == 1 else sequence("post", *parts)
        return assemble(model, tokens, normalizer, pre, processor, {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}), config or {}
    return build


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
LLAMA_NORMALIZER = sequence("norm", {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
LLAMA_DECODER = sequence("dec", {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                         {"type": "Strip", "content": " ", "start": 1, "stop": 0})
GEMMA_DECODER = sequence("dec", {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"})


def sentencepiece_bpe(normalizer, pre_tokenizer, decoder, tokens, before=("<s>",), first=("<unk>", "<s>", "</s>"), config=None):
    """BPE with byte fallback, as converted from SentencePiece models; trained on words, so that merges stay inside of them."""
    def build(lines, _models):
        words = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
        model = train_bpe(lines, None, words, first=list(first) + BYTES, alphabet=list("▁abcdefghijklmnopqrstuvwxyz"), size=1100,
                          unk_token="<unk>", fuse_unk=True, byte_fallback=True)
        # Runs of ▁ are tokens of these vocabularies: without them no merge crosses a space.
        for length in (2, 4, 8):
            half = "▁" * (length // 2)
            model["vocab"][half * 2] = len(model["vocab"])
            model["merges"].append([half, half])
        start = len(model["vocab"])
        added_tokens = tokens(start, model["vocab"])
        return assemble(model, added_tokens, normalizer, pre_tokenizer, template(model["vocab"], before), decoder), config or {}
    return build


def llama_tokens(normalized=False, more=(), rstrip=False):
    return lambda start, _vocab: added(0, ["<unk>", "<s>", "</s>"], normalized=normalized) + added(start, more, rstrip=rstrip)


def gemma_tokens(start, vocab):
    """Line breaks, runs of spaces and tags are ordinary tokens that are looked for before anything else."""
    found = [{**added(vocab[text], [text], special=False)[0]} for text in ("\n", "▁▁", "▁▁▁▁", "▁" * 8)]
    return (added(0, ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]) + added(5, ["[@BOS@]", "<unused0>"], special=False) + found
            + added(start, ["<start_of_turn>", "<end_of_turn>"]) + added(start + 2, ["\n\n", "\n\n\n", "<table>", "</table>", "<h1>"], special=False))


def pieces_of(data):
    model = protobuf.ModelProto()
    model.ParseFromString(data)
    return model


def t5(lines, trained):
    model = pieces_of(trained["unigram-nmt-nfkc"])
    vocab = [[piece.piece, piece.score] for piece in model.pieces]
    start = len(vocab)
    charsmap = base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode("ascii")
    tokens = added(0, ["<pad>", "</s>", "<unk>"]) + added(start, ["<extra_id_1>", "<extra_id_0>"])
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    return assemble({"type": "Unigram", "unk_id": 2, "vocab": vocab, "byte_fallback": False}, tokens,
                    {"type": "Precompiled", "precompiled_charsmap": charsmap}, sequence("pre", {"type": "WhitespaceSplit"}, metaspace),
                    template({"</s>": 1}, after=("</s>",)), metaspace), {}


def xlm_roberta(lines, trained):
    model = pieces_of(trained["unigram-nmt-nfkc"])
    vocab = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]] + [[piece.piece, piece.score] for piece in model.pieces[3:]]
    mask = len(vocab)
    charsmap = base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode("ascii")
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    normalizer = sequence("norm", {"type": "Precompiled", "precompiled_charsmap": charsmap},
                          {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    return assemble({"type": "Unigram", "unk_id": 3, "vocab": vocab + [["<mask>", 0.0]], "byte_fallback": False},
                    added(0, ["<s>", "<pad>", "</s>", "<unk>"]) + added(mask, ["<mask>"], lstrip=True), normalizer, metaspace,
                    template({"<s>": 0, "</s>": 2}, ("<s>",), ("</s>",)), metaspace), {}


def bert(lowercase):
    def build(lines, _models):
        normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": lowercase}
        skeleton = Tokenizer.from_str(json.dumps(assemble(json.loads(Tokenizer(models.WordPiece(unk_token="[UNK]")).to_str())["model"], [],
                                                          normalizer, {"type": "BertPreTokenizer"})))
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        skeleton.train_from_iterator(lines, trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False))
        model = json.loads(skeleton.to_str())["model"]
        return assemble(model, added(0, special), normalizer, {"type": "BertPreTokenizer"},
                        template(model["vocab"], ("[CLS]",), ("[SEP]",)),
                        {"type": "WordPiece", "prefix": "##", "cleanup": True}), {}
    return build


def roberta_post(ids):
    return {"type": "RobertaProcessing", "sep": ["</s>", ids["</s>"]], "cls": ["<s>", ids["<s>"]], "trim_offsets": True, "add_prefix_space": False}


LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
BLOOM = " ?[^(\\s|[.,!?…。，、।۔،])]+"
NFC = {"type": "NFC"}

FAMILIES = {
    "gpt2": byte_level_family([], ["<|endoftext|>"], sequence_of=byte_level()),
    "gpt-neox": byte_level_family([], ["<|endoftext|>", "<|padding|>"], normalizer=NFC, sequence_of=byte_level(),
                                  extra=lambda start: added(start, [" " * n for n in (24, 17, 8, 4, 3, 2)], special=False, normalized=True)),
    "roberta": byte_level_family([], ["<s>", "<pad>", "</s>", "<unk>"], sequence_of=byte_level(), post=roberta_post,
                                 extra=lambda start: added(start, ["<mask>"], lstrip=True)),
    "llama3": byte_level_family([LLAMA3], ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
                                before=("<|begin_of_text|>",), ignore_merges=True),
    "qwen2": byte_level_family([QWEN2], ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], normalizer=NFC,
                               extra=lambda start: added(start, ["<tool_call>", "</tool_call>", "<think>", "</think>"], special=False)),
    "falcon": byte_level_family([], [">>TITLE<<", ">>ABSTRACT<<", "<|endoftext|>"], sequence_of=sequence(
        "pre", {"type": "Punctuation", "behavior": "Contiguous"}, byte_level(), {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]"))),
    "starcoder": byte_level_family([], ["<|endoftext|>", "<fim_prefix>", "<fim_suffix>"], sequence_of=sequence(
        "pre", {"type": "Digits", "individual_digits": True}, byte_level())),
    "bloom": byte_level_family([BLOOM], ["<unk>", "<s>", "</s>", "<pad>"]),
    "deepseek": byte_level_family(DEEPSEEK, ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"],
                                  normalizer=sequence("norm"), before=("<｜begin▁of▁sentence｜>",),
                                  extra=lambda start: added(start, ["<think>", "</think>"], special=False)),
    "deepseek-coder": byte_level_family([], ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"], before=("<｜begin▁of▁sentence｜>",),
                                        normalizer=sequence("norm"), sequence_of=sequence(
        "pre", split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"),
        {"type": "Digits", "individual_digits": True}, byte_level(use_regex=False))),
    "gpt-oss": byte_level_family([O200K], ["<|startoftext|>", "<|endoftext|>", "<|start|>", "<|channel|>", "<|end|>"], ignore_merges=False),
    "olmo2": byte_level_family([LLAMA3], ["<|endoftext|>", "<|pad|>"], before=("<|endoftext|>",),
                               extra=lambda start: added(start, ["<|im_start|>", "word"], special=False, normalized=True, single_word=True)),
    "llama2": sentencepiece_bpe(LLAMA_NORMALIZER, None, LLAMA_DECODER, llama_tokens()),
    "llama1": sentencepiece_bpe(LLAMA_NORMALIZER, None, LLAMA_DECODER, llama_tokens(normalized=True)),
    "mistral-v3": sentencepiece_bpe(None, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}, LLAMA_DECODER,
                                    llama_tokens(more=["[INST]", "[/INST]"])),
    "llama2-no-prefix": sentencepiece_bpe({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, None, GEMMA_DECODER, llama_tokens()),
    "phi3": sentencepiece_bpe(LLAMA_NORMALIZER, None, LLAMA_DECODER, llama_tokens(more=["<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>"], rstrip=True)),
    "gemma": sentencepiece_bpe({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, split(" ", "MergedWithPrevious", kind="String"), GEMMA_DECODER,
                               gemma_tokens, before=("<bos>",), first=("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "[@BOS@]", "<unused0>")),
    "t5": t5,
    "xlm-roberta": xlm_roberta,
    "bert-uncased": bert(True),
    "bert-cased": bert(False),
}

COMMON = {"vocab_size": 800, "character_coverage": 0.98, "hard_vocab_limit": False}
LLAMA_SPM = {**COMMON, "model_type": "bpe", "vocab_size": 1000, "byte_fallback": True, "split_digits": True, "allow_whitespace_only_pieces": True,
             "normalization_rule_name": "identity", "remove_extra_whitespaces": False, "add_dummy_prefix": True}
SENTENCEPIECE = {
    "bpe-llama": (LLAMA_SPM, {"add_bos_token": True, "add_eos_token": False, "legacy": False}),
    "bpe-gemma": ({**LLAMA_SPM, "add_dummy_prefix": False, "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "bos_piece": "<bos>", "eos_piece": "<eos>",
                   "user_defined_symbols": "<start_of_turn>,<end_of_turn>,\n\n,<table>,▁▁▁▁"}, {"add_bos_token": True}),
    "unigram-nmt-nfkc": ({**COMMON, "model_type": "unigram", "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "normalization_rule_name": "nmt_nfkc"},
                         {"add_bos_token": False, "add_eos_token": True}),
    "unigram-bytes": ({**COMMON, "model_type": "unigram", "vocab_size": 1000, "byte_fallback": True, "normalization_rule_name": "nmt_nfkc",
                       "user_defined_symbols": "<mask>,word,</tool_call>", "control_symbols": "[INST]", "remove_extra_whitespaces": True}, {}),
    "bpe-plain": ({**COMMON, "model_type": "bpe", "normalization_rule_name": "nmt_nfkc"}, {}),
}
