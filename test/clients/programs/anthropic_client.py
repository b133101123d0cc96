from anthropic import Anthropic
from common import MESSAGES, MODEL, PARAMETERS, TOKENS, URL, run

client = Anthropic(base_url=URL, api_key="none", max_retries=0)
ASK = dict(model=MODEL, messages=MESSAGES, extra_body=dict(temperature=0))
TOOLS = [dict(name="get_weather", input_schema=PARAMETERS)]


def streamed():
    with client.messages.stream(max_tokens=TOKENS, **ASK) as stream:
        return "".join(stream.text_stream)


run({
    "messages": lambda: client.messages.create(max_tokens=TOKENS, **ASK).content[0].text,
    "messages, streamed": streamed,
    "messages with a tool that must be called": lambda: client.messages.create(
        max_tokens=300, tools=TOOLS, tool_choice=dict(type="any", disable_parallel_tool_use=True), **ASK
    ).content[0].input,
    "count_tokens": lambda: client.messages.count_tokens(model=MODEL, messages=MESSAGES).input_tokens > 0,
    "models": lambda: [m.id for m in client.models.list()],
})
