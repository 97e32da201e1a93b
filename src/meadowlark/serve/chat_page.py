"""``chat MODEL --web``: one page on the server's own address, for one model or for two, blind.

The page is built once from the files in ``pages/``, holds its style and script itself, and loads
nothing from anywhere; its Content-Security-Policy allows just these two. What a model or a person
wrote reaches it as JSON and is shown as text, never as markup. In a comparison the page learns
which model was left and which right only with the answer to its vote.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import html
import json
import random
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

from aiohttp import web

from meadowlark import NOTICE
from meadowlark.errors import MeadowlarkError
from meadowlark.llm.chat import Sampling, well_formed
from meadowlark.records import Answer, AnswerStatus, Question, Turn, Verdict, Winner, record_id
from meadowlark.serve.guard import Limits, read_body
from meadowlark.serve.server import (
    LIMITS,
    begin_events,
    in_the_middle,
    make_app,
    refusals,
    voice_of,
)
from meadowlark.serve.voices import Ending, Voice
from meadowlark.serve.votes import Votes
from meadowlark.serve.wire import Refused, event, parse_json
from meadowlark.templates import neutralise, user_content

SIDES = ("left", "right")
MOST_COMPARISONS = 500
SETTLED_S = 3.0
MAX_TOKENS, MOST_TEMPERATURE = 512, 2.0
Side = Literal["a", "b"]


@dataclass
class Comparison:
    """One question put to both models. ``left`` is the model shown on the left."""

    turns: tuple[Turn, ...]
    sampling: Sampling
    left: Side
    texts: dict[Side, str] = field(default_factory=dict)
    statuses: dict[Side, AnswerStatus] = field(default_factory=dict)
    begun: set[Side] = field(default_factory=set)
    voted: bool = False

    def at(self, side: str) -> Side:
        """The model on a side of the page."""
        return self.left if side == "left" else ("b" if self.left == "a" else "a")


VOTES = web.AppKey("votes", Votes)
PAIR = web.AppKey("pair", tuple[Voice, Voice])
COMPARISONS = web.AppKey("comparisons", OrderedDict[str, Comparison])
PAGE = web.AppKey("page", tuple[str, str])
SHUFFLE = web.AppKey("shuffle", random.Random)


def make_page_app(
    voices: Sequence[Voice],
    *,
    key: str = "",
    limits: Limits | None = None,
    votes: Votes | None = None,
    system: str = "",
    max_tokens: int = MAX_TOKENS,
    temperature: float = 0.0,
    seed: int | None = None,
) -> web.Application:
    """The server with the page at ``/``; two voices with ``votes`` are compared blindly.

    ``seed`` fixes which model is left, for tests; without it nobody can know.
    """
    app = make_app(voices, key=key, limits=limits, open_paths=("/",))
    blind = votes is not None
    settings = {
        "models": [] if blind else [voice.name for voice in voices],
        "blind": blind,
        "system": system,
        "max_tokens": max_tokens,
        "temperature": temperature,
    }
    app[PAGE] = page(settings)
    app.router.add_get("/", _page)
    app.router.add_post("/web/answer", _answer)
    if votes is not None:
        assert len(voices) == 2, "two are compared"
        app[VOTES], app[PAIR] = votes, (voices[0], voices[1])
        app[COMPARISONS] = OrderedDict()
        app[SHUFFLE] = random.SystemRandom() if seed is None else random.Random(seed)
        app.router.add_post("/web/compare", _compare)
        app.router.add_post("/web/compare/{id}/vote", _vote)
        app.router.add_post("/web/compare/{id}/{side:left|right}", _side)
    return app


def page(settings: Mapping[str, Any]) -> tuple[str, str]:
    """The page, and the policy that lets it run its own script and nothing else."""
    files = resources.files("meadowlark.serve") / "pages"
    style, script, body = (
        (files / f"chat.{kind}").read_text(encoding="utf-8") for kind in ("css", "js", "html")
    )
    # In a script element only "<" could end it.
    config = json.dumps(settings, ensure_ascii=False).replace("<", "\\u003c")
    made = (
        body.replace("/*STYLE*/", style)
        .replace("/*SCRIPT*/", script)
        .replace("{{NOTICE}}", html.escape(NOTICE))
        .replace("{{CONFIG}}", config)
    )
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return made, policy


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


async def _page(request: web.Request) -> web.Response:
    text, policy = request.app[PAGE]
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
    return web.Response(text=text, content_type="text/html", charset="utf-8", headers=headers)


# --------------------------------------------------------------------------- what is asked


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise Refused(400, f"{name}: expected text", code="invalid_value", param=name)
    return well_formed(value)


def _asked(body: Mapping[str, Any]) -> tuple[tuple[Turn, ...], Sampling]:
    """The conversation and the sampling of the page's form; headers in its texts forge nothing."""
    system, earlier = _text(body, "system").strip(), body.get("history", [])
    turns = [Turn("system", neutralise(system))] if system else []
    if not isinstance(earlier, list) or not all(isinstance(e, Mapping) for e in earlier):
        raise Refused(400, "history: expected a list", code="invalid_value", param="history")
    for exchange in earlier:
        content = user_content(_text(exchange, "instruction"), _text(exchange, "input"))
        turns += [Turn("user", content), Turn("assistant", _text(exchange, "answer"))]
    content = user_content(_text(body, "instruction").strip(), _text(body, "input").strip())
    if not content:
        raise Refused(400, "write a question", code="invalid_value", param="instruction")
    temperature, most, seed = (body.get(n) for n in ("temperature", "max_tokens", "seed"))
    if not isinstance(temperature, int | float) or not 0 <= temperature <= MOST_TEMPERATURE:
        raise Refused(
            400, "temperature: expected 0 to 2", code="invalid_value", param="temperature"
        )
    if not isinstance(most, int) or most < 1:
        raise Refused(400, "max_tokens: expected 1 or more", code="invalid_value")
    if seed is not None and not isinstance(seed, int):
        raise Refused(400, "seed: expected a whole number", code="invalid_value")
    sampling = Sampling(temperature=float(temperature), max_tokens=most, seed=seed)
    return (*turns, Turn("user", content)), sampling


async def _body(request: web.Request) -> dict[str, Any]:
    return parse_json(await read_body(request, request.app[LIMITS]))


async def _answer(request: web.Request) -> web.StreamResponse:
    body = await _body(request)
    voice = voice_of(request, _text(body, "model"))
    turns, sampling = _asked(body)
    return (await _told(request, voice, turns, sampling, []))[0]


async def _told(
    request: web.Request,
    voice: Voice,
    turns: Sequence[Turn],
    sampling: Sampling,
    pieces: list[str],
) -> tuple[web.StreamResponse, AnswerStatus]:
    """The answer as events ``{"text": …}``, then ``{"end": why}``; kept in ``pieces`` as well."""
    async with contextlib.aclosing(voice.answer(turns, sampling)) as answer:
        with refusals():
            item = await anext(answer)
        response = await begin_events(request)
        try:
            while not isinstance(item, Ending):
                pieces.append(item)
                await response.write(event({"text": item}))
                item = await anext(answer)
        except MeadowlarkError as error:
            await response.write(event({"error": in_the_middle(error)}))
            return response, "truncated" if pieces else "failed"
        await response.write(event({"end": item.finish}))
        await response.write_eof()
    if item.finish == "refused":
        return response, "refused"
    if not "".join(pieces).strip():
        return response, "empty"
    return response, "truncated" if item.finish == "length" else "ok"


# --------------------------------------------------------------------------- two, blind


async def _compare(request: web.Request) -> web.Response:
    turns, sampling = _asked(await _body(request))
    left: Side = "a" if request.app[SHUFFLE].random() < 0.5 else "b"
    name = uuid.uuid4().hex
    kept = request.app[COMPARISONS]
    kept[name] = Comparison(turns, sampling, left)
    while len(kept) > MOST_COMPARISONS:
        kept.popitem(last=False)
    return web.json_response({"id": name})


def _found(request: web.Request) -> Comparison:
    found = request.app[COMPARISONS].get(request.match_info["id"])
    if found is None:
        raise Refused(404, "this comparison is no longer known; ask again", code="not_found")
    return found


async def _side(request: web.Request) -> web.StreamResponse:
    comparison = _found(request)
    await _body(request)
    model = comparison.at(request.match_info["side"])
    if model in comparison.begun:
        raise Refused(409, "this answer was asked for already", code="conflict")
    comparison.begun.add(model)
    voice: Voice = request.app[PAIR][0 if model == "a" else 1]
    pieces: list[str] = []
    status: AnswerStatus = "failed"
    try:
        response, status = await _told(
            request, voice, comparison.turns, comparison.sampling, pieces
        )
        return response
    except (asyncio.CancelledError, ConnectionError):  # the reader stopped it
        status = "truncated" if pieces else "failed"
        raise
    finally:
        comparison.texts[model], comparison.statuses[model] = "".join(pieces), status


async def _vote(request: web.Request) -> web.Response:
    comparison = _found(request)
    body = await _body(request)
    given, note = _text(body, "winner"), _text(body, "note").strip()[:10_000]
    if given not in (*SIDES, "tie", "both_bad"):
        raise Refused(400, "winner: expected left, right, tie or both_bad", code="invalid_value")
    if comparison.voted:
        raise Refused(409, "this comparison was voted on already", code="conflict")
    for _ in range(int(SETTLED_S / 0.02)):  # what was stopped a moment ago is being noticed
        if len(comparison.texts) == 2 or len(comparison.begun) < 2:
            break
        await asyncio.sleep(0.02)
    if len(comparison.texts) < 2:
        raise Refused(409, "both answers must be there first", code="conflict")
    voices = request.app[PAIR]
    winner: Winner = "tie" if given == "tie" else "both_bad"
    if given in SIDES:
        winner = comparison.at(given)
    question, answers = _kept(comparison, voices)
    verdict = Verdict(
        item=question.id,
        criterion="preference",
        a=voices[0].name,
        b=voices[1].name,
        shown_first=comparison.left,
        winner=winner,
        by=request.app[VOTES].by,
        note=note,
    )
    request.app[VOTES].add(question, answers, verdict)
    comparison.voted = True
    names = {side: voices[0 if comparison.at(side) == "a" else 1].name for side in SIDES}
    return web.json_response({**names, "votes": request.app[VOTES].count})


def _kept(comparison: Comparison, voices: tuple[Voice, Voice]) -> tuple[Question, list[Answer]]:
    *earlier, last = comparison.turns
    item = record_id(earlier, last.content, "", "")
    question = Question(item, "side by side", last.content)
    sides: tuple[Side, Side] = ("a", "b")
    answers = [
        Answer(item, voice.name, text=comparison.texts[side], status=comparison.statuses[side])
        for side, voice in zip(sides, voices, strict=True)
    ]
    return question, answers
