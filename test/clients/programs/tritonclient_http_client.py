import json

import numpy as np
import tritonclient.http as http
from common import MODEL, PROMPT, TOKENS, URL, run

client = http.InferenceServerClient(URL.removeprefix("http://"), network_timeout=60)


def text(name, value, binary):
    tensor = http.InferInput(name, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([value.encode()], dtype=object), binary_data=binary)
    return tensor


def infer(binary):
    asked = json.dumps({"max_tokens": TOKENS, "temperature": 0})
    inputs = [text("text_input", PROMPT, binary), text("sampling_parameters", asked, binary)]
    outputs = [http.InferRequestedOutput("text_output", binary_data=binary)]
    answer = client.infer(MODEL, inputs, outputs=outputs).as_numpy("text_output")[0]
    return answer.decode() if isinstance(answer, bytes) else answer


run({
    "live, ready, model ready": lambda: [client.is_server_live(), client.is_server_ready(), client.is_model_ready(MODEL)],
    "metadata": lambda: [i["name"] for i in client.get_model_metadata(MODEL)["inputs"]][:1],
    "infer, binary": lambda: infer(True),
    "infer, JSON": lambda: infer(False),
    "repository index": lambda: [m["name"] for m in client.get_model_repository_index()],
})
