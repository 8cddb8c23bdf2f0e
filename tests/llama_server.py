"""llama.cpp's own server behind the command line of ``llama-server``, for machines where only its wheel installs.

    python llama_server.py --model FILE --alias NAME --host H --port N [--jinja] [--no-webui] [--threads N]
        [--ctx-size N] [--parallel N]

The key is in LLAMA_API_KEY. The package ``xllamacpp`` contains llama.cpp's C++ server, but not its program.
"""

from __future__ import annotations

import argparse
import os
import threading

import xllamacpp


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("--model", "--alias", "--host"):
        parser.add_argument(name, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ctx-size", type=int, default=4096)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--jinja", action="store_true")
    parser.add_argument("--no-webui", action="store_true")
    arguments = parser.parse_args()
    parameters = xllamacpp.CommonParams()
    parameters.model.path = arguments.model
    parameters.model_alias = {arguments.alias}
    parameters.hostnames = [arguments.host]
    parameters.port = arguments.port
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = arguments.threads
    parameters.n_ctx = arguments.ctx_size
    parameters.n_parallel = arguments.parallel
    parameters.use_jinja = arguments.jinja
    parameters.ui = not arguments.no_webui
    parameters.api_keys = [os.environ["LLAMA_API_KEY"]]
    server = xllamacpp.Server(parameters)
    print("listening on", server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
