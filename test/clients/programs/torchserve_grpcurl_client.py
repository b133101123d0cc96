"""TorchServe's gRPC calls by grpcurl: what there is it learns by reflection, no .proto file is given."""

import base64
import json
import os
import subprocess

from common import GIVEN, PROMPT, TOKENS, run

PROGRAM = os.environ.get("GRPCURL", "grpcurl")
ADDRESS = GIVEN["torchserve"]
INFERENCE, MANAGEMENT = ADDRESS["grpcInference"], ADDRESS["grpcManagement"]
PREDICTIONS = "org.pytorch.serve.grpc.inference.InferenceAPIsService"
MODELS = "org.pytorch.serve.grpc.management.ManagementAPIsService"
OIP = "org.pytorch.serve.grpc.openinference.GRPCInferenceService"
ASKED = json.dumps({"inputs": PROMPT, "parameters": {"max_new_tokens": TOKENS}})


def grpcurl(address, *arguments, message=None):
    data = [] if message is None else ["-d", json.dumps(message)]
    done = subprocess.run([PROGRAM, "-plaintext", *data, address, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return done.stdout


def messages(text):
    """Several answers stand one behind the other."""
    decoder, at, found = json.JSONDecoder(), 0, []
    while at < len(text.rstrip()):
        value, at = decoder.raw_decode(text, at)
        found.append(value)
        at += len(text[at:]) - len(text[at:].lstrip())
    return found


def packed(text):
    return base64.b64encode(text.encode()).decode()


def unpacked(text):
    return base64.b64decode(text).decode()


def predicted(model, text):
    message = {"model_name": model, "input": {"data": packed(text)}}
    (told,) = messages(grpcurl(INFERENCE, f"{PREDICTIONS}/Predictions", message=message))
    return json.loads(unpacked(told["prediction"]))


def streamed():
    message = {"model_name": "story", "input": {"data": packed(ASKED)}}
    told = messages(grpcurl(INFERENCE, f"{PREDICTIONS}/StreamPredictions", message=message))
    return "".join(unpacked(one["prediction"]) for one in told)


def manage(call, **message):
    (told,) = messages(grpcurl(MANAGEMENT, f"{MODELS}/{call}", message=message))
    return json.loads(told["msg"])


def managed():
    return [
        manage("RegisterModel", url="mood.mar", model_name="third")["status"],
        manage("ScaleWorker", model_name="third", min_worker=1, synchronous=True)["status"],
        json.loads(manage("DescribeModel", model_name="third", customized=True)[0]["customizedMetadata"]),
        manage("SetDefault", model_name="third", model_version="1.0")["status"],
        "third" in [one["modelName"] for one in manage("ListModels")["models"]],
        manage("UnregisterModel", model_name="third")["status"],
    ]


def refused():
    try:
        manage("DescribeModel", model_name="third")
    except RuntimeError as error:
        return [line.strip() for line in str(error).splitlines() if "Code" in line or "Message" in line]


def inferred():
    inputs = [
        {"name": "text_input", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [packed(PROMPT)]}},
        {
            "name": "sampling_parameters", "datatype": "BYTES", "shape": [1],
            "contents": {"bytes_contents": [packed(json.dumps({"max_tokens": TOKENS, "temperature": 0}))]},
        },
    ]
    (told,) = messages(grpcurl(INFERENCE, f"{OIP}/ModelInfer", message={"model_name": "story", "inputs": inputs}))
    return base64.b64decode(told["rawOutputContents"][0])[4:].decode()


run({
    "list (reflection)": lambda: [one for one in grpcurl(INFERENCE, "list").split() if one.startswith("org.")],
    "describe (reflection)": lambda: "rpc Predictions" in grpcurl(INFERENCE, "describe", PREDICTIONS),
    "Ping": lambda: json.loads(messages(grpcurl(INFERENCE, f"{PREDICTIONS}/Ping"))[0]["health"])["status"],
    "Predictions of a handler": lambda: predicted("mood", "a good day")["joy"],
    "Predictions of a language model": lambda: predicted("story", ASKED)["generated_text"],
    "StreamPredictions": streamed,
    "RegisterModel, ScaleWorker, DescribeModel (customized), SetDefault, ListModels, UnregisterModel": managed,
    "DescribeModel of none": refused,
    "Open Inference Protocol: ModelInfer": inferred,
})
