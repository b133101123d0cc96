import json

import boto3
from botocore.exceptions import ClientError
from common import GIVEN, MODEL, PROMPT, TOKENS, run

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


def asked(**more):
    return json.loads(client.invoke_endpoint(Body=json.dumps(BODY), **ASK, **more)["Body"].read())["generated_text"]


def session():
    opened = client.invoke_endpoint(SessionId="NEW_SESSION", Body=json.dumps({"requestType": "NEW_SESSION"}), **ASK)
    own = opened["NewSessionId"].split(";")[0]
    assert json.loads(opened["Body"].read()) == {"result": f"Session {own} created"}
    text = asked(SessionId=own)
    closed = client.invoke_endpoint(SessionId=own, Body=json.dumps({"requestType": "CLOSE"}), **ASK)
    assert closed["ClosedSessionId"] == own
    try:
        asked(SessionId=own)
    except ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 424
        return text
    raise AssertionError("a session that was closed is still open")


run({
    "invoke_endpoint": asked,
    "invoke_endpoint_with_response_stream": streamed,
    "invoke_endpoint of one of many models (TargetModel)": lambda: asked(TargetModel=MODEL),
    "a session: opened, asked, closed, asked no more": session,
})
