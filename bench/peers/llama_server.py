"""llama.cpp's own HTTP server, from its wheel, as a peer for `shardserve tune --url`.

    pip install xllamacpp==2026.10.11549                                     # llama.cpp's server and its library, prebuilt for CPUs
    python bench/peers/llama_server.py MODEL.gguf [--port 8081] [--threads 2] [--slots 16] [--context 256]

In    a GGUF file; slots that answer at once, positions of each
Out   its address on standard output; /v1/completions and the rest of its API, until it is ended
Why   node-llama-cpp's package has llama.cpp's library and no server
"""
import argparse
import signal

import xllamacpp as llama


def main():
    options = argparse.ArgumentParser()
    options.add_argument("model")
    for name, default in (("port", 8081), ("threads", 2), ("slots", 16), ("context", 256)):
        options.add_argument(f"--{name}", type=int, default=default)
    given = options.parse_args()
    params = llama.CommonParams()
    params.model.path = given.model
    params.hostnames = ["127.0.0.1"]
    params.port = given.port
    params.n_parallel = given.slots
    params.n_ctx = given.slots * given.context
    params.cpuparams.n_threads = given.threads
    params.cpuparams_batch.n_threads = given.threads
    server = llama.Server(params)
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


main()
