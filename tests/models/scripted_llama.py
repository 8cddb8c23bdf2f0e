"""A real Llama with weights by which each word leads to the next, so that it says a given text whatever it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

PLAIN_TEMPLATE = "{% for m in messages %}<user> {{ m['content'] }} {% endfor %}<assistant>"


def save(where: Path, text: str, *, special: Sequence[str] = (), template: str = PLAIN_TEMPLATE) -> Path:
    """Save a model that says ``text``, whose words must all differ, and then ends.

    Args:
        where: The model's directory.
        text: What it says, words separated by blanks.
        special: Words that are special tokens, which decoding may skip.
        template: Chat template; its last word leads to the first word of the text.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = text.split()
    assert len(set(words)) == len(words), "a word leads to one next word"
    chain = [template.split()[-1].rpartition("}")[2], *words, "</s>"]
    vocabulary: dict[str, int] = {}
    for word in ["<pad>", "<s>", "</s>", "<unk>", "<user>", "<assistant>", *chain]:
        vocabulary.setdefault(word, len(vocabulary))

    bare = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    bare.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, additional_special_tokens=list(special), **names)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(where)

    size = 64
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=size,
        intermediate_size=size,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                weights.zero_()  # the last hidden state is the embedding of the last word alone
        directions = torch.nn.functional.normalize(torch.randn(len(vocabulary), size), dim=1)
        model.model.embed_tokens.weight.copy_(directions)
        model.lm_head.weight.zero_()
        for word, following in pairwise(chain):
            model.lm_head.weight[vocabulary[following]] = 5 * directions[vocabulary[word]]
    model.save_pretrained(where)
    return where
