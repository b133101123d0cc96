from common import PROMPT, TOKENS, URL, run
from text_generation import Client

client = Client(URL, timeout=60)

run({
    "generate": lambda: client.generate(PROMPT, max_new_tokens=TOKENS).generated_text,
    "generate_stream": lambda: "".join(
        r.token.text for r in client.generate_stream(PROMPT, max_new_tokens=TOKENS) if not r.token.special
    ),
    "generate with details": lambda: client.generate(
        PROMPT, max_new_tokens=TOKENS, decoder_input_details=True
    ).details.generated_tokens,
})
