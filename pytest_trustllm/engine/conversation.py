"""One sample that takes several answers: the user's turns, a simulated user, calls of tools.

A conversation only sends requests and waits for their responses, so the requests of all samples are batched, stored and
counted like any other. Every request holds the whole chat: a run that resumes finds the answers of the turns that were
given, and sends the rest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pytest_trustllm.suites.talks import Simulator, Talk, said_by_simulator, simulator_messages, user_turn
from pytest_trustllm.suites.task import Task
from pytest_trustllm.suites.toolbox import NoResult, ToolRaised
from pytest_trustllm.types import Generation, Messages, Request, Response, Role, Sample, ToolCall

Ask = Callable[[Role | None, Request], Awaitable[Response]]
"""Sends a request to a role, or to the model under test (None)."""
UseTool = Callable[[ToolCall], Awaitable[str]]
SeedOf = Callable[[int], int]
"""Number of a request of the conversation -> its seed."""
SIMULATED = Generation(max_new_tokens=512)
"""How a simulated user writes: greedy, so that equal conversations go on in the same way."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response of the model under test, and where it is in the conversation.

    Attributes:
        at: Number of the messages before it.
        response: The response.
    """

    at: int
    response: Response


@dataclass(slots=True)
class Conversation:
    """What was said so far.

    Attributes:
        messages: All messages, of all sides.
        replies: The model's, in order; with tools, a turn may have several.
        turns: Those replies that end the model's turns: they are what can be scored.
        simulated: What the simulator's model returned.
        broken: Why it broke off other than by a reply without an answer; None: it did not.
        raised: The project's own code broke it off.
    """

    messages: Messages
    replies: list[Reply] = field(default_factory=list)
    turns: list[Reply] = field(default_factory=list)
    simulated: list[Response] = field(default_factory=list)
    broken: str | None = None
    raised: bool = False

    @property
    def answers(self) -> list[str]:
        """The model's answers, one per turn."""
        return [turn.response.text or "" for turn in self.turns]

    def before(self, reply: Reply) -> Messages:
        """Return what the model had been sent when it gave a reply."""
        return self.messages[: reply.at]


class Dialogue:
    """Leads the conversation of one sample.

    Args:
        task: The task that it belongs to.
        sample: What it begins with.
        epoch: Number of earlier conversations about the sample.
        seed_of: Seeds of its requests.
        ask: Sends them.
        use_tool: Returns what a tool returns.
    """

    def __init__(self, task: Task, sample: Sample, epoch: int, seed_of: SeedOf, ask: Ask, use_tool: UseTool) -> None:
        self._task = task
        self._sample = sample
        self._epoch = epoch
        self._seed_of = seed_of
        self._ask = ask
        self._use_tool = use_tool
        self.conversation = Conversation(sample.prompts[0])

    async def run(self) -> Conversation:
        """Send everything, and return what was said.

        Raises:
            SuiteError: A template of a turn cannot be rendered.
        """
        talk = self._task.talk or Talk()
        if talk.simulator is not None:
            await self._simulated(talk.simulator)
            return self.conversation
        is_open = await self._turn()
        for template in talk.turns[1:]:
            if not is_open:
                break
            self._add(("user", user_turn(template, self._sample, self.conversation.answers)))
            is_open = await self._turn()
        return self.conversation

    def _add(self, *messages: tuple[str, str]) -> None:
        self.conversation.messages += messages

    async def _simulated(self, simulator: Simulator) -> None:
        messages = self.conversation.messages
        user_is_next = not messages or messages[-1][0] != "user"
        if user_is_next and not await self._user_speaks(simulator):
            return
        while await self._turn() and len(self.conversation.turns) < simulator.max_turns:
            if not await self._user_speaks(simulator):
                return

    async def _user_speaks(self, simulator: Simulator) -> bool:
        """Let the simulator write the user's next turn; return whether it did."""
        conversation = self.conversation
        messages = simulator_messages(simulator, self._sample, conversation.messages)
        # The epoch is part of it: in every repetition the user may say something else
        reply = await self._ask("simulator", Request(messages, SIMULATED, epoch=self._epoch))
        conversation.simulated.append(reply)
        if reply.error is not None or reply.unanswered is not None:
            conversation.broken = f"the simulator did not answer: {reply.error or reply.unanswered}"
            return False
        text = said_by_simulator(reply.text)
        if text is None:
            if not conversation.turns:
                conversation.broken = "the simulator ended the conversation before the first answer"
            return False
        self._add(("user", text))
        return True

    async def _turn(self) -> bool:
        """Let the model answer, with the results of the tools that it calls; return whether it did."""
        toolbox = self._task.toolbox
        rounds = 0
        while True:
            reply = await self._answer()
            if reply.is_blank or reply.error is not None or reply.unanswered is not None:
                self.conversation.turns.append(self.conversation.replies[-1])
                return False
            self._add(*reply.said)
            if not reply.calls:
                self.conversation.turns.append(self.conversation.replies[-1])
                return True
            if toolbox is None or rounds == toolbox.rounds:
                # Calls that nobody answers: what follows would not be a chat that a model accepts
                self.conversation.turns.append(self.conversation.replies[-1])
                return False
            rounds += 1
            if not await self._use_tools(reply.calls):
                self.conversation.turns.append(self.conversation.replies[-1])
                return False

    async def _answer(self) -> Response:
        """Send the chat to the model and return its reply."""
        conversation = self.conversation
        number = len(conversation.replies)
        request = Request(
            conversation.messages,
            self._task.generation,
            self._seed_of(number),
            self._sample.origins[0] if number == 0 else None,
            epoch=self._epoch,
            tools=() if self._task.toolbox is None else self._task.toolbox.tools,
        )
        reply = await self._ask(None, request)
        conversation.replies.append(Reply(len(conversation.messages), reply))
        return reply

    async def _use_tools(self, calls: tuple[ToolCall, ...]) -> bool:
        """Add the results of calls; return whether all of them have one."""
        for call in calls:
            try:
                result = await self._use_tool(call)
            except NoResult as e:
                self.conversation.broken = str(e)
                return False
            except ToolRaised as e:
                self.conversation.broken = str(e)
                self.conversation.raised = True
                return False
            self._add(("tool", result))
        return True
