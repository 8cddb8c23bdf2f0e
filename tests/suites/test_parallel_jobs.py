"""The shard of a job, from the variables of the service that started it."""

from __future__ import annotations

import pytest

from pytest_trustllm.errors import SuiteError
from pytest_trustllm.suites.parallel_jobs import shard_of_job
from pytest_trustllm.suites.shards import Shard

SLURM = {
    "SLURM_ARRAY_TASK_ID": "7",
    "SLURM_ARRAY_TASK_COUNT": "4",
    "SLURM_ARRAY_TASK_MIN": "3",
    "SLURM_ARRAY_TASK_STEP": "2",
}
JOBS = {
    "Slurm": (SLURM, Shard(3, 4)),
    "Slurm without a step": ({**SLURM, "SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_STEP": ""}, Shard(3, 4)),
    "GitLab": ({"CI_NODE_INDEX": "1", "CI_NODE_TOTAL": "3"}, Shard(1, 3)),
    "Kubernetes": ({"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETIONS": "3"}, Shard(3, 3)),
    "Buildkite": ({"BUILDKITE_PARALLEL_JOB": "0", "BUILDKITE_PARALLEL_JOB_COUNT": "2"}, Shard(1, 2)),
    "CircleCI": ({"CIRCLE_NODE_INDEX": "1", "CIRCLE_NODE_TOTAL": "2"}, Shard(2, 2)),
    "a single job": ({"CIRCLE_NODE_INDEX": "0", "CIRCLE_NODE_TOTAL": "1"}, Shard(1, 1)),
    "one job of CircleCI submits an array": (
        {**SLURM, "CIRCLE_NODE_INDEX": "0", "CIRCLE_NODE_TOTAL": "1"},
        Shard(3, 4),
    ),
    "GitLab without parallel": ({**SLURM, "CI_NODE_TOTAL": "1"}, Shard(3, 4)),
}
MISTAKES = {
    "no job": (
        {"HOME": "/root"},
        (
            "this is not a numbered job of Slurm (SLURM_ARRAY_TASK_ID), GitLab (CI_NODE_INDEX), Kubernetes "
            "(JOB_COMPLETION_INDEX), Buildkite (BUILDKITE_PARALLEL_JOB), CircleCI (CIRCLE_NODE_INDEX); "
            "write I/N instead, such as 2/4"
        ),
    ),
    "uneven array": (
        {**SLURM, "SLURM_ARRAY_TASK_ID": "8"},
        (
            "SLURM_ARRAY_TASK_ID=8 is not one of 4 jobs numbered 3 to 9 in steps of 2; "
            "number the jobs evenly, or write I/N instead"
        ),
    ),
    "too high": (
        {"CI_NODE_INDEX": "4", "CI_NODE_TOTAL": "3"},
        "CI_NODE_INDEX=4 is not one of 3 jobs numbered 1 to 3; number the jobs evenly, or write I/N instead",
    ),
    "too low": (
        {"CI_NODE_INDEX": "0", "CI_NODE_TOTAL": "3"},
        "CI_NODE_INDEX=0 is not one of 3 jobs numbered 1 to 3; number the jobs evenly, or write I/N instead",
    ),
    "no count": (
        {"CI_NODE_INDEX": "1"},
        "CI_NODE_TOTAL is not set; GitLab sets it together with CI_NODE_INDEX",
    ),
    "Kubernetes does not tell how many": (
        {"JOB_COMPLETION_INDEX": "1"},
        (
            "JOB_COMPLETIONS is not set; Kubernetes sets the index only; "
            "set JOB_COMPLETIONS in the pod template to the Job's spec.completions"
        ),
    ),
    "no number": (
        {"CI_NODE_INDEX": "one\nof", "CI_NODE_TOTAL": "3"},
        r"CI_NODE_INDEX: expected a number of at least 0, found 'one\nof'",
    ),
    "a digit that int takes and nobody writes": (
        {"CI_NODE_INDEX": "\u0661", "CI_NODE_TOTAL": "3"},
        "CI_NODE_INDEX: expected a number of at least 0, found '\u0661'",
    ),
    "two that disagree": (
        {**SLURM, "CI_NODE_INDEX": "1", "CI_NODE_TOTAL": "3"},
        "this job is 3/4 according to Slurm, 1/3 according to GitLab; write I/N instead",
    ),
}


@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_the_shard_of_its_number(name: str) -> None:
    environ, shard = JOBS[name]
    assert shard_of_job(environ) == shard


@pytest.mark.parametrize("name", MISTAKES)
def test_a_job_whose_number_is_not_clear_is_refused(name: str) -> None:
    environ, message = MISTAKES[name]
    with pytest.raises(SuiteError) as e:
        shard_of_job(environ)
    assert str(e.value) == f"--trust-shard=auto: {message}"
