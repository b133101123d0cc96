from common import MODEL, PARAMETERS, PROMPT, TOKENS, URL, run
from langchain_openai import ChatOpenAI

model = ChatOpenAI(model=MODEL, base_url=f"{URL}/v1", api_key="none", temperature=0, max_tokens=TOKENS)
long = ChatOpenAI(model=MODEL, base_url=f"{URL}/v1", api_key="none", temperature=0, max_tokens=300)
TOOL = dict(type="function", function=dict(name="get_weather", description="The weather", parameters=PARAMETERS))
SCHEMA = dict(title="weather", description="The weather", **PARAMETERS)

run({
    "invoke": lambda: model.invoke(PROMPT).content,
    "stream": lambda: "".join(p.content for p in model.stream(PROMPT)),
    "bind_tools": lambda: long.bind_tools([TOOL], tool_choice="get_weather", parallel_tool_calls=False)
    .invoke(PROMPT).tool_calls[0]["args"],
    "with_structured_output": lambda: long.with_structured_output(SCHEMA, method="json_schema").invoke(PROMPT),
})
