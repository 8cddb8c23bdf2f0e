"""What a conversation will cost: its stored answers tell how far it is known, the rest is estimated."""

from __future__ import annotations

from pytest_trustllm.engine.conversation import Dialogue, SeedOf
from pytest_trustllm.engine.engine import Engine
from pytest_trustllm.suites.task import Task
from pytest_trustllm.suites.toolbox import NoResult
from pytest_trustllm.types import Request, Response, Role, Sample, ToolCall, tokens_of


class _Unknown(Exception):
    """A request whose answer is not known yet."""

    def __init__(self, request: Request | None = None) -> None:
        super().__init__()
        self.request = request


async def foresee_conversation(
    task: Task, sample: Sample, epoch: int, seed_of: SeedOf, target: Engine
) -> list[tuple[int, int]]:
    """Return how many tokens each request of a conversation would send, and receive at most.

    Answers that are not known are taken to be as long as they may; how often a model calls tools, nobody can tell, so
    only its answers are counted.

    Args:
        task: The task that it belongs to.
        sample: What it begins with.
        epoch: Number of earlier conversations about the sample.
        seed_of: Seeds of its requests.
        target: The model under test.
    """
    known = 0

    async def recall(role: Role | None, request: Request) -> Response:
        nonlocal known
        response = target.stored(request) if role is None else None
        if response is None:
            raise _Unknown(request if role is None else None)
        known += 1
        return response

    async def recall_tool(call: ToolCall) -> str:
        toolbox = task.toolbox
        if toolbox is None or not toolbox.is_scripted(call, sample):
            raise _Unknown
        return await toolbox.result(call, sample)

    dialogue = Dialogue(task, sample, epoch, seed_of, recall, recall_tool)
    try:
        await dialogue.run()
    except _Unknown as e:
        return [(0, 0)] * known + _estimates(task, dialogue, e.request, target)
    except NoResult:
        pass
    return [(0, 0)] * known


def _estimates(task: Task, dialogue: Dialogue, request: Request | None, target: Engine) -> list[tuple[int, int]]:
    """Return the tokens of the requests that are still to be sent."""
    conversation = dialogue.conversation
    if request is None:  # a simulated user or a tool speaks next
        request = Request(conversation.messages or (("user", ""),), task.generation)
    sent, received = target.foresee(request)
    received = received or request.generation.most_tokens
    most_turns = 1 if task.talk is None else task.talk.most_turns
    templates = () if task.talk is None else task.talk.turns
    estimates = [(sent, received)]
    for number in range(len(conversation.turns) + 1, most_turns):
        sent += received
        if number < len(templates):
            sent += tokens_of(templates[number])
        estimates.append((sent, received))
    return estimates
