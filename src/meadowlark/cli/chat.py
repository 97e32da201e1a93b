"""``meadowlark chat``: talk to a model in the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Protocol

import typer

from meadowlark import NOTICE
from meadowlark.dataset import write_json
from meadowlark.errors import MeadowlarkError
from meadowlark.llm.chat import ChatModel, ChatRequest, Sampling
from meadowlark.records import Turn
from meadowlark.templates import neutralise, user_content

HELP = """\
  TEXT            ask
  /input TEXT     input (a report, a table) for the next instruction
  /system TEXT    begin anew with a system message; without TEXT, without one
  /reset          forget the conversation
  /save FILE      write the conversation as messages (JSON)
  /help           this
  /quit           end"""


class Voice(Protocol):
    """Something that answers a conversation piece by piece."""

    def __call__(self, turns: list[Turn], sampling: Sampling) -> Iterator[str]: ...


class Conversation:
    """The turns so far, the pending input, and what each line a person types does to them."""

    def __init__(self, voice: Voice, sampling: Sampling, system: str = "") -> None:
        self.voice, self.sampling, self.system = voice, sampling, system
        self.turns: list[Turn] = []
        self.input = ""

    def all_turns(self) -> list[Turn]:
        """The system message, where there is one, and the turns after it."""
        first = [Turn("system", neutralise(self.system))] if self.system else []
        return [*first, *self.turns]

    def take(self, line: str) -> Iterator[str] | None:
        """What to print for one line, piece by piece; None ends the conversation."""
        if not line.strip():
            return iter(())
        if not line.startswith("/"):
            return self.ask(line)
        command, _, rest = line.partition(" ")
        rest = rest.strip()
        if command in ("/quit", "/exit"):
            return None
        return iter([self._command(command, rest) + "\n"])

    def _command(self, command: str, rest: str) -> str:
        if command == "/help":
            return HELP
        if command == "/input":
            self.input = rest
            return "(the next line is the instruction for this input)" if rest else "(no input)"
        if command in ("/reset", "/system"):
            self.turns, self.input = [], ""
            if command == "/system":
                self.system = rest
                return "(a new conversation with this system message)" if rest else "(no system)"
            return "(forgotten)"
        if command == "/save":
            return self._save(rest)
        return f"(unknown command {command}; /help lists them)"

    def _save(self, rest: str) -> str:
        if not rest:
            return "(give a file: /save FILE)"
        try:
            write_json(Path(rest), [{"messages": [turn._asdict() for turn in self.all_turns()]}])
        except OSError as error:
            return f"(not saved: {error})"
        return f"(saved {len(self.turns)} turns in {rest})"

    def ask(self, text: str) -> Iterator[str]:
        """The answer, piece by piece; both turns are kept once it is whole."""
        content = user_content(text, self.input)
        pieces: list[str] = []
        asked = [*self.all_turns(), Turn("user", content)]
        for piece in self.voice(asked, self.sampling):
            pieces.append(piece)
            yield piece
        answer = "".join(pieces).strip()
        if not answer:
            yield "(no answer: the model ended at once, or the conversation fills its context)"
        yield "\n"
        self.turns += [Turn("user", content), Turn("assistant", answer)]
        self.input = ""


class RemoteVoice:
    """A voice that waits for the whole reply of a remote model; used as a context."""

    def __init__(self, model: ChatModel) -> None:
        self._model = model
        self._loop = asyncio.Runner()

    def __enter__(self) -> RemoteVoice:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run(self._model.close())
        self._loop.close()

    def __call__(self, turns: list[Turn], sampling: Sampling) -> Iterator[str]:
        reply = self._loop.run(self._model.reply(ChatRequest(tuple(turns), sampling)))
        yield reply.text


def chat(
    model: Annotated[
        str,
        typer.Argument(
            help="hf:PATH_OR_ID[+ADAPTER], openai:NAME@BASE_URL, anthropic:NAME, recorded:FILE "
            "or a name from models.toml."
        ),
    ],
    template: Annotated[
        str | None,
        typer.Option("--template", help="alpaca, alpaca-lora, medalpaca, FILE.toml or FILE.jinja."),
    ] = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Longest answer in new tokens.")
    ] = 512,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, help="0 takes the likeliest token.")
    ] = 0.0,
    system: Annotated[str, typer.Option("--system", help="A system message.")] = "",
) -> None:
    """Talk to a model. Its answers stream; the conversation is kept until /reset.

    A question may have an input, as in training: type /input TEXT, then the instruction. Lines
    may also be piped in. /help lists the commands.

    \b
    Examples:
      meadowlark chat hf:runs/demo/model
      meadowlark chat openai:llama3.3@http://localhost:11434/v1 --temperature 0.7
      echo "What does the liver do?" | meadowlark chat hf:runs/demo/model --max-tokens 60
    """
    from meadowlark.llm import open_chat_model

    print(NOTICE)
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    with contextlib.ExitStack() as stack:
        opened = open_chat_model(model, template=template)
        streaming: Voice | None = getattr(opened, "stream", None)
        voice = streaming or stack.enter_context(RemoteVoice(opened))
        _talk(Conversation(voice, sampling, system))


def _talk(conversation: Conversation) -> None:
    """Read lines and print what each brings, until the end of the input or /quit."""
    if sys.stdin.isatty():
        print("/help lists the commands; /quit or Ctrl-D ends.")
    while (line := _read_line()) is not None:
        try:
            pieces = conversation.take(line)
            if pieces is None:
                break
            for piece in pieces:
                print(_printable(piece), end="", flush=True)
        except MeadowlarkError as error:
            print(f"(no answer: {error})", file=sys.stderr)
        except KeyboardInterrupt:
            print("\n(stopped; the question is not kept)")


def _read_line() -> str | None:
    """The next line that a person types or a pipe brings; None at the end."""
    if sys.stdin.isatty():
        try:
            return input("> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return None
    line = sys.stdin.readline()
    return line.rstrip("\n") if line else None


def _printable(text: str) -> str:
    """Model text without control characters, which a terminal would obey."""
    return "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text)
