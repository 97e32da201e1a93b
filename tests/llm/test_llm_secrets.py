"""A key that a server repeats is found in nothing that is shown or kept, however it is written, and
wherever the text is cut."""

import html
import json
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from aiohttp import web

from chat_server import ChatServer, answering
from meadowlark.errors import UserError
from meadowlark.llm import Policy
from meadowlark.llm.endpoint import Response, checked_url
from meadowlark.llm.openai_api import OpenAIModel
from meadowlark.llm.prices import FREE
from meadowlark.synth.respond import respond

KEY = "sk-live/Ab+0<9&\"é'=="


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> OpenAIModel:
    monkeypatch.setenv("MEADOWLARK_API_KEY", KEY.replace("é", "e"))
    return OpenAIModel("m", "http://127.0.0.1:9/v1")


@pytest.mark.parametrize(
    "written",
    [
        str,
        lambda s: json.dumps(s)[1:-1],
        lambda s: json.dumps(s)[1:-1].replace("/", "\\/"),
        lambda s: s.replace("/", "\\u002f").replace("+", "\\u002B").replace('"', "\\u0022"),
        html.escape,
        lambda s: html.escape(s).replace("/", "&#x2F;").replace("=", "&#61;"),
        quote,
        quote_plus,
        lambda s: quote(s, safe="").lower().replace("sk-live", "sk-live").replace("ab", "Ab"),
    ],
)
def test_a_key_is_cut_out_however_it_is_written(model: OpenAIModel, written) -> None:
    shown = model._server.scrub(f"before {written(KEY.replace('é', 'e'))} behind")
    assert shown == "before [key] behind"


@pytest.mark.parametrize("before", range(0, 320, 7))
def test_no_part_of_a_key_is_left_where_a_message_is_cut(model: OpenAIModel, before: int) -> None:
    key = KEY.replace("é", "e")
    for padding in ("x" * before, " " * (1990 - before)):
        response = Response(400, {}, (padding + key).encode())
        assert key[:8] not in str(model._server.failure(response, "m"))


def test_a_key_in_an_error_is_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-planted/0123456789+abcdef="
    monkeypatch.setenv("MEADOWLARK_API_KEY", key)
    (tmp_path / "tasks.jsonl").write_text('{"instruction": "Explain it."}\n')
    with ChatServer(answering(web.Response(text="x" * 280 + key, status=400))) as server:
        run = respond(
            tmp_path / "tasks.jsonl",
            f"openai:m@{server.url}",
            tmp_path / "out",
            policy=Policy(backoff_s=0.01),
            price=FREE,
        )
    assert run.manifest.rows["rejected"] == {"failed: HTTP 400": 1}
    assert all(b"sk-planted" not in f.read_bytes() for f in run.folder.iterdir() if f.is_file())


@pytest.mark.parametrize(
    "url", ["http://host:abc/v1", "http://[::1/v1", "http://host:99999999/v1", "ftp://h", "http://"]
)
def test_a_url_that_is_none_is_a_users_mistake(url: str) -> None:
    with pytest.raises(UserError, match="not a server's URL"):
        checked_url(url)
