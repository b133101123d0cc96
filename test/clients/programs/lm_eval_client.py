import json
import urllib.request

from common import GIVEN, MODEL, PROMPT, TOKENS, URL, run
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI

lm = LocalCompletionsAPI(
    base_url=f"{URL}/v1/completions",
    model=MODEL,
    tokenizer=GIVEN["folder"],
    tokenizer_backend="huggingface",
    max_length=512,
    batch_size=1,
    add_bos_token=True,
)


def complete(**body):
    data = json.dumps(dict(model=MODEL, prompt=PROMPT, temperature=0, **body)).encode()
    asked = urllib.request.Request(f"{URL}/v1/completions", data, {"content-type": "application/json"})
    return json.load(urllib.request.urlopen(asked))["choices"][0]


def ask(kind, arguments):
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


def likely():
    """The greedy continuation is greedy, and as likely as its tokens were when they were chosen."""
    choice = complete(max_tokens=TOKENS, logprobs=1)
    ((logprob, greedy),) = lm.loglikelihood([ask("loglikelihood", (PROMPT, choice["text"]))], disable_tqdm=True)
    chosen = sum(choice["logprobs"]["token_logprobs"])
    return [greedy, abs(logprob - chosen) < 1e-3]


def unlikely():
    ((_, greedy),) = lm.loglikelihood([ask("loglikelihood", (PROMPT, " zebra quantum"))], disable_tqdm=True)
    return greedy


def until():
    asked = ask("generate_until", (PROMPT, {"until": ["\n\n\n"], "max_gen_toks": TOKENS, "temperature": 0}))
    (text,) = lm.generate_until([asked], disable_tqdm=True)
    return text


run({
    "loglikelihood of the greedy text (echo and logprobs)": likely,
    "loglikelihood of another text": unlikely,
    "generate_until": until,
})
