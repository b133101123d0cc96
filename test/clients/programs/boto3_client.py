import json

import boto3
from common import GIVEN, PROMPT, TOKENS, run

client = boto3.client(
    "sagemaker-runtime",
    endpoint_url=GIVEN["sagemaker"],
    region_name="us-east-1",
    aws_access_key_id="none",
    aws_secret_access_key="none",
)
BODY = {"inputs": PROMPT, "parameters": {"max_new_tokens": TOKENS}}
ASK = dict(EndpointName="shardserve", ContentType="application/json")


def streamed():
    answer = client.invoke_endpoint_with_response_stream(Body=json.dumps({**BODY, "stream": True}), **ASK)
    lines = b"".join(e["PayloadPart"]["Bytes"] for e in answer["Body"]).decode().splitlines()
    return "".join(json.loads(line)["token"]["text"] for line in lines if line)


run({
    "invoke_endpoint": lambda: json.loads(client.invoke_endpoint(Body=json.dumps(BODY), **ASK)["Body"].read())["generated_text"],
    "invoke_endpoint_with_response_stream": streamed,
})
