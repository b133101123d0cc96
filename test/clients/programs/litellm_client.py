import litellm
from common import MESSAGES, MODEL, TOKENS, URL, run

litellm.telemetry = False
OPENAI = dict(model=f"openai/{MODEL}", api_base=f"{URL}/v1", api_key="none", messages=MESSAGES, max_tokens=TOKENS, temperature=0)
ANTHROPIC = dict(model=f"anthropic/{MODEL}", api_base=URL, api_key="none", messages=MESSAGES, max_tokens=TOKENS, temperature=0)

run({
    "completion (OpenAI)": lambda: litellm.completion(**OPENAI).choices[0].message.content,
    "completion, streamed": lambda: "".join(
        p.choices[0].delta.content or "" for p in litellm.completion(stream=True, **OPENAI)
    ),
    "completion (Anthropic)": lambda: litellm.completion(**ANTHROPIC).choices[0].message.content,
})
