"""Prompt templates: how a record or a conversation becomes the text a model reads.

A template has forms that must agree to the byte: :meth:`PromptTemplate.render` in Python,
:meth:`PromptTemplate.chat_template`, the Jinja text stored in a checkpoint so that training,
evaluation and every server render the same prompt, and :meth:`PromptTemplate.go_template` for
Ollama, which reads no Jinja. In a chat message an instruction with an input
is the instruction, :data:`INPUT_MARKER`, the input; the template splits it there again.

Sources: Alpaca's prompt and medAlpaca's prompt as described in PAPERS.md, section 2 ("Prompt
template"); alpaca-lora's differs from Alpaca's by a final newline.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meadowlark.config import Options, load
from meadowlark.errors import UserError, unknown
from meadowlark.records import Record, Turn

INPUT_MARKER = "\n\n### Input:\n"
"""Stands between instruction and input in a user's message, whatever the template."""

_HEADER_IN_TEXT = re.compile(r"^[ \t]*#+[ \t]*(?=(?:Instruction|Input|Response)[ \t]*:)", re.M)


def neutralise(text: str) -> str:
    """Text without anything a template could take for its own header.

    ``### Input:`` at the start of a line becomes ``Input:``; the words stay.
    """
    return _HEADER_IN_TEXT.sub("", text)


def user_content(instruction: str, input: str = "") -> str:
    """The content of a user's chat message for an instruction and its input."""
    instruction, input = neutralise(instruction), neutralise(input)
    if not instruction:
        return input
    return f"{instruction}{INPUT_MARKER}{input}" if input else instruction


def split_content(content: str) -> tuple[str, str]:
    """Instruction and input of a user's chat message; the inverse of :func:`user_content`."""
    instruction, _, input = content.partition(INPUT_MARKER)
    return instruction, input


def messages(record: Record, *, with_output: bool = False) -> list[Turn]:
    """A record as the turns of a chat, ending with the user's (or the answer's, on request)."""
    turns = [Turn(t.role, neutralise(t.content)) for t in record.history]
    turns.append(Turn("user", user_content(record.instruction, record.input)))
    if with_output:
        turns.append(Turn("assistant", record.output))
    return turns


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The literal texts of one prompt layout.

    ``primer`` opens a prompt whose first message has an input, ``primer_without_input`` one that
    has none. ``always_input`` writes the input header even over an empty input (medAlpaca).
    A system message, where there is one, replaces the primer.
    """

    name: str
    primer: str
    primer_without_input: str
    instruction: str = "\n\n### Instruction:\n"
    input: str = "\n\n### Input:\n"
    response: str = "\n\n### Response:\n"
    always_input: bool = False

    def render(
        self, turns: Sequence[Turn], *, bos: str = "", eos: str = "", prompt: bool = True
    ) -> str:
        """The text of a conversation; with ``prompt`` it ends where the model is to answer.

        Every answer in ``turns`` is closed by ``eos``. Turns must alternate user and assistant,
        after at most one system message.
        """
        system, turns = _check(turns)
        first = turns[0].content if turns else ""
        if system is not None:
            text = bos + system
        else:
            has_input = self.always_input or INPUT_MARKER in first
            text = bos + (self.primer if has_input else self.primer_without_input)
        for turn in turns:
            if turn.role == "user":
                instruction, input = split_content(turn.content)
                text += self.instruction + instruction
                if self.always_input or INPUT_MARKER in turn.content:
                    text += self.input + input
                if turn is not turns[-1]:
                    text += self.response
            else:
                text += turn.content + eos
        if prompt and turns and turns[-1].role == "user":
            text += self.response
        return text

    def chat_template(self) -> str:
        """The same layout as a Jinja chat template for a tokenizer (``chat_template.jinja``)."""
        q = _quoted
        has_input = "true" if self.always_input else "marker in message['content']"
        return (
            f"{{%- set marker = {q(INPUT_MARKER)} -%}}"
            "{{- bos_token -}}"
            "{%- if messages[0]['role'] == 'system' -%}"
            "{{- messages[0]['content'] -}}{%- set turns = messages[1:] -%}"
            "{%- else -%}"
            "{%- set message = messages[0] -%}{%- set turns = messages -%}"
            f"{{%- if {has_input} -%}}{{{{- {q(self.primer)} -}}}}"
            f"{{%- else -%}}{{{{- {q(self.primer_without_input)} -}}}}{{%- endif -%}}"
            "{%- endif -%}"
            "{%- for message in turns -%}"
            "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0)"
            " or message['role'] not in ['user', 'assistant'] -%}"
            "{{- raise_exception('messages must alternate user and assistant') -}}"
            "{%- endif -%}"
            "{%- if message['role'] == 'user' -%}"
            "{%- set parts = message['content'].split(marker) -%}"
            f"{{{{- {q(self.instruction)} + parts[0] -}}}}"
            f"{{%- if {has_input} -%}}{{{{- {q(self.input)} + parts[1:] | join(marker) -}}}}"
            "{%- endif -%}"
            "{%- if not loop.last or add_generation_prompt -%}"
            f"{{{{- {q(self.response)} -}}}}"
            "{%- endif -%}"
            "{%- else -%}"
            "{{- message['content'] + eos_token -}}"
            "{%- endif -%}"
            "{%- endfor -%}"
        )

    def go_template(self, *, bos: str = "", eos: str = "") -> str:
        """The same layout as the Go template of an Ollama ``Modelfile``, on one line.

        Ollama offers no function that finds a text in another, so the marker is looked for byte by
        byte (``range`` over a number: Go 1.24 or later, Ollama since March 2025). A system message
        may stand anywhere; Ollama puts them together.
        """
        q = _quoted
        has_input = "true" if self.always_input else "ge $at 0"
        return (
            f"{{{{- $marker := {q(INPUT_MARKER)} -}}}}{{{{- $size := len $marker -}}}}"
            f"{{{{- $at := -1 -}}}}{{{{- $opened := false -}}}}{{{{- {q(bos)} -}}}}"
            "{{- if .System -}}{{- .System -}}{{- $opened = true -}}{{- end -}}"
            "{{- range .Messages -}}"
            '{{- if eq .Role "user" -}}'
            "{{- $text := .Content -}}{{- $at = -1 -}}"
            "{{- range $i := len $text -}}{{- $rest := slice $text $i -}}"
            "{{- if ge (len $rest) $size -}}{{- if eq (slice $rest 0 $size) $marker -}}"
            "{{- $at = $i -}}{{- break -}}{{- end -}}{{- end -}}{{- end -}}"
            "{{- if not $opened -}}{{- $opened = true -}}"
            f"{{{{- if {has_input} -}}}}{{{{- {q(self.primer)} -}}}}"
            f"{{{{- else -}}}}{{{{- {q(self.primer_without_input)} -}}}}{{{{- end -}}}}"
            "{{- end -}}"
            f"{{{{- {q(self.instruction)} -}}}}"
            "{{- if ge $at 0 -}}{{- slice $text 0 $at -}}{{- else -}}{{- $text -}}{{- end -}}"
            f"{{{{- if {has_input} -}}}}{{{{- {q(self.input)} -}}}}{{{{- end -}}}}"
            "{{- if ge $at 0 -}}{{- slice (slice $text $at) $size -}}{{- end -}}"
            f"{{{{- {q(self.response)} -}}}}"
            '{{- else if eq .Role "assistant" -}}'
            f"{{{{- .Content -}}}}{{{{- {q(eos)} -}}}}"
            "{{- end -}}"
            "{{- end -}}"
        )


def _check(turns: Sequence[Turn]) -> tuple[str | None, Sequence[Turn]]:
    """The system text, if any, and the turns after it."""
    system = turns[0].content if turns and turns[0].role == "system" else None
    turns = turns[1:] if system is not None else turns
    for index, turn in enumerate(turns):
        if turn.role != ("user" if index % 2 == 0 else "assistant"):
            raise UserError(f"turn {index + 1} is {turn.role!r}; user and assistant must alternate")
    return system, turns


def _quoted(text: str) -> str:
    """A string literal of Jinja and of Go: JSON's escapes are theirs for all templates contain."""
    return json.dumps(text, ensure_ascii=False)


_REQUEST = "Write a response that appropriately completes the request."
_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    f"context. {_REQUEST}"
)
_WITHOUT_INPUT = f"Below is an instruction that describes a task. {_REQUEST}"

TEMPLATES = {
    "alpaca": PromptTemplate("alpaca", _WITH_INPUT, _WITHOUT_INPUT, response="\n\n### Response:"),
    "alpaca-lora": PromptTemplate("alpaca-lora", _WITH_INPUT, _WITHOUT_INPUT),
    "medalpaca": PromptTemplate("medalpaca", _WITH_INPUT, _WITH_INPUT, always_input=True),
}


class _TemplateFile(Options):
    """The keys of a template file (TOML)."""

    primer: str
    primer_without_input: str
    instruction: str = "\n\n### Instruction:\n"
    input: str = "\n\n### Input:\n"
    response: str = "\n\n### Response:\n"
    always_input: bool = False


def load_template(name: str) -> PromptTemplate:
    """A template by its name, or from a TOML file with the fields of :class:`PromptTemplate`."""
    if name in TEMPLATES:
        return TEMPLATES[name]
    path = Path(name)
    if path.suffix == ".toml":
        return PromptTemplate(path.stem, **load(path, _TemplateFile).model_dump())
    raise unknown("template", name, [*TEMPLATES, "FILE.toml"])
