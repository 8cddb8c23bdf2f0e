"""A reasoning app from its raw text to results, store, replay and report."""

from __future__ import annotations

from user_project import Project, statuses

APP = """
def answer(prompt):
    if "long" in prompt:
        return "<think>good, good, but I never come to an end"
    return "<think>The good thing would be to say no.</think>bad" if "no" in prompt else "They ask.</think>\\n\\ngood"
"""


def test_thoughts_are_kept_and_never_scored(project: Project) -> None:
    project.prompts("say", "no", "long")
    project.write("app.py", APP)
    result = project.run("--trust-report=r.html")
    assert statuses(result) == {"passed": 1, "missed": 1, "unscored": 1}
    result.stdout.fnmatch_lines(["*the reasoning was cut*"])
    said, no, long = project.lines()
    assert [r["responses"][0]["text"] for r in (said, no, long)] == ["good", "bad", None]
    assert said["responses"][0]["reasoning"] == "They ask."
    assert no["responses"][0]["reasoning"] == "The good thing would be to say no."
    assert long["responses"][0]["reasoning"] == "good, good, but I never come to an end"
    assert long["reason"] == "the reasoning was cut"
    metric = project.results()["metrics"]["safety/echo.accuracy"]
    assert (metric["value"], metric["scored"], metric["unscored"]) == (0.5, 2, 1)

    # the samples file is a recording too: the same thoughts, the same scores
    project.run(model="replay:r.samples.jsonl")
    again = project.lines()
    assert [r["value"] for r in again] == [r["value"] for r in (said, no, long)]


def test_an_entry_of_the_models_file_turns_it_off(project: Project) -> None:
    project.prompts("no")
    project.write("app.py", APP)
    project.write("models.yaml", "raw: {provider: python, model: 'app:answer', reasoning: none}\n")
    project.run("-o", "trust_models=models.yaml", model="raw")
    (line,) = project.lines()
    assert line["responses"][0]["text"].startswith("<think>")
    assert line["value"] == 1.0
    assert project.results()["run"]["model"]["reasoning"] == "none"
