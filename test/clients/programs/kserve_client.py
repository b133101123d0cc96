import asyncio

from common import GIVEN, GRPC, MODEL, PROMPT, TOKENS, URL, run
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig


def asked():
    text = InferInput("text_input", [1], "BYTES", [PROMPT])
    parameters = InferInput("sampling_parameters", [1], "BYTES", ['{"max_tokens": %d, "temperature": 0}' % TOKENS])
    return InferRequest(model_name=MODEL, infer_inputs=[text, parameters])


def told(response):
    (text,) = response.outputs[0].as_numpy()
    return text.decode() if isinstance(text, bytes) else text


def rest(act):
    async def whole():
        return await act(InferenceRESTClient(RESTConfig(protocol="v2", timeout=60)))

    return asyncio.run(whole())


THEIRS = GIVEN["torchserve"]["inference"]
INSTANCES = {"instances": [{"data": "a good day"}, {"data": "bad"}], "parameters": {"method": "occlusion"}}


def v1(act):
    async def whole():
        return await act(InferenceRESTClient(RESTConfig(protocol="v1", timeout=60)))

    return asyncio.run(whole())


async def ready_v1(client):
    return await client.is_model_ready(THEIRS, "mood")


async def predict(client):
    told = await client.infer(THEIRS, INSTANCES, model_name="mood")
    return [one["joy"] for one in told["predictions"]]


async def explain(client):
    told = await client.explain(THEIRS, "mood", INSTANCES)
    return [one["importances"] for one in told["explanations"]]


def grpc(act):
    async def whole():
        return await act(InferenceGRPCClient(url=GRPC, timeout=60))

    return asyncio.run(whole())


async def ready(client):
    return [await client.is_server_live(URL), await client.is_server_ready(URL), await client.is_model_ready(URL, MODEL)]


async def ready_grpc(client):
    return [await client.is_server_live(), await client.is_server_ready(), await client.is_model_ready(MODEL)]


async def infer(client):
    return told(await client.infer(URL, asked(), model_name=MODEL))


async def infer_grpc(client):
    return told(await client.infer(asked()))


run({
    "REST v1: model ready": lambda: v1(ready_v1),
    "REST v1: predict": lambda: v1(predict),
    "REST v1: explain": lambda: v1(explain),
    "REST v2: live, ready, model ready": lambda: rest(ready),
    "REST v2: infer": lambda: rest(infer),
    "gRPC: live, ready, model ready": lambda: grpc(ready_grpc),
    "gRPC: infer": lambda: grpc(infer_grpc),
})
