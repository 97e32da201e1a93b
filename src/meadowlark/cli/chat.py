"""``meadowlark chat``: talk to a model in the terminal, or to one or two on a page."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from meadowlark import NOTICE
from meadowlark.cli.serve import (
    Host,
    KeyVariable,
    Port,
    QuantiseOption,
    Template,
    announce,
    log_requests,
    quantise_of,
    server_key,
)
from meadowlark.dataset import write_json
from meadowlark.errors import MeadowlarkError, UserError
from meadowlark.progress import plural
from meadowlark.records import Turn
from meadowlark.templates import neutralise, user_content

if TYPE_CHECKING:
    from meadowlark.llm.chat import ChatModel, Sampling
    from meadowlark.llm.local import Quantised

GRACE_S = 5.0
"""How long answers on the page may go on at a stop."""
HELP = """\
  TEXT            ask
  /input TEXT     input (a report, a table) for the next instruction
  /system TEXT    begin anew with a system message; without TEXT, without one
  /reset          forget the conversation
  /save FILE      write the conversation as messages (JSON)
  /help           this
  /quit           end"""


Said = Generator[str, None, None]


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

    def take(self, line: str) -> Said | None:
        """What to print for one line, piece by piece; None ends the conversation."""
        if not line.strip():
            return _said()
        if not line.startswith("/"):
            return self.ask(line)
        command, _, rest = line.partition(" ")
        rest = rest.strip()
        if command in ("/quit", "/exit"):
            return None
        return _said(self._command(command, rest) + "\n")

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
        return f"(saved {plural(len(self.turns), 'turn')} in {rest})"

    def ask(self, text: str) -> Said:
        """The answer, piece by piece; both turns are kept with what came of it, if anything."""
        content = user_content(text, self.input)
        asked = [*self.all_turns(), Turn("user", content)]
        answer = ""
        try:
            for piece in self.voice(asked, self.sampling):
                answer += piece
                yield piece
        finally:
            if answer.strip():
                self.turns += [Turn("user", content), Turn("assistant", answer.strip())]
                self.input = ""
        if not answer.strip():
            yield "(no answer: the model ended at once, or the conversation fills its context)"
        yield "\n"


def chat(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="hf:PATH_OR_ID[+ADAPTER], openai:NAME@BASE_URL, anthropic:NAME, recorded:FILE "
            "or a name from models.toml; with --web also two.",
        ),
    ],
    template: Template = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Longest answer in new tokens.")
    ] = 512,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, help="0 takes the likeliest token.")
    ] = 0.0,
    system: Annotated[str, typer.Option("--system", help="A system message.")] = "",
    quantise: QuantiseOption = None,
    web: Annotated[
        bool, typer.Option("--web", help="A page in the browser instead of the terminal.")
    ] = False,
    votes: Annotated[
        Path,
        typer.Option("--votes", help="With two models: the folder that keeps the blind votes."),
    ] = Path("votes"),
    by: Annotated[str, typer.Option("--by", help="With two models: the name of who votes.")] = "",
    host: Host = "127.0.0.1",
    port: Port = 8080,
    api_key_env: KeyVariable = "",
) -> None:
    """Talk to a model, in the terminal or on a page in the browser.

    Its answers stream; the conversation is kept until /reset. A question may
    have an input, as in training: type /input TEXT, then the instruction.
    Lines may also be piped in. /help lists the commands.

    With --web a page opens at the address that is printed, for a conversation,
    with stop and regenerate. Two models are shown side by side and blind: which
    is left changes by chance, and the names appear with the vote. Votes are
    verdicts, kept in the folder --votes at once; `meadowlark score` reads its
    verdicts.jsonl.

    \b
    Examples:
      meadowlark chat hf:runs/demo/model
      meadowlark chat openai:llama3.3@http://localhost:11434/v1 --temperature 0.7
      echo "What does the liver do?" | meadowlark chat hf:runs/demo/model --max-tokens 60
      meadowlark chat hf:tuned --web
      meadowlark chat hf:tuned hf:untuned --web --votes runs/votes --by "Dr Osei"
    """
    if web:
        _on_page(
            models,
            template=template,
            max_tokens=max_tokens,
            temperature=temperature,
            system=system,
            quantise=quantise_of(quantise),
            votes=votes,
            by=by,
            host=host,
            port=port,
            api_key_env=api_key_env,
        )
        return
    if len(models) > 1:
        raise UserError("the terminal holds one model; two are compared with --web")
    from meadowlark.llm.chat import ChatRequest, Sampling
    from meadowlark.llm.streaming import spoken

    (model,) = models
    print(NOTICE)
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    opened = _open(model, template, quantise_of(quantise))
    voice: Voice | None = getattr(opened, "stream", None)

    def remote(turns: list[Turn], sampling: Sampling) -> Iterator[str]:
        return spoken(opened, ChatRequest(tuple(turns), sampling))

    _talk(Conversation(voice or remote, sampling, system))


def _open(model: str, template: str | None, quantise: Quantised | None) -> ChatModel:
    from meadowlark.llm import open_chat_model

    if quantise is None:
        return open_chat_model(model, template=template)
    provider, _, reference = model.partition(":")
    if provider != "hf":
        raise UserError(f"--quantise is for hf: models only, not {model!r}")
    from meadowlark.llm.local import open_local

    return open_local(reference, template, quantise=quantise)


def _on_page(
    models: list[str],
    *,
    template: str | None,
    max_tokens: int,
    temperature: float,
    system: str,
    quantise: Quantised | None,
    votes: Path,
    by: str,
    host: str,
    port: int,
    api_key_env: str,
) -> None:
    """Serve the chat page for one model, or for two to be compared."""
    from meadowlark.listening import take_address, url_of
    from meadowlark.serve.chat_page import make_page_app
    from meadowlark.serve.opening import names_of, open_voice
    from meadowlark.serve.server import run
    from meadowlark.serve.votes import Votes

    if len(models) > 2:
        raise UserError(f"{len(models)} models were given; a page shows one, or compares two")
    key = server_key(host, api_key_env)
    if len(models) == 2 and not by:
        raise UserError('votes need the name of who votes: --by NAME, as --by "Dr Osei"')
    kept: Votes | None = None
    taken = take_address(host, port)
    try:
        kept = Votes(votes, by) if len(models) == 2 else None
        voices = [
            open_voice(
                spec,
                name,
                template=template if spec.startswith("hf:") else None,
                quantise=quantise if spec.startswith("hf:") else None,
            )
            for spec, name in zip(models, names_of(models), strict=True)
        ]
        log_requests()

        async def main() -> None:
            app = make_page_app(
                voices,
                key=key,
                votes=kept,
                system=system,
                max_tokens=max_tokens,
                temperature=temperature,
            )
            url = url_of(host, taken) + "/"
            await run(app, taken, grace_s=GRACE_S, ready=lambda: announce(url, voices, bool(key)))

        asyncio.run(main())
    finally:
        taken.close()
        if kept is not None:
            kept.close()
            print(f"{plural(kept.count, 'vote')} in {votes}")


def _talk(conversation: Conversation) -> None:
    """Read lines and print what each brings, until the end of the input or /quit."""
    if sys.stdin.isatty():
        print("/help lists the commands; /quit or Ctrl-D ends.")
    while (line := _read_line()) is not None:
        before = len(conversation.turns)
        try:
            pieces = conversation.take(line)
            if pieces is None:
                break
            with contextlib.closing(pieces):
                for piece in pieces:
                    print(_printable(piece), end="", flush=True)
        except MeadowlarkError as error:
            kept = len(conversation.turns) > before
            how = "\n(what came is kept, but is not the whole" if kept else "(no answer"
            print(_printable(f"{how}: {error})"), file=sys.stderr)
        except KeyboardInterrupt:
            kept = len(conversation.turns) > before
            print(f"\n(stopped; {'what came is' if kept else 'the question is not'} kept)")


def _said(*pieces: str) -> Said:
    yield from pieces


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
