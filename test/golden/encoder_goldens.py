"""The tiny encoders of test/integration/models/encoders.test.ts: checkpoints, tokenizers and what sentence-transformers makes of texts.

Out      one folder a row: config.json, model.safetensors, tokenizer.json, sentence-transformers' own files where the row has them,
         vectors.json: texts, their ids, their vectors in float32
Refused  as in make_goldens.py: a tensor that can be zeroed, or a setting that can be ignored, without being seen; vectors that
         float64 makes otherwise
"""
import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch
import transformers as T
from encoder_rows import CLASSIFIERS, FURTHER, PAIRS
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).resolve().parent
HELDOUT = HERE.parent.parent / "models" / "training" / "heldout.txt"

TOLERANCE = 1e-5  # max |a - b| / max |b|
MIN_EFFECT = 0.05
# of a setting: norms after every sum bring most of an epsilon back in order
MIN_SETTING_EFFECT = 100 * TOLERANCE
# two formulas of one activation are near each other
ACTIVATION_EFFECT = 20 * TOLERANCE
MAX_ROUNDING = TOLERANCE / 3

TEXTS = [
    "One day", "a", "The cat sat on the mat, and the dog ran to the park.", "CAF\u00c9 na\u00efve \u4f60\u597d 123!",
    "Once upon a time there was a little girl named Lily. She loved to play outside in the sunshine with her friends.",
    " ".join(["Tom and his mom went to the big store to buy a red ball."] * 4),
]  # fmt: skip


class Refused(Exception):
    pass


def refuse(when, why):
    if when:
        raise Refused(why)


# -- tokenizers, trained on a few stories ----------------------------------------------------------------------------------


def stories():
    return HELDOUT.read_text(encoding="ascii").replace("<|endoftext|>", "").splitlines()[:400]


def wordpiece():
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(stories(), trainers.WordPieceTrainer(vocab_size=160, special_tokens=special))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.decoder = decoders.WordPiece()
    return made, dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")


ROBERTA_SPECIAL = dict(bos_token="<s>", cls_token="<s>", pad_token="<pad>", eos_token="</s>", sep_token="</s>", unk_token="<unk>")


def byte_level():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    made.train_from_iterator(stories(), trainer)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made, ROBERTA_SPECIAL


def unigram():
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>")
    made.train_from_iterator(stories(), trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    made.decoder = decoders.Metaspace()
    return made, ROBERTA_SPECIAL


# -- rows -------------------------------------------------------------------------------------------------------------------

BERT_LIKE = {
    "num_hidden_layers": 2, "num_attention_heads": 8, "hidden_size": 64, "intermediate_size": 100, "max_position_embeddings": 96,
    "layer_norm_eps": 0.02, "hidden_act": "gelu", "type_vocab_size": 2, "tie_word_embeddings": True,
}  # fmt: skip
ROBERTA_LIKE = {**BERT_LIKE, "type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
ALL_POOLINGS = [f"pooling_mode_{kind}" for kind in
                ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")]  # fmt: skip
EPS, TANH = {"eps": {"layer_norm_eps": 1e-12}}, {"activation": {"hidden_act": "gelu_new"}}


def modules(*others):
    kinds = ["Transformer", "Pooling", *others]
    return [{"idx": i, "name": str(i), "path": f"{i}_{k}" if i else "", "type": f"sentence_transformers.models.{k}"} for i, k in enumerate(kinds)]


def pooling(*on):
    return {"word_embedding_dimension": 64, **{mode: mode in on for mode in ALL_POOLINGS}, "include_prompt": True}


def old_names(name):
    """As google-bert/bert-base-uncased is saved."""
    return f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


ROWS = {
    # hidden states of the first and the last token, and every other way of pooling, side by side
    "encoder-bert": {
        "model": T.BertModel, "config": T.BertConfig, "arguments": BERT_LIKE, "dtype": torch.float32, "tokenizer": wordpiece,
        "architecture": "BertForPreTraining", "rename": old_names, "variations": {**EPS, **TANH},
        "files": {"modules.json": modules(), "1_Pooling/config.json": pooling(*ALL_POOLINGS),
                  "sentence_bert_config.json": {"max_seq_length": 80, "do_lower_case": True}},
    },
    "encoder-bert-dense": {
        "model": T.BertModel, "config": T.BertConfig, "arguments": {**BERT_LIKE, "num_attention_heads": 4, "hidden_act": "relu"},
        "dtype": torch.float16, "tokenizer": wordpiece, "architecture": "BertModel", "rename": None, "variations": EPS,
        "files": {"modules.json": modules("Dense", "Normalize"), "1_Pooling/config.json": pooling("pooling_mode_cls_token"),
                  "2_Dense/config.json": {"in_features": 64, "out_features": 24, "bias": True,
                                          "activation_function": "torch.nn.modules.activation.Tanh"},
                  "sentence_bert_config.json": {"max_seq_length": 20, "do_lower_case": False}},
    },
    "encoder-roberta": {
        "model": T.RobertaModel, "config": T.RobertaConfig, "arguments": ROBERTA_LIKE, "dtype": torch.bfloat16, "tokenizer": byte_level,
        "architecture": "RobertaForMaskedLM", "rename": "roberta.{}".format, "variations": {**EPS, **TANH},
        "files": {"modules.json": modules("Normalize"), "1_Pooling/config.json": pooling("pooling_mode_mean_tokens"),
                  "sentence_bert_config.json": {"max_seq_length": 64, "do_lower_case": False}},
    },
    "encoder-xlm-roberta": {
        "model": T.XLMRobertaModel, "config": T.XLMRobertaConfig, "arguments": {**ROBERTA_LIKE, "hidden_size": 96, "intermediate_size": 130},
        "dtype": torch.float16, "tokenizer": unigram, "architecture": "XLMRobertaModel", "rename": None, "variations": EPS,
        "files": {"modules.json": modules(), "1_Pooling/config.json": {"embedding_dimension": 96, "pooling_mode": "mean"},
                  "sentence_bert_config.json": {"max_seq_length": 70, "do_lower_case": True}},
    },
    # nothing of sentence-transformers: the mean
    "encoder-distilbert": {
        "model": T.DistilBertModel, "config": T.DistilBertConfig, "dtype": torch.float32, "tokenizer": wordpiece,
        "arguments": {"n_layers": 2, "n_heads": 8, "dim": 64, "hidden_dim": 100, "max_position_embeddings": 96, "activation": "gelu"},
        "architecture": "DistilBertForMaskedLM", "rename": "distilbert.{}".format,
        "variations": {"activation": {"activation": "gelu_new"}}, "files": {},
    },
}  # fmt: skip


def redraw(model, generator):
    def normal(p, deviation):
        p.data.copy_(torch.randn(p.shape, generator=generator) * deviation)

    for path, module in model.named_modules():
        for name, p in module.named_parameters(recurse=False):
            if name == "bias":
                normal(p, 0.3)
            elif isinstance(module, torch.nn.LayerNorm):
                p.data.copy_(1 + (torch.rand(p.shape, generator=generator) * 2 - 1) * 0.3)
            elif isinstance(module, torch.nn.Embedding):
                normal(p, 1)
            elif "RMSNorm" in type(module).__name__:
                # Gemma's scale is 1 + weight
                base = (0 if "Gemma" in type(module).__name__ else 1) + (0.7 if path.endswith(("q_norm", "k_norm")) else 0)
                p.data.copy_(base + (torch.rand(p.shape, generator=generator) * 2 - 1) * (0.3 if base else 0.6))
            elif path.endswith(("query", "key", "q_lin", "k_lin", "q_proj", "k_proj", "attn.q", "attn.k", "Wqkv", "query_proj", "key_proj")):
                normal(p, 2 / p.shape[1] ** 0.5)
            elif path.endswith(("lin2", "output.dense", "down_proj", "mlp.Wo")) and "attention" not in path:
                normal(p, 4 / p.shape[1] ** 0.5)
            else:
                normal(p, 1 / p.shape[1] ** 0.5)


def vectors_of(sentences, texts):
    with torch.no_grad():
        if isinstance(sentences, Classifier):
            return [sentences.scores(text) for text in texts]
        return [sentences.encode([t], convert_to_tensor=True).double().cpu()[0] for t in texts]


def deviation(seen, reference):
    return max(((s - r).abs().max() / r.abs().max()).item() for s, r in zip(seen, reference))


class Classifier:
    """Scores of a text, or of two, by transformers' own class; of a token classifier those of all tokens in turn."""

    def __init__(self, folder, spec, dtype):
        self.model = spec["model"].from_pretrained(str(folder), dtype=dtype, attn_implementation="eager").eval()
        self.tokenizer = T.PreTrainedTokenizerFast.from_pretrained(str(folder))

    def inputs(self, text):
        pair = text if isinstance(text, tuple) else (text,)
        made = self.tokenizer(*pair, return_tensors="pt", return_token_type_ids=True, truncation=True)
        kinds = getattr(self.model.config, "type_vocab_size", 1) > 1
        return {"input_ids": made["input_ids"], **({"token_type_ids": made["token_type_ids"]} if kinds else {})}

    def scores(self, text):
        return self.model(**self.inputs(text)).logits.double().flatten()

    def double(self):
        return self


def sentences_from(folder, spec, dtype=torch.float32):
    if spec.get("classifier"):
        return Classifier(folder, spec, dtype)
    return SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": dtype, "attn_implementation": "eager"})


def texts_of(spec):
    return [*TEXTS, *PAIRS] if spec.get("pairs") else TEXTS


def check_not_blind(name, spec, folder, reference):
    sentences, texts = sentences_from(folder, spec), texts_of(spec)
    if spec.get("classifier"):
        model, dense = sentences.model, {}
    else:
        model = sentences[0].model if hasattr(sentences[0], "model") else sentences[0].auto_model
        dense = {f"dense.{n}": p for module in list(sentences)[2:] for n, p in module.named_parameters()}
    least = (float("inf"), "")
    for tensor, p in [*model.named_parameters(), *dense.items()]:
        # a key's bias adds the same to all scores of a query; the pooler and the second kind of text are not used
        if tensor.startswith("pooler") or tensor.endswith(("key.bias", "k_lin.bias", "k_proj.bias", "attn.k.bias")):
            continue
        kept = p.data.clone()
        p.data.zero_()
        moved = deviation(vectors_of(sentences, texts), reference)
        p.data.copy_(kept)
        refuse(moved < MIN_EFFECT, f"zeroing {tensor} moves the vectors by {moved:.4f} only")
        least = min(least, (moved, tensor))
    for what, change in spec["variations"].items():
        other = Path(tempfile.mkdtemp(dir=HERE))
        try:
            shutil.copytree(folder, other, dirs_exist_ok=True)
            config = json.loads((other / "config.json").read_text())
            (other / "config.json").write_text(json.dumps({**config, **change}))
            moved = deviation(vectors_of(sentences_from(other, spec), texts), reference)
        finally:
            shutil.rmtree(other)
        least_effect = ACTIVATION_EFFECT if what == "activation" else MIN_SETTING_EFFECT
        refuse(moved < least_effect, f"ignoring {what}: {moved:.4f} only")
        print(f"  without its {what}: vectors move by {moved:.4f}")
    print(f"  least effect of a zeroed tensor: {least[0]:.2f} ({least[1]})")


def row_of(sentences, spec, text, vector):
    numbers = [float(f"{x:.9g}") for x in vector.tolist()]
    if not spec.get("classifier"):
        return {"text": text, "ids": sentences.preprocess([text])["input_ids"][0].tolist(), "vector": numbers}
    first, *second = text if isinstance(text, tuple) else (text,)
    made = sentences.tokenizer(first, *second, return_token_type_ids=True, truncation=True)
    row = {"text": first, **({"pair": second[0]} if second else {}), "ids": made["input_ids"], "vector": numbers}
    kinds = made.get("token_type_ids", [])
    return {**row, **({"secondTextAt": kinds.index(1)} if 1 in kinds and spec.get("pairs") else {})}


def cut_of(tokenizer, pair, most):
    """Both texts of a pair, cut as tokenizers cut the longer one first."""
    ids = tokenizer(*pair, truncation="longest_first", max_length=most)["input_ids"]
    return {"text": pair[0], "pair": pair[1], "cutAt": most, "ids": ids}


def make_with(name, spec, seed):
    generator = torch.Generator().manual_seed(seed)
    tokenizer, special = spec["tokenizer"]()
    config = spec["config"](vocab_size=tokenizer.get_vocab_size(), **spec["arguments"])
    config._attn_implementation = "eager"
    model = spec["model"](config).eval()
    redraw(model, generator)
    folder = Path(tempfile.mkdtemp(dir=HERE))

    def write(file, value):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(json.dumps(value, indent=1) + "\n", encoding="ascii")

    try:
        config.architectures = [spec["architecture"]]
        written = {**json.loads(config.to_json_string()), "dtype": str(spec["dtype"]).removeprefix("torch.")}
        write("config.json", dict(sorted(written.items())))
        rename = spec["rename"] or (lambda tensor: tensor)
        tensors = {rename(n): p.data.to(spec["dtype"]).contiguous() for n, p in model.named_parameters()}
        if spec["rename"] and spec.get("head", True):  # heads that make no hidden state
            tensors["cls.predictions.bias" if "Bert" in spec["architecture"] else "lm_head.bias"] = torch.zeros(config.vocab_size)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        write("tokenizer.json", json.loads(tokenizer.to_str()))
        write("tokenizer_config.json", {**special, "model_max_length": 90, "tokenizer_class": "PreTrainedTokenizerFast"})
        for file, value in spec["files"].items():
            write(file, value)
        for at in (2, 3):
            if f"{at}_Dense/config.json" not in spec["files"]:
                continue
            size = spec["files"][f"{at}_Dense/config.json"]
            shape = (size["out_features"], size["in_features"])
            linear = {"linear.weight": torch.randn(shape, generator=generator) / 8}
            if size["bias"]:
                linear["linear.bias"] = torch.randn(shape[0], generator=generator) / 3
            save_file(linear, folder / f"{at}_Dense" / "model.safetensors", {"format": "pt"})
        sentences = sentences_from(folder, spec)
        reference = vectors_of(sentences, texts_of(spec))
        rounding = deviation(reference, vectors_of(sentences_from(folder, spec, torch.float64).double(), texts_of(spec)))
        refuse(rounding > MAX_ROUNDING, f"float32 is {rounding:.1e} off")
        check_not_blind(name, spec, folder, reference)
        texts = [row_of(sentences, spec, t, v) for t, v in zip(texts_of(spec), reference)]
        if spec.get("published"):
            config, tensors = spec["published"](json.loads((folder / "config.json").read_text()), tensors)
            write("config.json", config)
            save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
        lines = ",\n".join(json.dumps(t) for t in texts)
        made = {n: version(n) for n in ("sentence-transformers", "transformers", "torch", "tokenizers")}
        cuts = [cut_of(sentences.tokenizer, pair, most) for pair in PAIRS for most in (8, 11, 14, 17)] if spec.get("pairs") else None
        described = {"model": name, "madeWith": made, "computedIn": "float32", "tolerance": TOLERANCE, **({"cuts": cuts} if cuts else {})}
        head = json.dumps(described)[:-1]
        (folder / "vectors.json").write_text(f'{head}, "texts": [\n{lines}\n]}}\n', encoding="ascii")
        for file in folder.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)
        print(f"  {[len(t['ids']) for t in texts]} tokens, float32 off by {rounding:.1e}")
        shutil.rmtree(HERE / name, ignore_errors=True)
        shutil.move(folder, HERE / name)
        (HERE / name).chmod(0o755)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make(name):
    for seed in range(1, 51):
        try:
            make_with(name, ROWS[name], seed)
            print(f"  seed {seed}")
            return
        except Refused as reason:
            print(f"  seed {seed} refused: {reason}")
    raise SystemExit(f"refused: {name}: no seed would do")


TOKENIZERS = {"wordpiece": wordpiece, "byte_level": byte_level, "unigram": unigram}
for row in [*FURTHER.items(), *CLASSIFIERS.items()]:
    ROWS[row[0]] = {**row[1], "tokenizer": TOKENIZERS[row[1]["tokenizer"]]}

ENCODERS = {name: (lambda name=name: make(name)) for name in ROWS}
