"""What every client's program does: runs its operations, tells what each gave, as one JSON object on standard output."""

import json
import sys
import traceback

GIVEN = json.loads(sys.argv[1])
URL, GRPC, MODEL, PROMPT, TOKENS = (GIVEN[key] for key in ("url", "grpc", "model", "prompt", "tokens"))
PARAMETERS = GIVEN["parameters"]
MESSAGES = [{"role": "user", "content": PROMPT}]


def run(operations):
    """operations: name -> function; an exception is told by its kind and its last line."""
    told = {}
    for name, operation in operations.items():
        try:
            told[name] = operation()
        except Exception as error:  # a client's own kinds are many
            traceback.print_exc()
            told[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(told))
