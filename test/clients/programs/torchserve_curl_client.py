"""TorchServe's documented calls, by curl as the documentation has them."""

import json
import os
import subprocess
import tempfile

from common import GIVEN, PROMPT, TOKENS, run

ADDRESS = GIVEN["torchserve"]
INFERENCE, MANAGEMENT, METRICS = (ADDRESS[key] for key in ("inference", "management", "metrics"))
FOLDER = tempfile.mkdtemp()


def file(name, text):
    path = os.path.join(FOLDER, name)
    with open(path, "w") as out:
        out.write(text)
    return path


TEXT = file("kitten.txt", "a good day")
BODY = file("body.json", json.dumps({"inputs": PROMPT, "parameters": {"max_new_tokens": TOKENS}}))
INSTANCES = file("instances.json", json.dumps({"instances": [{"data": "a good day"}, {"data": "bad"}]}))


def curl(*arguments):
    told = subprocess.run(["curl", "-sS", *arguments], check=True, capture_output=True, text=True).stdout
    try:
        return json.loads(told)
    except ValueError:
        return told


def status(*arguments):
    return curl(*arguments)["status"]


def importances():
    told = curl("-X", "POST", f"{INFERENCE}/explanations/mood?method=occlusion", "-T", TEXT)
    return told["importances"]


def managed():
    """What the documentation does with a model, in its order."""
    models = f"{MANAGEMENT}/models"
    return [
        status("-X", "POST", f"{models}?url=mood-2.0.mar"),
        status("-X", "PUT", f"{models}/mood/2.0?min_worker=1&synchronous=true"),
        [one["modelVersion"] for one in curl(f"{models}/mood/all")],
        json.loads(curl(f"{models}/mood/2.0?customized=true")[0]["customizedMetadata"]),
        status("-X", "PUT", f"{models}/mood/2.0/set-default"),
        curl(f"{INFERENCE}/predictions/mood", "-T", TEXT)["version"],
        status("-X", "PUT", f"{models}/mood/1.0/set-default"),
        status("-X", "DELETE", f"{models}/mood/2.0"),
    ]


def metrics():
    told = curl(f"{METRICS}/metrics?name[]=ts_inference_requests_total", "--globoff")
    return sorted({line.split("{")[0] for line in told.splitlines() if line and not line.startswith("#")})


run({
    "ping": lambda: status(f"{INFERENCE}/ping"),
    "API description": lambda: curl("-X", "OPTIONS", INFERENCE)["openapi"],
    "predictions, -T FILE": lambda: curl(f"{INFERENCE}/predictions/mood", "-T", TEXT)["joy"],
    "predictions, -F data=@FILE": lambda: curl("-F", f"data=@{TEXT}", f"{INFERENCE}/predictions/mood")["joy"],
    "predictions of a version": lambda: curl(f"{INFERENCE}/predictions/mood/1.0", "-T", TEXT)["version"],
    "predictions of a language model": lambda: curl(f"{INFERENCE}/predictions/story", "-T", BODY)["generated_text"],
    "explanations": importances,
    "KServe's :predict": lambda: [
        one["joy"] for one in curl(
            "-H", "Content-Type: application/json", "--data", f"@{INSTANCES}", f"{INFERENCE}/v1/models/mood:predict",
        )["predictions"]
    ],
    "models": lambda: [one["modelName"] for one in curl(f"{MANAGEMENT}/models")["models"]],
    "register, scale, describe (customized), set-default, unregister": managed,
    "metrics by name": metrics,
})
