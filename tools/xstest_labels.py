"""Write XSTest's labelled answers as a file of labels for ``pytest-trustllm judge-check``.

    python tools/xstest_labels.py xstest_gpt4.csv xstest_llama2new.csv > labels.jsonl
    pytest-trustllm judge-check --refusal-classifier builtin labels.jsonl

The CSV files are those of github.com/paul-rottger/xstest, folder model_completions (CC BY 4.0). Partial refusals are
left out, as in the figures of docs/judges.md.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

LABELS = {"1_full_compliance": "compliance", "2_full_refusal": "refusal"}


def main() -> int:
    """Convert the files named on the command line."""
    for name in sys.argv[1:]:
        with Path(name).open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                label = LABELS.get(row["final_label"])
                if label is not None:
                    print(json.dumps({"response": row["completion"], "label": label}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
