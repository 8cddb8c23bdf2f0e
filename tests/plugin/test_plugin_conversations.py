"""Conversations: the user's turns with the model's own answers between them, from YAML to the report."""

from __future__ import annotations

import glob
import json

import pytest
from user_project import Project, statuses

APP = """
def answer(chat):
    with open("calls.txt", "a") as file:
        print(len(chat) if isinstance(chat, list) else 1, file=file)
    said = chat if isinstance(chat, str) else chat[-1]["content"]
    if "silent" in said:
        return None
    if "boom" in said:
        raise RuntimeError("boom")
    return f"<{said}>"
"""
WORD = """
from dataclasses import dataclass
from typing import ClassVar
from pytest_trustllm import Score

@dataclass(frozen=True)
class Says:
    word: str = "good"
    roles: ClassVar = ()

    def score(self, sample, replies):
        [reply] = replies
        if not reply.text:
            return Score.none("no response")
        if "mumble" in reply.text:
            return Score.none("cannot be read")
        right = self.word in reply.text
        return Score(float(right), right, answer=f"{len(sample.prompts[0])} before {reply.text}")

def pytest_trustllm_register(registry):
    registry.scorers.add("says", Says)
"""
ROWS = """        - {topic: cats, word: good}
        - {topic: "{{ 7 * 7 }}", word: bad}"""
TASK = """
dimension: safety
tasks:
  - name: talk
    data:
      samples:
        - {topic: cats, word: good}
        - {topic: "{{ 7 * 7 }}", word: bad}
    messages:
      - {role: system, content: "You like {{ topic }}."}
    turns:
      - "Tell me about {{ topic }}."
      - "You said: {{ answers[0] }} Is it {{ word }}?"
      - "And {{ answers|length }} answers later: {{ answers[-1] }}"
    scorer: says
    metrics: [accuracy]
"""


@pytest.fixture
def talks(project: Project) -> Project:
    project.write("app.py", APP)
    project.write("conftest.py", WORD)
    project.write("suites/mine.yaml", TASK)
    return project


def one_task(turns: list[str], **more: str) -> str:
    keys = "".join(f"    {key}: {value}\n" for key, value in more.items())
    return (
        "dimension: safety\ntasks:\n  - name: talk\n    data: {samples: [{a: one}]}\n"
        f"    turns: {json.dumps(turns)}\n    scorer: says\n    metrics: [accuracy]\n{keys}"
    )


def simulating(simulator: str) -> str:
    return one_task([], simulator=simulator).replace("    turns: []\n", "")


def test_the_model_sees_its_own_answers_and_they_are_never_rendered(talks: Project, mode: tuple[str, ...]) -> None:
    result = talks.run("--trust-report=r.html", *mode)
    assert statuses(result) == {"passed": 1, "missed": 1}
    cats, hostile = talks.lines()
    first = "<Tell me about cats.>"
    second = f"You said: {first} Is it good?"
    assert cats["prompts"] == [[["system", "You like cats."], ["user", "Tell me about cats."]]]
    assert cats["talks"] == [
        [
            ["system", "You like cats."],
            ["user", "Tell me about cats."],
            ["assistant", first],
            ["user", second],
            ["assistant", f"<{second}>"],
            ["user", f"And 2 answers later: <{second}>"],
            ["assistant", f"<And 2 answers later: <{second}>>"],
        ]
    ]
    assert [response["at"] for response in cats["responses"]] == [2, 4, 6]
    assert cats["answer"].startswith("6 before")
    # a row, or an answer, that looks like a template is text
    assert "{{ 7 * 7 }}" in hostile["talks"][0][3][1]
    assert "49" not in json.dumps(hostile["talks"])
    assert talks.results()["usage"]["requests"] == 6


def test_a_run_resumed_in_the_middle_sends_only_what_is_missing(talks: Project) -> None:
    talks.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\n")
    talks.write("models.yaml", "bot: {provider: python, model: 'app:answer', revision: v1}\n")
    talks.write("suites/mine.yaml", TASK.replace('      - "And', '#      - "And'))
    talks.run(model="bot")
    assert sorted(talks.log()) == ["2", "2", "4", "4"]
    talks.write("suites/mine.yaml", TASK)
    talks.run(model="bot")
    assert sorted(talks.log()) == ["2", "2", "4", "4", "6", "6"]
    usage = talks.results()["usage"]
    assert (usage["requests"], usage["cached"]) == (2, 4)
    before = [line["talks"] for line in talks.lines()]
    talks.run("--trust-offline", model="bot")
    assert [line["talks"] for line in talks.lines()] == before
    assert len(talks.log()) == 6


@pytest.mark.parametrize(
    ("rule", "turns", "status", "answer"),
    [
        ("last", ["good", "bad"], "missed", "3 before <bad>"),
        ("last", ["bad", "good"], "passed", "3 before <good>"),
        ("every", ["good", "good"], "passed", "turn 2 of 2: 3 before <good>"),
        ("every", ["bad", "good"], "missed", "turn 1 of 2: 1 before <bad>"),
        ("any", ["bad", "good", "bad"], "passed", "turn 2 of 3: 3 before <good>"),
        ("any", ["bad", "bad"], "missed", "turn 2 of 2: 3 before <bad>"),
        ("every", ["bad", "mumble"], "missed", "turn 1 of 2: 1 before <bad>"),
        ("any", ["mumble", "good"], "passed", "turn 2 of 2: 3 before <good>"),
        ("every", ["mumble", "good"], "unscored", "turn 1 of 2: cannot be read"),
        ("any", ["bad", "mumble"], "unscored", "turn 2 of 2: cannot be read"),
    ],
)
def test_which_turns_are_scored(talks: Project, rule: str, turns: list[str], status: str, answer: str) -> None:
    talks.write("suites/mine.yaml", one_task(turns, score=rule))
    talks.run()
    (line,) = talks.lines()
    assert (line["status"], line["answer"] or line["reason"]) == (status, answer)


@pytest.mark.parametrize(
    ("word", "status", "reason"), [("silent", "unscored", "no response"), ("boom", "error", "*boom*")]
)
def test_a_turn_without_an_answer_ends_the_talk(talks: Project, word: str, status: str, reason: str) -> None:
    talks.write("suites/mine.yaml", one_task(["good", word, "good"], score="any"))
    talks.run("-v")
    (line,) = talks.lines()
    assert line["status"] == status
    assert reason.strip("*") in line["reason"]
    assert [role for role, _ in line["talks"][0]] == ["user", "assistant", "user"]
    assert len(line["responses"]) == 2


def test_epochs_have_talks_of_their_own_and_seeds_differ_by_turn(talks: Project) -> None:
    talks.write("suites/mine.yaml", one_task(["good", "{{ answers[0] }}"], generation="{temperature: 1}"))
    talks.write("app.py", APP.replace('return f"<{said}>"', 'import random; return f"good {random.random()}"'))
    talks.run("--trust-epochs=3", "--trust-report=r.html")
    (line,) = talks.lines()
    assert [response["epoch"] for response in line["responses"]] == [0, 0, 1, 1, 2, 2]
    assert len({talk[2][1] for talk in line["talks"]}) == 3
    for talk in line["talks"]:
        assert talk[2][1] == talk[1][1]


def test_a_failure_shows_the_whole_talk(talks: Project) -> None:
    talks.write("suites/mine.yaml", one_task(["good", "bad"]))
    result = talks.run("-v", "--trust-strict")
    result.stdout.fnmatch_lines(["user:     good", "assistant:<good>", "user:     bad", "assistant:<bad>"])


def test_a_samples_file_with_talks_is_a_recording(talks: Project) -> None:
    talks.run()
    before = talks.lines()
    talks.run(model="replay:r.samples.jsonl")
    after = talks.lines()
    assert [line["talks"] for line in after] == [line["talks"] for line in before]
    assert [line["value"] for line in after] == [line["value"] for line in before]


def test_gates_that_are_decided_early_leave_talks_out(talks: Project) -> None:
    rows = "\n".join(f"        - {{topic: t{i}, word: good}}" for i in range(40))
    talks.write("suites/mine.yaml", TASK.replace(ROWS, rows))
    talks.gates("metric: talk.accuracy, at_least: 0.2", more="coverage: {min_scored: 0.1}")
    talks.run("--trust-stop=exact")
    results = talks.results()
    (gate,) = results["gates"]
    assert gate["outcome"] == "passed"
    asked = results["metrics"]["safety/talk.accuracy"]["asked"]
    assert asked < 40
    assert results["usage"]["requests"] == 3 * asked


def test_a_spent_budget_cuts_a_talk_and_the_next_run_completes_it(talks: Project) -> None:
    talks.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\n")
    talks.write("models.yaml", "bot: {provider: python, model: 'app:answer', revision: v1}\n")
    talks.run("--trust-budget=1 tokens", model="bot")
    cut = talks.lines()
    assert all(line.get("cut") for line in cut)
    talks.run(model="bot")
    assert all(len(line["responses"]) == 3 for line in talks.lines())
    assert len(talks.log()) == 6


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (one_task(["a", "{{ answers[1] }}"]), "*tasks[[]0].turns[[]1]: 'answers[[]1]' does not exist: one answer *"),
        (one_task(["{{ answers[-1] }}"]), "*turns[[]0]: 'answers[[]-1]' does not exist: no answer comes before*"),
        (one_task(["a", "{{ b }}"]), "*suites/mine.yaml: safety/talk[[]0000]: turns[[]1]: 'b' is undefined*"),
        (simulating("{goal: '{{ b }}'}"), "*suites/mine.yaml: safety/talk[[]0000]: simulator.goal: 'b' is undefined*"),
        (simulating("{goal: a, stop: '{{ b }}'}"), "*safety/talk[[]0000]: simulator.stop: 'b' is undefined*"),
        (simulating("{goal: a, persona: '{{ b }}'}"), "*safety/talk[[]0000]: simulator.persona: 'b' is undefined*"),
        (simulating("{goal: '{{ answers[0] }}'}"), "*simulator.goal: 'answers' is undefined*"),
        (one_task([]), "*turns: expected at least one turn of the user*"),
        (one_task(["a"], prompt="x"), "*prompt: give either 'prompt' or 'turns'*"),
        (one_task(["a"], transforms="[original, rot13]"), "*transforms: a conversation is not transformed*"),
        (one_task(["a"], score="first"), "*score: 'first' is not accepted*"),
        (one_task(["a"], simulator="{goal: x}"), "*simulator: give either 'turns' or a 'simulator'*"),
        (one_task(["a"], messages="[{role: user, content: x}]"), "*messages: the last message is the user's*"),
        (one_task(["a"], score="any").replace('turns: ["a"]', "prompt: a"), "*score: the task has neither 'turns'*"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anything_is_sent(talks: Project, task: str, message: str) -> None:
    talks.write("suites/mine.yaml", task)
    result = talks.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines([message])
    assert talks.log() == []


def test_own_tests_can_chat(talks: Project) -> None:
    talks.write(
        "tests/test_chat.py",
        """
def test_chat(trust_model):
    chat = trust_model.chat("Be kind.", temperature=1, seed=3)
    assert chat.say("one").text == "<one>"
    assert chat.say("two").text == "<two>"
    assert chat.messages == (("system", "Be kind."), ("user", "one"), ("assistant", "<one>"),
                             ("user", "two"), ("assistant", "<two>"))
    silent = chat.say("silent")
    assert silent.text is None and len(chat.messages) == 5
""",
    )
    result = talks.run("tests")
    assert statuses(result) == {"passed": 1}
    assert talks.log() == ["2", "4", "6"]


MISUSES = {
    "trust_model.chat().say('')": "chat.say(): the text is empty",
    "trust_model.chat().say(5)": "chat.say(): expected a text, found 5",
    "trust_model.chat().results('x')": "chat.results(): the last response calls no tools; write say()",
    "trust_model.chat(['Be kind.'])": "system: expected a text, found ['Be kind.']",
    "trust_model.chat(temperature='hot')": "temperature: expected a number from 0 to 10, found 'hot'",
    "trust_model.chat(max_new_tokens=0)": "max_new_tokens: expected a whole number from 1 on, found 0",
    "trust_model.chat(stop=[1])": "stop: expected a text or a list of texts, found [1]",
    "trust_model.chat(seed='x')": "seed: expected a whole number, found 'x'",
    "trust_model.chat(tools='lookup')": "tools: expected a list, found 'lookup'",
    "trust_model.chat(tools=['lookup'])": "tools[0]: expected a mapping with 'name', found 'lookup'",
    "trust_model.chat(tools=[{'nam': 'x'}])": "tools[0]: unknown key 'nam' (did you mean 'name'?); known: ",
    "trust_model.chat(tools=[{}])": "tools[0]: 'name': expected a text, found None",
    "trust_model.ask(5)": "prompt: expected a text, or a list of messages, found 5",
    "trust_model.ask(['hi'])": "prompt[0]: expected a mapping with 'role' and 'content', found 'hi'",
}


def test_a_mistake_in_an_own_test_is_one_line_there(talks: Project) -> None:
    tests = [f"def test_{number}(trust_model):\n    {code}\n" for number, code in enumerate(MISUSES)]
    talks.write("tests/test_chat.py", "\n".join(tests))
    result = talks.run("tests")
    assert statuses(result) == {"failed": len(MISUSES)}
    for code, message in MISUSES.items():
        result.stdout.fnmatch_lines([f"> *{glob.escape(code)}", f"E *ModelError: {glob.escape(message)}*"])
    # of the plugin's own code nothing is shown
    assert "trust_model.py" not in result.stdout.str()
    assert "call_arguments.py" not in result.stdout.str()
    assert talks.log() == []


# --- a model as the user ----------------------------------------------------------------------------------------------

SIMULATED = """
dimension: safety
tasks:
  - name: talk
    data: {samples: [{goal: a refund, patience: 2}]}
    messages: [{role: system, content: "You are a shop."}]
    simulator:
      goal: "You want {{ goal }}."
      persona: A hurried customer.
      stop: the shop has said yes
      max_turns: 4
    scorer: {name: says, word: "yes"}
    metrics: [accuracy]
"""
USER = """
import json

def user(chat):
    with open("user.txt", "a") as file:
        print(json.dumps(chat), file=file)
    said = [message["content"] for message in chat[1:] if message["role"] == "user"]
    if "yes" in said[-1]:
        return "Thank you.\\n<END OF CONVERSATION>"
    return f"request {len([m for m in chat if m['role'] == 'assistant']) + 1}"

def shop(chat):
    text = chat[-1]["content"]
    return "yes" if text == "request 3" else "no <END OF CONVERSATION>"

def stubborn(chat):
    return "no"

def mute(chat):
    return None
"""


@pytest.fixture
def simulated(talks: Project) -> Project:
    talks.write("app.py", USER)
    talks.write("suites/mine.yaml", SIMULATED)
    return talks


def test_a_model_plays_the_user_until_its_goal_is_reached(simulated: Project, mode: tuple[str, ...]) -> None:
    result = simulated.run("--trust-simulator=python:app:user", *mode, model="python:app:shop")
    assert statuses(result) == {"passed": 1}
    (line,) = simulated.lines()
    said = "no <END OF CONVERSATION>"  # the shop cannot end the conversation
    assert line["talks"] == [
        [
            ["system", "You are a shop."],
            ["user", "request 1"],
            ["assistant", said],
            ["user", "request 2"],
            ["assistant", said],
            ["user", "request 3"],
            ["assistant", "yes"],
        ]
    ]
    first, second, *_ = map(json.loads, simulated.log("user.txt"))
    assert first[0]["role"] == "system"
    for words in ("You want a refund.", "A hurried customer.", "the shop has said yes", "<END OF CONVERSATION>"):
        assert words in first[0]["content"]
    # the sides are exchanged, and the app's system prompt stays its own
    assert second[1:] == [{"role": "assistant", "content": "request 1"}, {"role": "user", "content": said}]
    assert simulated.results()["run"]["roles"]["simulator"]["id"] == "app:user"


def test_a_simulated_talk_ends_after_its_greatest_number_of_turns(simulated: Project) -> None:
    simulated.run("--trust-simulator=python:app:user", model="python:app:stubborn")
    (line,) = simulated.lines()
    assert line["status"] == "missed"
    assert [role for role, _ in line["talks"][0]] == ["system", *["user", "assistant"] * 4]


def test_the_user_may_begin_with_a_prompt_of_the_suite(simulated: Project) -> None:
    task = SIMULATED.replace('messages: [{role: system, content: "You are a shop."}]', 'prompt: "I want {{ goal }}"')
    simulated.write("suites/mine.yaml", task)
    simulated.run("--trust-simulator=python:app:user", model="python:app:stubborn")
    (line,) = simulated.lines()
    assert line["talks"][0][0] == ["user", "I want a refund"]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ((), "no simulator model (--trust-simulator)"),
        (("--trust-simulator=python:app:nobody",), "*has no 'nobody'*"),
        (("--trust-simulator=python:app:mute",), "the simulator ended the conversation before the first answer"),
    ],
)
def test_without_a_user_a_sample_is_unscored(simulated: Project, flags: tuple[str, ...], reason: str) -> None:
    result = simulated.run(*flags, model="python:app:shop")
    assert statuses(result) == {"unscored": 1}
    (line,) = simulated.lines()
    assert reason.strip("*") in line["reason"]
