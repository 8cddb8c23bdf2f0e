"""The options that a prompt lists, how a response can name them, and which one is right."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_trustllm.errors import ScorerError, one_line
from pytest_trustllm.scorers.answers import ENDS_CLAUSE, Label, plain_text, whole_words, words_of
from pytest_trustllm.scorers.base import label_of
from pytest_trustllm.types import Sample


def prompt_of(sample: Sample) -> str:
    """Return the contents of the messages that were sent, in order, one a line."""
    return "\n".join(content for _, content in sample.prompts[-1])


# --- the options of a prompt ------------------------------------------------------------------------------------------

# "A." "(A)" "[1]" "a)" "A -": the sign of an option with what is around it. "3.5" is a number, "vitamin-A:" a word.
_MARK = re.compile(r"(?<![A-Za-z0-9'-])([(\[]?)([A-Ja-j]|\d{1,2})([.):\]、](?!\d)|\s-\s)")
_FIRST_SIGNS = ("A", "0", "1")
# A single mark is an initial or the number of an exercise
_FEWEST_OPTIONS = 2


@dataclass(frozen=True, slots=True)
class OptionMark:
    """The beginning of an option, as the prompt writes it.

    Attributes:
        sign: ``A`` or ``1``; letters in capitals.
        style: Whether the sign is a small letter, whether a bracket opens it, and what closes it. All marks of one list
            have one style.
        start: Index of its first character.
        end: Index at which the option's text begins.
        begins_line: Nothing is before it on its line.
    """

    sign: str
    style: tuple[bool, bool, str]
    start: int
    end: int
    begins_line: bool


def options_of(sample: Sample, *, numbered: bool = False) -> dict[str, str]:
    """Return the last list of options in the prompt, sign -> text; empty if the prompt lists no options.

    Args:
        sample: Its prompt is searched.
        numbered: The options have numbers instead of letters.
    """
    prompt = plain_text(prompt_of(sample))
    marks = _last_list(_marks(prompt, numbered=numbered))
    if not marks:
        return {}
    # The text of an option ends where the next one begins
    ends = [mark.start for mark in marks[1:]]
    ends.append(len(prompt))
    options = {}
    for mark, end in zip(marks, ends, strict=True):
        options[mark.sign] = _option_text(prompt[mark.end : end])
    return options


def _marks(prompt: str, *, numbered: bool) -> list[OptionMark]:
    """Return all marks with letters, or all with numbers."""
    marks = []
    for match in _MARK.finditer(prompt):
        mark = _mark(match)
        if mark.sign.isdigit() == numbered:
            marks.append(mark)
    return marks


def _mark(match: re.Match[str]) -> OptionMark:
    opening, sign, closing = match.groups()
    style = (sign.islower(), bool(opening), closing.strip())
    line_start = match.string.rfind("\n", 0, match.start()) + 1
    before = match.string[line_start : match.start()]
    # A Markdown list puts "- " before each option
    begins_line = not before.strip(" -")
    return OptionMark(sign.upper(), style, match.start(), match.end(), begins_line)


def _last_list(marks: Sequence[OptionMark]) -> list[OptionMark]:
    """Return the list that ends last, of several the longest; earlier ones belong to examples.

    Marks inside a line count only if no list begins lines: an option's text may contain "(B)". Its first option may
    follow the question on the same line.
    """
    at_lines = [mark for mark in marks if mark.begins_line or mark.sign in _FIRST_SIGNS]
    lists = _lists(at_lines)
    if not lists:
        lists = _lists(marks)
    if not lists:
        return []
    return max(lists, key=lambda options: (options[-1].start, len(options)))


def _lists(marks: Iterable[OptionMark]) -> list[list[OptionMark]]:
    """Return the lists of options: marks of one style, in order."""
    by_style: dict[tuple[bool, bool, str], list[OptionMark]] = {}
    for mark in marks:
        by_style.setdefault(mark.style, []).append(mark)
    lists = []
    for marks_of_style in by_style.values():
        lists += _runs(marks_of_style)
    return lists


def _runs(marks: Iterable[OptionMark]) -> list[list[OptionMark]]:
    """Return the lists among marks of one style: A, B, C ... or 1, 2, 3 ... (also from 0)."""
    runs: list[list[OptionMark]] = []
    for mark in marks:
        if runs and mark.sign == _following(runs[-1][-1].sign):
            runs[-1].append(mark)
        elif mark.sign in _FIRST_SIGNS:
            runs.append([mark])
    return [run for run in runs if len(run) >= _FEWEST_OPTIONS]


def _following(sign: str) -> str:
    if sign.isdigit():
        return str(int(sign) + 1)
    return chr(ord(sign) + 1)


def _option_text(span: str) -> str:
    """Return an option's text: one line, because the span of the last option extends to the end of the prompt."""
    lines = span.strip().split("\n")
    return lines[0].strip().rstrip(";,").rstrip()


# --- how a response names an option -----------------------------------------------------------------------------------


def lettered(options: Mapping[str, str]) -> list[Label]:
    """Return the labels that a response may name if options have letters."""
    return [_label(letter, _letter_patterns(letter), options) for letter in options]


def numbered(options: Mapping[str, str]) -> list[Label]:
    """Return the labels that a response may name if options have numbers."""
    return [_label(number, (_number_pattern(number),), options) for number in options]


def _label(sign: str, patterns: tuple[str, ...], options: Mapping[str, str]) -> Label:
    """Return the label of an option."""
    words = words_of(options[sign])
    # A word of many sentences ("no doubt"): it answers only where a clause ends
    if words == "no":
        return Label(sign, patterns, texts=(whole_words(words) + ENDS_CLAUSE,))
    # The text "B" of option A would be read wherever a response picks B
    if _is_sign(words, options):
        return Label(sign, patterns)
    return Label(sign, patterns, words=words)


def _is_sign(words: str, options: Mapping[str, str]) -> bool:
    if words.upper() in options:
        return True
    return any(words == sign.lower() for sign in options)


# What can follow the answer "A": before any other word in small letters "A" is an article
_REASON = r"because|since|is|as|would|for|due|and|or|over|rather|instead|seems|sounds|looks|isn't|wasn't|doesn't"
_ANNOUNCING = ("option", "answer", "choice", "letter", "answer:", "answer is")


def _letter_patterns(letter: str) -> tuple[str, ...]:
    """Return the patterns of an option's letter.

    A capital counts wherever it is a word of its own. "A" and "I" before another word are an article and a pronoun. A
    small letter counts in brackets, after "option" and the like, and where it begins the response or is all of it.

    Each pattern begins with the letter and looks behind it from there: searching for a literal first makes it about ten
    times as fast.
    """
    # "A+", "C#" and "A's" are other words
    edge = r"(?![A-Za-z0-9À-ɏ_+#]|['-]\w)"
    not_an_article = ""
    if letter in "AI":
        not_an_article = rf"(?![^\S\n]+(?!(?:{_REASON})\b|[A-Z]\b)[A-Za-zÀ-ɏ])"
    small = letter.lower()
    announced = "|".join(rf"(?<=\b{word} .)" for word in _ANNOUNCING)
    return (
        rf"{letter}(?<![A-Za-z0-9À-ɏ_].)(?<!\w['-].){edge}{not_an_article}",
        rf"{small}(?<=[(\[{{\"'].)(?=[)\]}}\"'])",
        rf"{small}(?i:{announced}){edge}(?!\s+[a-z])",
        rf"\A[\s\"'(]*{small}(?=[\s\"'.):]*\Z)",
        rf"\A{small}(?=[.):]\s)",
    )


def _number_pattern(number: str) -> str:
    """Return the pattern of a number that is not part of another one, and does not count things ("2 reasons")."""
    counted = r"options?|choices?|labels?|answers?|emotions?|reasons?|things|people|words|sentences?|steps?|candidates?"
    return rf"(?<![A-Za-z0-9À-ɏ_.,$€£%+-])0*{number}(?![A-Za-z0-9À-ɏ_%]|[.,:]\d|\s+(?i:{counted})\b)"


# --- the right option -------------------------------------------------------------------------------------------------


def right_letter(sample: Sample, target: str, options: Mapping[str, str]) -> str:
    """Return the letter of the right option.

    Args:
        sample: Its row names the right option.
        target: The row's field with the option's text, its letter, or both ("B. green").
        options: Letter -> text.

    Raises:
        ScorerError: The field names none of the options, or two.
    """
    gold = label_of(sample, target)
    fitting = {
        *_letters_with_text(gold, options),
        *_letters_by_letter(gold, options),
        *_letters_by_letter_and_text(gold, options),
    }
    if len(fitting) != 1:
        raise ScorerError(_not_one_option(sample, target, gold, options, sorted(fitting)))
    return fitting.pop()


def _letters_with_text(gold: str, options: Mapping[str, str]) -> list[str]:
    words = words_of(gold)
    return [letter for letter, text in options.items() if words_of(text) == words]


def _letters_by_letter(gold: str, options: Mapping[str, str]) -> list[str]:
    sign = re.fullmatch(r"[(\[]?([A-Ja-j])[.):\]]?", plain_text(gold))
    if sign is None:
        return []
    letter = sign[1].upper()
    # Where the prompt has no options that can be read, only the row can tell
    if options and letter not in options:
        return []
    return [letter]


def _letters_by_letter_and_text(gold: str, options: Mapping[str, str]) -> list[str]:
    marked = re.fullmatch(r"[(\[]?([A-J])[.):\]]+\s*(.+)", plain_text(gold), re.S)
    if marked is None:
        return []
    letter, text = marked.groups()
    # "J. Smith" may be a name and no option J
    if words_of(options.get(letter, "")) != words_of(text):
        return []
    return [letter]


def _not_one_option(sample: Sample, target: str, gold: str, options: Mapping[str, str], fitting: Sequence[str]) -> str:
    what = "is none of the prompt's options"
    if fitting:
        what = f"fits the options {' and '.join(fitting)}"
    there = "it lists none that can be read; write them as 'A. text', one per line"
    if options:
        listed = "; ".join(f"{sign}: {one_line(text, 40)}" for sign, text in options.items())
        there = f"it has {listed}"
    return (
        f"{sample.task}[{sample.id}]: the row's {target!r}, {one_line(gold, 60)!r}, {what} ({there}); "
        "give the right option's letter, or its text as the prompt has it"
    )


# No option has a number of 100 digits, and int() refuses one of thousands of digits
_MOST_DIGITS = 99


def right_number(sample: Sample, target: str, options: Mapping[str, str]) -> str:
    """Return the number of the right option, without leading zeros.

    Args:
        sample: Its row names the right option.
        target: The row's field with the number.
        options: Number -> text; empty accepts any number.

    Raises:
        ScorerError: The field does not hold a number, or no option has it.
    """
    gold = label_of(sample, target)
    if re.fullmatch(r"-?[0-9]+", gold) is None:
        raise ScorerError(
            f"{sample.task}[{sample.id}]: the row's {target!r} is {one_line(gold, 60)!r}, "
            "expected the number of the right option"
        )
    number = gold
    if len(gold) <= _MOST_DIGITS:
        number = str(int(gold))
    if options and number not in options:
        raise ScorerError(
            f"{sample.task}[{sample.id}]: the row's {target!r} is {one_line(gold, 60)}, "
            f"but the prompt's options have the numbers {', '.join(options)}"
        )
    return number
