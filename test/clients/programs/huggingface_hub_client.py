from common import MESSAGES, MODEL, PARAMETERS, PROMPT, TOKENS, URL, run
from huggingface_hub import InferenceClient

openai_way = InferenceClient(base_url=f"{URL}/v1", api_key="none")
tgi_way = InferenceClient(model=URL)
FORM = dict(type="json_schema", json_schema=dict(name="weather", schema=PARAMETERS))

run({
    "chat_completion": lambda: openai_way.chat_completion(MESSAGES, model=MODEL, max_tokens=TOKENS, temperature=0)
    .choices[0].message.content,
    "chat_completion, streamed": lambda: "".join(
        p.choices[0].delta.content or ""
        for p in openai_way.chat_completion(MESSAGES, model=MODEL, max_tokens=TOKENS, temperature=0, stream=True)
    ),
    "chat_completion of no model by name": lambda: tgi_way.chat_completion(MESSAGES, max_tokens=TOKENS, temperature=0)
    .choices[0].message.content,
    "chat_completion in a JSON schema": lambda: tgi_way.chat_completion(
        MESSAGES, max_tokens=300, temperature=0, response_format=FORM
    ).choices[0].message.content,
    "text_generation": lambda: tgi_way.text_generation(PROMPT, max_new_tokens=TOKENS),
    "text_generation, streamed": lambda: "".join(tgi_way.text_generation(PROMPT, max_new_tokens=TOKENS, stream=True)),
    "text_generation with details": lambda: tgi_way.text_generation(
        PROMPT, max_new_tokens=TOKENS, details=True, decoder_input_details=True
    ).details.generated_tokens,
})
