"""models.toml: what a name stands for, where the file is looked for, and no key in any message."""

from __future__ import annotations

from pathlib import Path

import pytest

from meadowlark.errors import UserError
from meadowlark.llm import AnthropicModel, Limits, OpenAIModel, Price, identify, open_model
from meadowlark.llm.catalogue import find_model, models_file, read_models

SECRET = "sk-typed-into-the-wrong-place-0123456789"
WHOLE = """
[teacher]
kind = "openai"
url = "https://llm.hospital.example/v1"
model = "llama-3.3-70b"
key_variable = "HOSPITAL_LLM_KEY"
headers = { "X-Department" = "radiology", "X-Token" = "Token ${GATEWAY_TOKEN}" }
proxy = "http://me:${PROXY_PASSWORD}@proxy.hospital.example:3128"
timeout_s = 120
body = { reasoning_effort = "low" }
price = { input = 0.5, output = 1.5 }
limits = { requests_per_minute = 3000, tokens_per_minute = 500000, concurrency = 50 }

[judge]
kind = "anthropic"
model = "claude-sonnet-4-5"
"""


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any models.toml and without keys."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("MEADOWLARK_MODELS", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "MEADOWLARK_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def write(path: Path, text: str = WHOLE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_an_entry_is_opened_with_all_that_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "m.toml")
    monkeypatch.setenv("HOSPITAL_LLM_KEY", "the-hospitals-key")
    monkeypatch.setenv("GATEWAY_TOKEN", "the-gateways-token")
    monkeypatch.setenv("PROXY_PASSWORD", "the-proxys-password")
    model = open_model("teacher", models=file)
    assert isinstance(model, OpenAIModel)
    assert model.name == "llama-3.3-70b"
    assert model.endpoint == (
        'https://llm.hospital.example/v1/chat/completions {"reasoning_effort": "low"}'
    )
    assert model.price == Price(0.5, 1.5)
    assert model.limits == Limits(3000, 500_000, 50)
    server = model._server
    assert server._headers["Authorization"] == "Bearer the-hospitals-key"
    assert server._headers["X-Department"] == "radiology"
    assert server._headers["X-Token"] == "Token the-gateways-token"
    assert server._proxy == "http://me:the-proxys-password@proxy.hospital.example:3128"
    assert server._timeout.total == 120
    said = "the-hospitals-key the-gateways-token the-proxys-password"
    assert server.scrub(said) == "[key] [key] [key]"


def test_a_manifest_knows_a_name_by_what_it_stands_for(tmp_path: Path) -> None:
    file = write(tmp_path / "m.toml")
    spec = 'openai:llama-3.3-70b@https://llm.hospital.example/v1 {"reasoning_effort": "low"}'
    assert identify("teacher", file) == (spec, {})
    assert identify("judge", file) == ("anthropic:claude-sonnet-4-5", {})


def test_an_entry_gets_the_key_it_names_or_its_providers_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEADOWLARK_API_KEY", "for-typed-urls-only")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "for-anthropic")
    gateway = '[g]\nkind = "openai"\nmodel = "m"\nurl = "https://gateway.example/v1"\n'
    file = write(tmp_path / "m.toml", gateway + WHOLE)
    plain, official = open_model("g", models=file), open_model("judge", models=file)
    assert isinstance(plain, OpenAIModel)
    assert isinstance(official, AnthropicModel)
    assert "Authorization" not in plain._server._headers
    assert official._server._headers["x-api-key"] == "for-anthropic"
    assert official.price == Price(3.0, 15.0)


def test_the_file_is_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models_file() is None
    at_home = write(tmp_path / "home" / ".config" / "meadowlark" / "models.toml")
    assert models_file() == at_home
    write(tmp_path / "here" / "models.toml")
    assert models_file() == Path("models.toml")
    named = write(tmp_path / "named.toml")
    monkeypatch.setenv("MEADOWLARK_MODELS", str(named))
    assert models_file() == named
    given = write(tmp_path / "given.toml")
    assert models_file(given) == given
    for wrong, how in ((tmp_path / "none.toml", "--models"), (None, "MEADOWLARK_MODELS")):
        monkeypatch.setenv("MEADOWLARK_MODELS", str(tmp_path / "gone.toml"))
        with pytest.raises(UserError, match=rf"{how} names .*\.toml, which is no file"):
            models_file(wrong)


def test_an_unknown_name_is_answered_with_the_closest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no models\.toml that could hold it .*A model is hf:PATH"):
        find_model("teacher")
    (tmp_path / "here" / "model").mkdir()
    with pytest.raises(UserError, match=r"Did you mean 'hf:model'\?"):
        find_model("model")
    file = write(tmp_path / "m.toml")
    with pytest.raises(UserError, match=r"Did you mean 'teacher'\? There are: teacher, judge"):
        find_model("techer", file)


BASE = 'kind = "openai"\nmodel = "m"\nurl = "https://gateway.example/v1"\n'


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (f'key_variable = "{SECRET}"', "NAME of an environment variable"),
        (f'headers = {{ "Authorization" = "Bearer {SECRET}" }}', "Authorization looks like a secr"),
        (f'headers = {{ "X-Api-Key" = "{SECRET}" }}', "X-Api-Key looks like a secret"),
        (f'headers = "{SECRET}"', "headers: Input should be a valid dictionary"),
        (f'key = "{SECRET}"', r"key: unknown key\. Known: "),
        (f'proxy = "http://me:{SECRET}@proxy:3128"', "a proxy's password is named"),
        (f'price = "{SECRET}"', "price: Input should be a valid dictionary"),
        (f'keyvariable = "{SECRET}"', "Did you mean 'key_variable'"),
        ("price = { input = -1, output = 1 }", "greater than or equal to 0"),
        ("price = { input = 1 }", r"price\.output: missing"),
        ("limits = { request_per_minute = 1 }", "Did you mean 'requests_per_minute'"),
        ("limits = { concurrency = 0 }", "greater than or equal to 1"),
    ],
)
def test_a_fault_is_named_and_no_secret_is_repeated(lines: str, said: str, tmp_path: Path) -> None:
    file = write(tmp_path / "m.toml", f"[x]\n{BASE}{lines}\n")
    with pytest.raises(UserError, match=said) as caught:
        read_models(file)
    assert str(file) in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'[x]\nkind = "openai"\nmodel = "m"\nurl = "http://me:{SECRET}@h/v1"', "must not hold"),
        ('[x]\nkind = "azure"\nmodel = "m"', "kind: Input should be 'openai' or 'anthropic'"),
        ('[x]\nkind = "openai"', "model: missing"),
        ('[x]\nkind = "openai"\nmodel = "m"\napi_version = "1"', "a server with a url of its own"),
        ('["a:b"]\nkind = "openai"\nmodel = "m"', "a name holds letters"),
        (
            f'[x]\nkind = "openai"\nmodel = "m"\nbody = {{ api_key = "{SECRET}" }}',
            "body holds api_k",
        ),
        (f'[x]\nkind = "openai"\nmodel = "m"\nbody.a = [{{ auth-token = "{SECRET}" }}]', "body ho"),
        ('[x]\nkind = "openai"\nmodel = "m"\nbody = { since = 2020-01-01 }', "what JSON can"),
        ('[x]\nkind = "openai"\nmodel = "m"\nbody = { top_a = nan }', "what JSON can"),
        ('[x]\nkind = "openai"\nmodel = "m"\nproxy = "http://[::1"', "the proxy is no URL"),
        ('[x]\nkind = "openai"\nmodel = "m"\nproxy = "proxy:3128"', "the proxy is no URL"),
        ("x = 1", "expected a table"),
        ("[x", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(text: str, said: str, tmp_path: Path) -> None:
    file = write(tmp_path / "m.toml", text)
    with pytest.raises(UserError, match=said) as caught:
        read_models(file)
    assert SECRET not in str(caught.value)


def test_a_header_whose_variable_is_not_set_is_a_users_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GATEWAY_TOKEN", raising=False)
    file = write(tmp_path / "m.toml")
    with pytest.raises(UserError, match=r"the header X-Token of 'teacher' names \$\{GATEWAY_TOK"):
        open_model("teacher", models=file)
