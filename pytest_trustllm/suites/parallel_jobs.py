"""Which of how many parallel jobs this is, according to the scheduler or CI service that started it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_trustllm.errors import SuiteError, one_line
from pytest_trustllm.suites.shards import Shard


@dataclass(frozen=True, slots=True)
class _Service:
    """The environment variables in which a service numbers its jobs.

    Attributes:
        name: For people.
        index: Variable with this job's number.
        count: Variable with the number of jobs.
        first: Number of the first job, or the variable that holds it.
        step: Variable with the distance between the numbers of two jobs; None: they are consecutive.
        advice: What to do if the number of jobs is missing.
    """

    name: str
    index: str
    count: str
    first: int | str
    step: str | None = None
    advice: str = ""


_SERVICES = (
    # https://slurm.schedmd.com/job_array.html
    _Service("Slurm", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP"),
    # https://docs.gitlab.com/ci/variables/predefined_variables/
    _Service("GitLab", "CI_NODE_INDEX", "CI_NODE_TOTAL", 1),
    # https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode
    _Service(
        "Kubernetes",
        "JOB_COMPLETION_INDEX",
        "JOB_COMPLETIONS",
        0,
        advice="Kubernetes sets the index only; set JOB_COMPLETIONS in the pod template to the Job's spec.completions",
    ),
    # https://buildkite.com/docs/pipelines/configure/environment-variables
    _Service("Buildkite", "BUILDKITE_PARALLEL_JOB", "BUILDKITE_PARALLEL_JOB_COUNT", 0),
    # https://circleci.com/docs/variables/
    _Service("CircleCI", "CIRCLE_NODE_INDEX", "CIRCLE_NODE_TOTAL", 0),
)


def shard_of_job(environ: Mapping[str, str], flag: str = "--trust-shard") -> Shard:
    """Return the shard of this job.

    A job of one service may itself start in a job of another. If only one of them has several jobs, its numbers count.

    Args:
        environ: The environment variables.
        flag: Name of the option in messages.

    Raises:
        SuiteError: No service numbers this job, a variable is missing or wrong, or two services disagree.
    """
    shards = {service: _shard(service, environ, flag) for service in _SERVICES if environ.get(service.index)}
    if not shards:
        known = ", ".join(f"{service.name} ({service.index})" for service in _SERVICES)
        raise SuiteError(f"{flag}=auto: this is not a numbered job of {known}; write I/N instead, such as 2/4")
    parallel = {service: shard for service, shard in shards.items() if shard.count > 1} or shards
    if len(set(parallel.values())) > 1:
        readings = ", ".join(f"{shard} according to {service.name}" for service, shard in parallel.items())
        raise SuiteError(f"{flag}=auto: this job is {readings}; write I/N instead")
    return next(iter(parallel.values()))


def _shard(service: _Service, environ: Mapping[str, str], flag: str) -> Shard:
    """Return the shard according to one service."""
    index = _number(service, service.index, environ, flag)
    count = _number(service, service.count, environ, flag)
    first = service.first
    if isinstance(first, str):
        first = _number(service, first, environ, flag)
    step = 1
    if service.step is not None and environ.get(service.step):
        step = _number(service, service.step, environ, flag)
    position, rest = divmod(index - first, max(step, 1))
    if rest or not 0 <= position < count:
        last = first + (count - 1) * step
        raise SuiteError(
            f"{flag}=auto: {service.index}={index} is not one of {count} jobs numbered {first} to {last}"
            f"{'' if step == 1 else f' in steps of {step}'}; number the jobs evenly, or write I/N instead"
        )
    return Shard(position + 1, count)


def _number(service: _Service, variable: str, environ: Mapping[str, str], flag: str) -> int:
    text = environ.get(variable, "")
    if not text:
        advice = service.advice or f"{service.name} sets it together with {service.index}"
        raise SuiteError(f"{flag}=auto: {variable} is not set; {advice}")
    if not (text.isascii() and text.isdigit()):
        raise SuiteError(f"{flag}=auto: {variable}: expected a number of at least 0, found {one_line(repr(text), 60)}")
    return int(text)
