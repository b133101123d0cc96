import json
import queue

import numpy as np
import tritonclient.grpc as grpc
from common import GRPC, MODEL, PROMPT, TOKENS, run

client = grpc.InferenceServerClient(GRPC)


def text(name, value):
    tensor = grpc.InferInput(name, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([value.encode()], dtype=object))
    return tensor


def inputs(stream):
    flag = grpc.InferInput("stream", [1], "BOOL")
    flag.set_data_from_numpy(np.array([stream]))
    asked = json.dumps({"max_tokens": TOKENS, "temperature": 0})
    return [text("text_input", PROMPT), flag, text("sampling_parameters", asked)]


def flag(name):
    tensor = grpc.InferInput(name, [1], "BOOL")
    tensor.set_data_from_numpy(np.array([True]))
    return tensor


def beside():
    told = client.infer(MODEL, [*inputs(False), flag("return_finish_reason"), flag("return_num_output_tokens")])
    return [told.as_numpy("finish_reason")[0].decode(), int(told.as_numpy("num_output_tokens")[0])]


def decoupled():
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer(MODEL, inputs(True), request_id="1", enable_empty_final_response=True)
    told = ""
    while True:
        result, error = answers.get(timeout=60)
        if error is not None:
            raise error
        response = result.get_response()
        if len(response.outputs):
            told += result.as_numpy("text_output")[0].decode()
        if response.parameters["triton_final_response"].bool_param:
            break
    client.stop_stream()
    return told


run({
    "live, ready, model ready": lambda: [client.is_server_live(), client.is_server_ready(), client.is_model_ready(MODEL)],
    "metadata": lambda: [i.name for i in client.get_model_metadata(MODEL).inputs][:1],
    "infer": lambda: client.infer(MODEL, inputs(False)).as_numpy("text_output")[0].decode(),
    "infer: finish reason, tokens out": beside,
    "stream_infer, decoupled": decoupled,
    "repository index": lambda: [m.name for m in client.get_model_repository_index().models],
})
