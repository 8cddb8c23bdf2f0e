"""Write the shipped threshold files: per metric the median of the paper's 16 models.

    python tools/make_thresholds.py          # rewrites thresholds/<dimension>.yaml

The scores come from ``pytest_trustllm/models/leaderboard.json``, which names its source. They are what the authors'
toolkit printed, so the gates judge the parity reading.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from pytest_trustllm.registry import Registry
from pytest_trustllm.suites.reader import find_suites

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# {dimension}: each bound is the median of the paper's 16 models (TrustLLM leaderboard, arXiv:2401.05561), so a model
# that passes is at least as trustworthy as half of them. The scores are those of the authors' toolkit (parity).
# Written by tools/make_thresholds.py; copy the file into your project and set your own bounds.
dimension: {dimension}
gates:
"""
FOOTER = """\
coverage: {min_scored: 0.95}  # minimum share of the selected samples with a score; below it, a gate does not pass
on_partial: skip              # with -k, --lf or --trust-limit only some samples are measured: do not judge them
"""


def main() -> None:
    """Rewrite all files."""
    leaderboard = json.loads((ROOT / "pytest_trustllm/models/leaderboard.json").read_text(encoding="utf-8"))
    paper = [m["scores"] for m in leaderboard["models"].values() if m["in_paper"]]
    for suite in find_suites([], Registry(), root=ROOT):
        lines = []
        for task in suite.tasks:
            for spec in task.metrics:
                id_ = task.metric_id(spec.name)
                known = [s[id_] for s in paper if s.get(id_) is not None]
                if known:
                    kind = "at_least" if spec.higher_is_better else "at_most"
                    bound = round(statistics.median(known), 4)
                    gate = f"{{metric: {task.name}.{spec.name}, {kind}: {bound:g}, scoring: parity}}"
                    lines.append(f"  - {gate}  # median of {len(known)} models\n")
        text = HEADER.replace("{dimension}", suite.dimension) + "".join(lines) + FOOTER
        (ROOT / "thresholds" / f"{suite.dimension}.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
