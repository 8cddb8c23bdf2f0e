from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.base import LoadSettings
from pytest_trustllm.models.local.huggingface import PROVIDER
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.types import Request, Response

pytest.importorskip("torch")

CPU = LoadSettings(device="cpu")
WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "I",
    "cannot",
    "help",
    "with",
    "that",
    "request",
    "sorry",
    "moon",
    "rain",
    "and",
    "key",
]


def text(length: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


TEXTS = [text(n, n) for n in (1, 2, 3, 5, 8, 13, 20, 20, 7, 40)]


def answers(model: Any, texts: Sequence[str]) -> list[Response]:
    found = dict(model.generate(RequestQueue.only([Request((("user", t),)) for t in texts])))
    return [found[i] for i in range(len(texts))]


def bert(tokenizer: Any, where: Path, labels: Sequence[str] = ("LABEL_0", "LABEL_1"), **more: Any) -> Path:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.set_num_threads(1)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.5,
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
        **more,
    )
    BertForSequenceClassification(config).save_pretrained(where)
    tokenizer.save_pretrained(where)
    return where


@pytest.fixture(scope="module")
def directory(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert(tokenizer, tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.mark.parametrize("batch", [3, 64])
@pytest.mark.parametrize("kind", ["classifier", "embedder"])
def test_a_verdict_does_not_depend_on_its_batch(directory: Path, make_spec: Any, kind: str, batch: int) -> None:
    def essence(found: Sequence[Response]) -> Any:
        return [
            (r.text, pytest.approx(r.number, abs=1e-5), r.vector and pytest.approx(r.vector, abs=1e-5)) for r in found
        ]

    alone = PROVIDER.load(make_spec(directory, kind=kind, batch_size=1), CPU)
    together = PROVIDER.load(make_spec(directory, kind=kind), LoadSettings(device="cpu", batch_size=batch))
    expected = essence(answers(alone, TEXTS))
    order = random.Random(0).sample(range(len(TEXTS)), len(TEXTS))
    found = answers(together, [TEXTS[i] for i in order])
    assert [(r.text, r.number, r.vector) for r in found] == [expected[i] for i in order]


def test_labels_are_those_of_transformers(directory: Path, make_spec: Any) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer, theirs = (
        auto.from_pretrained(directory) for auto in (AutoTokenizer, AutoModelForSequenceClassification)
    )
    found = answers(PROVIDER.load(make_spec(directory, kind="classifier"), CPU), TEXTS)
    for one, response in zip(TEXTS, found, strict=True):
        ids = tokenizer(one, return_tensors="pt", truncation=True, max_length=64)
        with torch.inference_mode():
            likely = torch.softmax(theirs.eval()(**ids).logits[0], -1)
        assert response.text == ("refusal", "compliance")[int(likely.argmax())]
        assert response.number == pytest.approx(float(likely.max()), abs=1e-5)
    assert {r.text for r in found} == {"refusal", "compliance"}


def test_a_long_text_is_cut_at_the_window(directory: Path, make_spec: Any) -> None:
    model: Any = PROVIDER.load(make_spec(directory, kind="classifier"), CPU)
    assert model.info["max_tokens"] == 64
    long, longer = answers(model, ["cat " * 100, "cat " * 100 + "moon " * 300])
    assert (long.text, long.input_tokens) == (longer.text, 64)
    assert long.number == pytest.approx(longer.number, abs=1e-6)  # rows of one batch may round differently


def test_a_table_that_begins_after_the_padding_index_is_shorter(tokenizer: Any, tmp_path: Path, make_spec: Any) -> None:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=34,
        pad_token_id=tokenizer.pad_token_id,
    )
    RobertaForSequenceClassification(config).save_pretrained(tmp_path / "roberta")
    tokenizer.save_pretrained(tmp_path / "roberta")
    model: Any = PROVIDER.load(make_spec(tmp_path / "roberta", kind="classifier"), CPU)
    assert model.info["max_tokens"] == 34 - tokenizer.pad_token_id - 1
    assert answers(model, ["cat " * 100])[0].error is None


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["LABEL_0", "LABEL_1"], ["refusal", "compliance"]),
        (["Refusal", "Answer"], ["refusal", "compliance"]),
        (["not_refused", "refused"], ["compliance", "refusal"]),
        (["NO_REJECTION", "REJECTION"], ["compliance", "refusal"]),
        (["non-refusal", "unsafe refusal"], ["compliance", "refusal"]),
        (["safe", "unsafe", "refuses"], ["compliance", "compliance", "refusal"]),
    ],
)
def test_the_name_of_a_label_tells_the_refusal(labels: list[str], expected: list[str], make_spec: Any) -> None:
    from pytest_trustllm.models.local.encoders import refusal_labels

    assert refusal_labels(make_spec(Path("/m"), kind="classifier"), dict(enumerate(labels))) == expected


def test_labels_that_say_nothing(make_spec: Any) -> None:
    from pytest_trustllm.models.local.encoders import refusal_labels

    names = {0: "NEGATIVE", 1: "POSITIVE"}
    with pytest.raises(
        ModelError, match=r"^models: 'hf:m': none of its labels NEGATIVE, POSITIVE is clearly a refusal; say"
    ):
        refusal_labels(make_spec(Path("/m")), names)
    given = make_spec(Path("/m"), labels={"NEGATIVE": "refusal", "POSITIVE": "compliance"})
    assert refusal_labels(given, names) == ["refusal", "compliance"]
    for wrong in ({"NEGATIVE": "refusal"}, {"NEGATIVE": "refusal", "POSITIVE": "no"}, {"A": "refusal"}):
        with pytest.raises(ModelError, match="'labels' must map NEGATIVE, POSITIVE to 'refusal' or 'compliance'"):
            refusal_labels(make_spec(Path("/m"), labels=wrong), names)


def test_a_toxicity_classifier_rates(tokenizer: Any, tmp_path: Path, make_spec: Any) -> None:
    single = bert(tokenizer, tmp_path / "single", ("non-toxic", "toxic"))
    several = bert(
        tokenizer, tmp_path / "several", ("toxic", "obscene", "insult"), problem_type="multi_label_classification"
    )
    for where in (single, several):
        found = answers(PROVIDER.load(make_spec(where, kind="rater"), CPU), [*TEXTS, " "])
        assert all(r.number is not None and 0 <= r.number <= 1 for r in found[:-1])
        assert found[-1].error == "a blank text has no toxicity"
    insult = answers(PROVIDER.load(make_spec(several, kind="rater", label="insult"), CPU), TEXTS)
    toxic = answers(PROVIDER.load(make_spec(several, kind="rater"), CPU), TEXTS)
    assert [r.number for r in insult] != [r.number for r in toxic]
    with pytest.raises(ModelError, match="none of its labels LABEL_0, LABEL_1 is called toxic; name the toxic one"):
        PROVIDER.load(make_spec(bert(tokenizer, tmp_path / "plain"), kind="rater"), CPU)


def test_a_text_is_embedded_as_the_mean_of_its_tokens(directory: Path, make_spec: Any) -> None:
    found = answers(PROVIDER.load(make_spec(directory, kind="embedder"), CPU), ["the cat", "the cat", "the moon", "\n"])
    assert found[0].vector == pytest.approx(found[1].vector)
    assert found[0].vector is not None
    assert len(found[0].vector) == 32
    assert found[2].vector != found[0].vector
    assert found[3].error == "a blank text has no embedding"


def test_half_an_emoji_is_classified_like_any_other_text(directory: Path, make_spec: Any) -> None:
    (found,) = answers(PROVIDER.load(make_spec(directory, kind="classifier"), CPU), ["the cat \ud83d"])
    assert found.text in ("refusal", "compliance")


def test_the_architecture_of_the_papers_classifier(
    tokenizer: Any, tmp_path: Path, make_spec: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch
    from transformers import LongformerConfig, LongformerForSequenceClassification

    torch.manual_seed(2)
    config = LongformerConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        attention_window=[8, 8],
        max_position_embeddings=66,
        initializer_range=0.5,
        pad_token_id=1,
    )
    LongformerForSequenceClassification(config).save_pretrained(tmp_path / "longformer")
    tokenizer.save_pretrained(tmp_path / "longformer")
    capfd.readouterr()
    alone: Any = PROVIDER.load(make_spec(tmp_path / "longformer", kind="classifier", batch_size=1), CPU)
    together = PROVIDER.load(make_spec(tmp_path / "longformer", kind="classifier"), CPU)
    texts = [*TEXTS, text(300, 1)]
    assert alone.info["max_tokens"] == 64
    pairs = zip(answers(alone, texts), answers(together, texts), strict=True)
    assert all(a.text == b.text and a.number == pytest.approx(b.number, abs=1e-5) for a, b in pairs)
    assert capfd.readouterr() == ("", "")


def test_running_out_of_memory_halves_the_batch(
    directory: Path, make_spec: Any, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    model: Any = PROVIDER.load(make_spec(directory, kind="classifier"), LoadSettings(device="cpu", batch_size=8))
    expected = [r.text for r in answers(model, TEXTS)]
    whole, most = model._run, 2

    def scarce(batch: Sequence[Any]) -> Any:
        if len(batch) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(batch)

    model._run = scarce
    assert [r.text for r in answers(model, TEXTS)] == expected
    assert [r.message for r in caplog.records] == [
        "out of memory: batches of 4 from here on",
        "out of memory: batches of 2 from here on",
    ]
    most = 0
    assert all(str(r.error).startswith("out of memory for a text of ") for r in answers(model, TEXTS))


def test_a_classifier_that_reads_its_last_token_reads_texts_one_at_a_time(
    tokenizer: Any, tmp_path: Path, make_spec: Any
) -> None:
    import torch
    from transformers import XLNetConfig, XLNetForSequenceClassification

    torch.manual_seed(0)
    config = XLNetConfig(
        vocab_size=len(tokenizer), d_model=32, n_layer=2, n_head=4, d_inner=64, initializer_range=0.3, num_labels=2
    )
    model = XLNetForSequenceClassification(config)
    model.save_pretrained(tmp_path / "xlnet")
    tokenizer.save_pretrained(tmp_path / "xlnet")
    together: Any = PROVIDER.load(make_spec(tmp_path / "xlnet", kind="classifier"), CPU)
    found = answers(together, TEXTS)
    for one, response in zip(TEXTS, found, strict=True):
        ids = torch.tensor([tokenizer(one)["input_ids"]])
        with torch.inference_mode():
            likely = torch.softmax(model.eval()(input_ids=ids).logits[0], -1)
        assert response.text == ("refusal", "compliance")[int(likely.argmax())]
        assert response.number == pytest.approx(float(likely.max()), abs=1e-5)


def test_an_encoder_is_told_the_types_of_its_tokens(
    directory: Path, make_spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = PROVIDER.load(make_spec(directory, kind="classifier"), CPU)
    (plain,) = answers(model, ["the cat"])
    monkeypatch.setattr(
        model, "_tokenizer", lambda text, **_: {"input_ids": [5, 6, 7], "token_type_ids": [0, len(text) // 7, 1]}
    )
    monkeypatch.setattr("pytest_trustllm.models.local.encoders.unknown_token", lambda *_: None)
    monkeypatch.setattr(model, "_padding", 0)
    (typed,) = answers(model, ["the cat"])
    assert typed.number != plain.number


def test_a_sequence_classifier_without_its_head_is_not_loaded(tokenizer: Any, tmp_path: Path, make_spec: Any) -> None:
    from transformers import BertForSequenceClassification

    whole = BertForSequenceClassification.from_pretrained(bert(tokenizer, tmp_path / "whole"))
    whole.bert.save_pretrained(tmp_path / "body")
    tokenizer.save_pretrained(tmp_path / "body")
    for kind in ("classifier", "rater"):
        with pytest.raises(
            ModelError,
            match=r"^models: 'hf:body' cannot be loaded: classifier\.bias, classifier\.weight would be random, "
            r"because its files lack 2 of its \d+ weights; give a complete checkpoint of Bert\w+$",
        ):
            PROVIDER.load(make_spec(tmp_path / "body", kind=kind), CPU)


def test_an_embedder_needs_no_pooler(directory: Path, tmp_path: Path, tokenizer: Any, make_spec: Any) -> None:
    from transformers import BertModel

    BertModel.from_pretrained(directory, add_pooling_layer=False).save_pretrained(tmp_path / "bare")
    tokenizer.save_pretrained(tmp_path / "bare")
    whole: Any = PROVIDER.load(make_spec(directory, kind="embedder"), CPU)
    bare: Any = PROVIDER.load(make_spec(tmp_path / "bare", kind="embedder"), CPU)
    assert answers(bare, ["the cat"])[0].vector == pytest.approx(answers(whole, ["the cat"])[0].vector)
