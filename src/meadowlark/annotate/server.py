"""The annotation server: pages for signed-in people, one process, one writer of the study.

    GET  /in/TOKEN       signs in by a person's link
    GET  /               the person's next item, or the administrator's page
    POST /judge, /undo   commit, then lead back to /
    POST /export         the administrator's button

Without a valid token every path but the style, the script and /health answers 403. A form carries
its own key (sent twice, it counts once) and a token against forged requests, which the study's
secret makes, so that a page outlives a restart of the server.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from aiohttp import web

from meadowlark.annotate import pages
from meadowlark.annotate.agreement import agreement_lines
from meadowlark.annotate.export import write
from meadowlark.annotate.judgements import COMPARE, comparison, review
from meadowlark.annotate.links import SIGN_IN
from meadowlark.annotate.shares import shared_count
from meadowlark.annotate.store import ADMINISTRATOR, Store
from meadowlark.errors import UserError
from meadowlark.progress import plural
from meadowlark.records import Record, from_dict

LOG = logging.getLogger("meadowlark.annotate")
STORE = web.AppKey("store", Store)
HTTPS = web.AppKey("https", bool)
EXPORTING = web.AppKey("exporting", asyncio.Lock)
EXPORT = "export"
KEPT_S = 90 * 24 * 3600
"""How long a browser stays signed in."""
MOST_BYTES = 1 << 20
GRACE_S = 5.0
"""How long a judgement at work may go on at a stop."""
FILES = {"/annotate.css": "text/css", "/annotate.js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Session(NamedTuple):
    """Who asks, and the token that their forms must bear."""

    person: str
    csrf: str


def make_app(store: Store, *, https: bool = False) -> web.Application:
    """The application over an open study. The study is not closed with it.

    ``https``: people reach it through TLS, so that browsers send the cookie over nothing else.
    """
    app = web.Application(middlewares=[_guard], client_max_size=MOST_BYTES)
    app[STORE], app[EXPORTING], app[HTTPS] = store, asyncio.Lock(), https
    app.router.add_get(SIGN_IN + "{token}", _sign_in)
    app.router.add_get("/", _home)
    app.router.add_post("/judge", _judge)
    app.router.add_post("/undo", _undo)
    app.router.add_post("/export", _export)
    app.router.add_get("/health", _health)
    for path in FILES:
        app.router.add_get(path, _file)
    return app


# --------------------------------------------------------------------------- who asks


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as pages, and the headers of every answer. Nothing that people wrote is logged."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            error.headers.update(HEADERS)
            raise
        response = _page(pages.message_page(error.reason, error.text or ""), error.status)
    except (asyncio.CancelledError, ConnectionError):
        raise
    except Exception as error:
        path = request.path.partition(SIGN_IN)[0]  # without anybody's token
        LOG.error("%s failed: %s %s", path, type(error).__name__, _place(error))
        text = "Something failed in the server. What was saved before is safe; please go back."
        response = _page(pages.message_page("Failed", text), 500)
    response.headers.update(HEADERS)
    return response


def _cookie(store: Store) -> str:
    """The cookie's name, each study's own: a browser has one jar for all ports of a machine."""
    return f"annotator-{store.study.id}"


def _place(error: BaseException) -> str:
    """Where an error came from; not its message, which may hold what somebody wrote."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"in {last.filename}:{last.lineno}"


def _page(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html")


def _session(request: web.Request) -> Session:
    """Who the cookie says; HTTPForbidden for nobody."""
    store = request.app[STORE]
    token = request.cookies.get(_cookie(store), "")
    person = store.person_of(token) if token else ""
    if not person:
        raise web.HTTPForbidden(
            text="Please open the link that you were given. It signs you in on this device."
        )
    made = hmac.new(store.secret.encode(), token.encode("utf-8", "replace"), hashlib.sha256)
    return Session(person, made.hexdigest())


async def _posted(request: web.Request) -> tuple[Session, Mapping[str, str]]:
    """Who posts, and the fields; HTTPForbidden where the form is not one of ours."""
    session = _session(request)
    fields = {k: v for k, v in (await request.post()).items() if isinstance(v, str)}
    given = fields.get("csrf", "").encode("utf-8", "replace")
    if not hmac.compare_digest(given, session.csrf.encode()):
        raise web.HTTPForbidden(
            text="This form is not from this page. Please open your link again."
        )
    return session, fields


async def _sign_in(request: web.Request) -> web.StreamResponse:
    token = request.match_info["token"]
    if not request.app[STORE].person_of(token):
        raise web.HTTPForbidden(text="This link is not valid. Please ask for a new one.")
    response = web.HTTPSeeOther("/")
    response.set_cookie(
        _cookie(request.app[STORE]),
        token,
        httponly=True,
        samesite="Lax",  # not Strict: a link in an e-mail must lead to a page that is signed in
        secure=request.app[HTTPS],
        max_age=KEPT_S,
    )
    raise response


# --------------------------------------------------------------------------- pages


async def _home(request: web.Request) -> web.StreamResponse:
    session = _session(request)
    if session.person == ADMINISTRATOR:
        return _page(await _administrator(request, session))
    store = request.app[STORE]
    assigned = store.next(session.person)
    if assigned is None:
        return _page(
            pages.finished_page(
                progress=store.progress_of(session.person),
                last=store.last(session.person),
                csrf=session.csrf,
                study=store.study.id,
            )
        )
    said = store.latest(session.person, assigned.item) or {}
    return _page(_item_page(store, session, assigned.item, assigned.a_first, said))


def _item_page(
    store: Store,
    session: Session,
    item: int,
    a_first: bool,
    said: Mapping[str, str],
    fault: str = "",
) -> str:
    return pages.judging_page(
        store.study.task,
        store.item(item),
        place=item,
        a_first=a_first,
        said=said,
        progress=store.progress_of(session.person),
        last=store.last(session.person),
        csrf=session.csrf,
        form=secrets.token_urlsafe(12),
        study=store.study.id,
        fault=fault,
    )


async def _judge(request: web.Request) -> web.StreamResponse:
    session, fields = await _posted(request)
    store = request.app[STORE]
    own = {one.item: one for one in store.assigned(session.person)}
    given = fields.get("item", "")
    item = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else -1
    form = fields.get("form", "")
    if item not in own or not 1 <= len(form) <= 200:
        raise web.HTTPBadRequest(text="This form belongs to no item of yours.")
    try:
        if store.study.task == COMPARE:
            judgement = comparison(fields)
        else:
            judgement = review(fields, from_dict(store.item(item), Record))
    except UserError as error:
        page = _item_page(store, session, item, own[item].a_first, fields, fault=str(error))
        return _page(page, 422)
    store.record(session.person, item, form, judgement)
    raise web.HTTPSeeOther("/")


async def _undo(request: web.Request) -> web.StreamResponse:
    """Takes back the item that the button names, so that a press sent twice takes back one."""
    session, fields = await _posted(request)
    store = request.app[STORE]
    last = store.last(session.person)
    if last is not None and fields.get("item") == str(last):
        store.undo(session.person, last)
    raise web.HTTPSeeOther("/")


async def _administrator(request: web.Request, session: Session, said: str = "") -> str:
    store = request.app[STORE]
    judged = store.judged()
    lines = await asyncio.to_thread(agreement_lines, store.study.task, judged)
    items = len(store.items())
    return pages.administrator_page(
        task=store.study.task,
        people=store.progress(),
        agreement=lines,
        shared=items if len(store.study.people) == 1 else shared_count(items, store.study.overlap),
        items=items,
        csrf=session.csrf,
        said=said,
    )


async def _export(request: web.Request) -> web.StreamResponse:
    session, _ = await _posted(request)
    if session.person != ADMINISTRATOR:
        raise web.HTTPForbidden(text="Only the administrator may export.")
    store = request.app[STORE]
    async with request.app[EXPORTING]:
        judged = store.judged()
        if judged:
            out = store.folder / EXPORT
            await asyncio.to_thread(write, store.study, store.items(), judged, out, force=True)
            # Not the folder's whole path: it may name what is compared.
            many = plural(len(judged), "judgement was", "judgements were")
            said = f"{many} written to {EXPORT}/ in the study's folder."
        else:
            said = "Nothing is judged yet, so there is nothing to export."
    return _page(await _administrator(request, session, said))


async def _health(request: web.Request) -> web.StreamResponse:
    return web.json_response({"status": "ok"})


async def _file(request: web.Request) -> web.StreamResponse:
    text = (pages.FOLDER / request.path.lstrip("/")).read_text(encoding="utf-8")
    return web.Response(text=text, content_type=FILES[request.path])
