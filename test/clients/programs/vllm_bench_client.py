import json
import os
import subprocess
import tempfile

from common import GIVEN, MODEL, URL, run

PROGRAM = os.environ.get("VLLM", "vllm")
PROMPTS = 12


def load():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                PROGRAM, "bench", "serve", "--backend", "openai", "--base-url", URL, "--model", MODEL,
                "--tokenizer", GIVEN["folder"], "--dataset-name", "random", "--random-input-len", "16",
                "--random-output-len", "8", "--num-prompts", str(PROMPTS), "--max-concurrency", "4", "--ignore-eos",
                "--save-result", "--result-dir", folder, "--result-filename", "result.json",
            ],
            check=True, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        with open(os.path.join(folder, "result.json")) as file:
            result = json.load(file)
    return [result["completed"], result["total_output_tokens"]]


run({"bench serve, 12 requests of 8 tokens, 4 at once": load})
