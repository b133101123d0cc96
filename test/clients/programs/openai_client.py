from common import MESSAGES, MODEL, PARAMETERS, PROMPT, TOKENS, URL, run
from openai import APIStatusError, OpenAI

client = OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
ASK = dict(model=MODEL, temperature=0)
TOOLS = [dict(type="function", function=dict(name="get_weather", parameters=PARAMETERS))]


def refused():
    try:
        client.completions.create(prompt=PROMPT, extra_body=dict(guided_regex="(a"), **ASK)
    except APIStatusError as error:
        return error.status_code


def streamed_tool():
    pieces = client.chat.completions.create(
        messages=MESSAGES, max_tokens=300, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, stream=True, **ASK
    )
    return "".join(c.function.arguments or "" for p in pieces for c in p.choices[0].delta.tool_calls or [])


def schema():
    form = dict(type="json_schema", json_schema=dict(name="weather", schema=PARAMETERS, strict=True))
    return client.chat.completions.create(messages=MESSAGES, max_tokens=300, response_format=form, **ASK).choices[0].message.content


def allowed():
    other = dict(type="function", function=dict(name="now"))
    only = dict(mode="required", tools=[dict(type="function", function=dict(name="get_weather"))])
    messages = [dict(role="developer", content="Be brief. "), *MESSAGES]
    return client.chat.completions.create(
        messages=messages, max_tokens=300, tools=[*TOOLS, other], parallel_tool_calls=False,
        tool_choice=dict(type="allowed_tools", allowed_tools=only), **ASK
    ).choices[0].message.tool_calls[0].function.arguments


def responses_stream():
    events = client.responses.create(model=MODEL, input=PROMPT, temperature=0, max_output_tokens=TOKENS, stream=True)
    return "".join(e.delta for e in events if e.type == "response.output_text.delta")


run({
    "completions": lambda: client.completions.create(prompt=PROMPT, max_tokens=TOKENS, **ASK).choices[0].text,
    "completions, streamed": lambda: "".join(
        p.choices[0].text for p in client.completions.create(prompt=PROMPT, max_tokens=TOKENS, stream=True, **ASK)
    ),
    "completions with echo and logprobs": lambda: client.completions.create(
        prompt=PROMPT, max_tokens=0, echo=True, logprobs=1, seed=1, **ASK
    ).choices[0].text,
    "chat": lambda: client.chat.completions.create(messages=MESSAGES, max_tokens=TOKENS, **ASK).choices[0].message.content,
    "chat, streamed": lambda: "".join(
        p.choices[0].delta.content or ""
        for p in client.chat.completions.create(messages=MESSAGES, max_tokens=TOKENS, stream=True, **ASK)
        if p.choices
    ),
    "chat with a tool that must be called": lambda: client.chat.completions.create(
        messages=MESSAGES, max_tokens=300, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, **ASK
    ).choices[0].message.tool_calls[0].function.arguments,
    "the same, streamed": streamed_tool,
    "chat in a JSON schema": schema,
    "a developer, and one of two tools that is allowed": allowed,
    "which of two stop texts ended it": lambda: client.completions.create(
        prompt=PROMPT, max_tokens=TOKENS, stop=["@@", " "], **ASK
    ).choices[0].model_extra["stop_reason"],
    "responses": lambda: client.responses.create(
        model=MODEL, input=PROMPT, temperature=0, max_output_tokens=TOKENS
    ).output_text,
    "responses, streamed": responses_stream,
    "models": lambda: [m.id for m in client.models.list().data],
    "an expression that is none": refused,
})
