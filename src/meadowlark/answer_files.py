"""Files of one model's answers that another program wrote: published answers, chats, lm-eval's.

A file comes in; its questions with the model's answers come out, row by row. Published answers are
AlpaCare's and AlpacaEval's layouts; a chat is a row of ``messages`` whose last turn is the answer;
a sample is a row that lm-eval 0.4 writes with ``--log_samples``. A row that is none of these is a
UserError, since an answer that is left out would not be missed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from meadowlark.errors import UserError
from meadowlark.layouts import absent_to_empty, raw_rows
from meadowlark.records import Turn
from meadowlark.templates import split_content, user_content

ANSWER_KEYS = ("response", "output", "answer", "text")
"""The keys under which a row may hold its answer; the first that is there counts."""
CHAT_KEYS = ("messages", "conversations", "prompt")
SAMPLE_KEYS = frozenset({"doc_id", "doc", "arguments", "resps", "filtered_resps"})
SPEAKERS = {"user": "User", "human": "User", "assistant": "Assistant", "gpt": "Assistant",
            "model": "Assistant", "system": ""}  # fmt: skip
"""The roles of the messages and ShareGPT layouts, and what each is called in a prompt's text. A
system message is no part of the question: two models may have been given different ones."""
_CLAUDE = re.compile(r"\s*Human:\s*(.*?)\s*Assistant:\s*", re.DOTALL)
_SAMPLES = re.compile(r"samples_(.+)_\d{4}-\d\d-\d\dT[\d.:-]+")


@dataclass(frozen=True)
class Given:
    """One row: the prompt, the answers to it in the order of their draws, and what else it says.

    ``item`` is its id, ``model`` its own model's name, ``task`` and ``group`` what its question is
    of; each empty where the row has none. ``again`` says that the same row of lm-eval may stand in
    the file once more, for each of its filters.
    """

    prompt: str
    texts: tuple[str, ...]
    item: str = ""
    model: str = ""
    task: str = ""
    group: str = ""
    target: str = ""
    again: bool = False


def read_given(path: Path) -> list[Given]:
    """The rows of a file in order; UserError naming the first that holds no prompt or answer."""
    found = []
    for number, raw in enumerate(raw_rows(path), start=1):
        if not isinstance(raw, Mapping):
            raise UserError(f"{path}, row {number}: not a JSON object")
        try:
            found.append(_given(raw, path))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            why = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(f"{path}, row {number}: {why}") from None
    if not found:
        raise UserError(f"{path} holds no answers")
    return found


def name_of(path: Path) -> str:
    """What a model is called whose rows do not name it: the folder for lm-eval's samples (it is
    called after the model), else folder and file (``gpt-4/medsi_output``)."""
    place = path.resolve()
    if _SAMPLES.fullmatch(place.stem):
        return place.parent.name
    return f"{place.parent.name}/{place.stem}".lstrip("/")


def _given(raw: Mapping[str, Any], path: Path) -> Given:
    if raw.keys() >= SAMPLE_KEYS:
        return _of_sample(raw, path)
    if any(isinstance(raw.get(key), list) for key in CHAT_KEYS):
        return _of_chat(raw, path)
    text, prompt = _text_of(raw), prompt_of(raw)
    if text is None or not prompt:
        raise ValueError(
            "expected instruction (and input) or prompt, and response or output; or messages that "
            f"end with the assistant's; it has {', '.join(map(str, raw)) or 'nothing'}"
        )
    return _with(raw, path, prompt, text)


def _with(raw: Mapping[str, Any], path: Path, prompt: str, text: str) -> Given:
    """A prompt and its answer with what the row says of itself beside them."""
    return Given(
        prompt,
        (text,),
        item="" if raw.get("id") is None else str(raw["id"]),
        model=str(raw.get("generator") or ""),
        task=str(raw.get("dataset") or path.stem),
        group=_group_of(raw),
    )


def _group_of(raw: Mapping[str, Any]) -> str:
    return str(raw.get("group") or raw.get("difficulty") or raw.get("topic") or "")


def _text_of(raw: Mapping[str, Any]) -> str | None:
    return next((raw[key] for key in ANSWER_KEYS if isinstance(raw.get(key), str)), None)


def prompt_of(raw: Mapping[str, Any]) -> str:
    """A row's own prompt: its instruction and input, or its prompt or question; empty without."""
    if "instruction" in raw:
        instruction = str(raw["instruction"] or "")
        given = absent_to_empty(str(raw.get("input") or ""))
        return user_content(instruction, given) if instruction and given else instruction or given
    prompt = str(raw.get("prompt") or raw.get("question") or "")
    wrapped = _CLAUDE.fullmatch(prompt)
    return wrapped[1] if wrapped else prompt


# --------------------------------------------------------------------------- chats


def _of_chat(raw: Mapping[str, Any], path: Path) -> Given:
    """A conversation; the last turn is the answer, unless the row holds it beside the turns (as
    text, or as TRL's ``completion``)."""
    key = next(key for key in CHAT_KEYS if isinstance(raw.get(key), list))
    completion = raw.get("completion")
    turns = _turns([*raw[key], *(completion if isinstance(completion, list) else ())])
    beside = _text_of(raw)
    ends = bool(turns) and turns[-1].role == "assistant"
    if ends and beside is not None:
        names = " and ".join(name for name in ANSWER_KEYS if isinstance(raw.get(name), str))
        raise ValueError(
            f"the answer may be the last of {key} or {names}; leave out the one that it is not"
        )
    if not ends and beside is None:
        raise ValueError(
            f"{key} must end with the assistant's turn, which is the answer (or the answer stand "
            "beside it as response or output)"
        )
    text = turns.pop().content if beside is None else beside
    found = _with(raw, path, conversation(turns), text)
    return found if found.model else replace(found, model=str(raw.get("model") or ""))


def _turns(listed: Sequence[Any]) -> list[Turn]:
    turns = []
    for message in listed:
        role = str(message.get("role") or message.get("from"))
        if role not in SPEAKERS:
            raise ValueError(f"unknown role {role!r}; expected {', '.join(SPEAKERS)}")
        content = message.get("content", message.get("value"))
        if isinstance(content, list):  # OpenAI's parts
            if any(part.get("type") != "text" for part in content):
                raise ValueError("a message holds something other than text")
            content = "".join(part["text"] for part in content)
        if content is not None and not isinstance(content, str):
            raise ValueError(f"a message's content is no text: {content!r:.60}")
        kind = {"User": "user", "Assistant": "assistant"}.get(SPEAKERS[role], "system")
        turns.append(Turn(kind, content or ""))  # type: ignore[arg-type]
    return turns


def conversation(turns: Sequence[Turn]) -> str:
    """What was asked, as one prompt: the user's message, or all turns by who said them where there
    were several, the system's left out. ValueError where the last is not the user's."""
    said = [turn for turn in turns if turn.role != "system"]
    if not said or said[-1].role != "user" or not said[-1].content.strip():
        raise ValueError("no message of the user's before the answer")
    if len(said) == 1:
        return said[0].content
    return "\n\n".join(f"{SPEAKERS[turn.role]}: {turn.content}" for turn in said)


# --------------------------------------------------------------------------- lm-eval's samples


def _of_sample(raw: Mapping[str, Any], path: Path) -> Given:
    """A sample of lm-eval: what the model was sent, and all that it wrote to it.

    The answers are the replies as they came (``resps``), before any filter. The prompt is the
    data row's own instruction or question, where the model was shown nothing else of that row;
    else the text that it was sent, with worked examples and chat template as they were.
    """
    requests = raw["resps"]
    texts = requests[0] if len(requests) == 1 else []
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(
            "lm-eval compared likelihoods here and no text was written; what models wrote is in "
            "the samples of tasks with output_type generate_until"
        )
    target = str(raw.get("target") or "")
    doc = raw["doc"] if isinstance(raw["doc"], Mapping) else {}
    sent = _sent(raw["arguments"]["gen_args_0"]["arg_0"])
    own = prompt_of(doc)
    prompt = own if own and _is_all_shown(own, doc, sent, target) else sent
    if not prompt.strip():
        raise ValueError("no prompt in its arguments")
    named = _SAMPLES.fullmatch(path.stem)
    task = named[1] if named else path.stem
    return Given(
        prompt, tuple(texts), str(raw["doc_id"]), "", task, _group_of(doc), target, again=True
    )


def _sent(argument: Any) -> str:
    """What a model was sent; of a chat server the turns, which lm-eval keeps as JSON in a list."""
    if isinstance(argument, list) and len(argument) == 1:
        argument = argument[0]
    if not isinstance(argument, str):
        raise ValueError(f"what the model was sent is no text: {argument!r:.60}")
    if argument.startswith("[{"):
        try:
            return conversation(_turns(json.loads(argument)))
        except json.JSONDecodeError:
            pass
    return argument


def _is_all_shown(own: str, doc: Mapping[str, Any], sent: str, target: str) -> bool:
    """Whether a prompt is in what was sent, and no other text of its data row is: a context or
    choices that the model was shown belong before a judge too. Texts of one or two characters, and
    the right answer, tell nothing."""
    rest = sent
    for part in split_content(own):
        if part.strip() not in rest:
            return False
        rest = rest.replace(part.strip(), "\n", 1) if part.strip() else rest
    others = {text.strip() for text in _strings(doc)} - {target.strip()}
    others = {text for text in others if len(text) > 2 and text not in own}
    return not any(text in rest for text in others)


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [text for inner in value for text in _strings(inner)]
