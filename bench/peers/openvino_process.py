"""OpenVINO in a process of its own: reads a GGUF file as OpenVINO GenAI does, opens sequences, times prefills and decode steps.

Run     by openvino-peer.ts, in a Python environment with openvino-genai
In      a line of JSON a call: load, open, decode, prefill, rewind, close
Out     a line of JSON an answer: {"info"}, {"ms"} or {"error"}; the times are taken here
How     the model that OpenVINO GenAI makes of the file, as it compiles it (threads alone are told), one inference a step with a token of
        every sequence; the greedy token of each by numpy. Its own pipelines do the same around it, and a scheduler's work more
"""

import json
import os
import sys
import time

import numpy as np
import openvino as ov
import openvino_genai

FIRST_TOKEN = 300

# Whatever the libraries print must not stand between the answers.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

compiled = None
works = {}
prompts = 0


def load(file, threads):
    global compiled
    xml = os.path.join(os.path.dirname(file), "openvino_model.xml")
    if not os.path.exists(xml):
        try:
            openvino_genai.LLMPipeline(file, "CPU", enable_save_ov_model=True)
        except Exception:
            # It has written the model by then, and does not take the file's made-up vocabulary.
            if not os.path.exists(xml):
                raise
    compiled = ov.Core().compile_model(
        xml,
        "CPU",
        {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1},
    )
    told = {
        name: str(compiled.get_property(name))
        for name in ("KV_CACHE_PRECISION", "DYNAMIC_QUANTIZATION_GROUP_SIZE", "INFERENCE_PRECISION_HINT")
    }
    return {"info": f"openvino-genai {openvino_genai.__version__}, {told}"}


class Work:
    def __init__(self, sequences, context):
        self.request = compiled.create_infer_request()
        self.inputs = {port.get_any_name() for port in compiled.inputs}
        self.sequences = sequences
        self.context = context
        self.tokens = np.array([[FIRST_TOKEN + 17 * n] for n in range(sequences)], dtype=np.int64)
        self.rewind()

    def rewind(self):
        self.request.reset_state()
        self.position = 0
        if self.context > 0:
            self.prompt(self.context)

    def prompt(self, tokens):
        global prompts
        prompts += 1
        row = FIRST_TOKEN + (prompts * 31 + np.arange(tokens, dtype=np.int64) * 7) % 30_000
        self.run(np.tile(row, (self.sequences, 1)))

    def run(self, ids):
        rows, count = ids.shape
        positions = np.arange(self.position, self.position + count, dtype=np.int64)
        self.position += count
        given = {
            "input_ids": ids,
            "attention_mask": np.ones((rows, self.position), dtype=np.int64),
            "position_ids": np.tile(positions, (rows, 1)),
            "beam_idx": np.arange(rows, dtype=np.int32),
        }
        self.request.infer({name: value for name, value in given.items() if name in self.inputs}, share_inputs=True)
        logits = self.request.get_output_tensor(0).data
        return logits[:, -1, :].argmax(axis=-1)

    def decode_ms(self, steps):
        started = time.perf_counter()
        for _ in range(steps):
            self.tokens = self.run(self.tokens).reshape(-1, 1).astype(np.int64)
        return (time.perf_counter() - started) * 1000 / steps

    def prefill_ms(self, tokens):
        self.request.reset_state()
        self.position = 0
        started = time.perf_counter()
        self.prompt(tokens)
        return (time.perf_counter() - started) * 1000


def answer(call):
    kind = call["call"]
    if kind == "load":
        return load(call["file"], call["threads"])
    name = call["name"]
    if kind == "open":
        works[name] = Work(call["sequences"], call["context"])
        return {"ms": 0}
    if kind == "decode":
        return {"ms": works[name].decode_ms(call["steps"])}
    if kind == "prefill":
        return {"ms": works[name].prefill_ms(call["tokens"])}
    if kind == "rewind":
        works[name].rewind()
    if kind == "close":
        del works[name]
    return {"ms": 0}


for line in sys.stdin:
    try:
        told = answer(json.loads(line))
    except Exception as error:  # the other side says what happened
        told = {"error": f"{type(error).__name__}: {error}"}
    answers.write(json.dumps(told) + "\n")
    answers.flush()
