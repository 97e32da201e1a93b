"""A user's own models: ``models.toml`` gives a name to a server, and says how to get at it.

One table a model. Keys are never in the file: it names the environment variables that hold them.
The file is the one given by ``--models``, or by MEADOWLARK_MODELS, or ``./models.toml``, or
``~/.config/meadowlark/models.toml``: the first there is.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field

from meadowlark.config import Options, parse
from meadowlark.errors import UserError, did_you_mean
from meadowlark.llm.endpoint import TIMEOUT_S, Access, checked_url
from meadowlark.llm.keys import provider_key
from meadowlark.llm.prices import Price
from meadowlark.llm.rates import Limits

FORMS = (
    "hf:PATH[+ADAPTER], openai:NAME@BASE_URL, anthropic:NAME[@BASE_URL], recorded:FILE, or a name "
    "from models.toml"
)
VARIABLE = "MEADOWLARK_MODELS"
PLACES = (Path("models.toml"), Path("~/.config/meadowlark/models.toml"))
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET_FIELD = re.compile(
    r"(?:.*[-_])?(?:api[-_]?key|key|secret|password|token|bearer|authorization|credentials?)",
    re.IGNORECASE,
)
_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)


class PriceTable(Options):
    """US dollars a million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class LimitTable(Options):
    """What the server allows."""

    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    concurrency: int | None = Field(default=None, ge=1)


class Entry(Options):
    """One model of ``models.toml``."""

    # What a user wrote where it does not belong may be a key: faults are told without values.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kind: Literal["openai", "anthropic"]
    model: str
    url: str = ""
    key_variable: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    proxy: str = ""
    ca_file: Path | None = None
    api_version: str = ""
    body: dict[str, Any] = Field(default_factory=dict)
    timeout_s: float = Field(default=TIMEOUT_S, gt=0)
    price: PriceTable | None = None
    limits: LimitTable = Field(default_factory=LimitTable)

    @property
    def spec(self) -> str:
        """What the entry stands for, as a manifest keeps it: the model as it could be typed, and
        the fields that every request carries."""
        spec = f"{self.kind}:{self.model}" + (f"@{self.url}" if self.url else "")
        return f"{spec} {json.dumps(self.body, sort_keys=True)}" if self.body else spec

    @property
    def known_price(self) -> Price | None:
        """The price that the entry states."""
        return Price(self.price.input, self.price.output) if self.price else None

    @property
    def known_limits(self) -> Limits:
        """The limits that the entry states."""
        return Limits(**self.limits.model_dump())

    @property
    def variable(self) -> str:
        """The environment variable that holds its key; empty where none is sent."""
        if self.key_variable is not None:
            return self.key_variable
        return provider_key(self.url or f"https://api.{self.kind}.com")

    def access(self, name: str) -> Access:
        """How to get at the server, with the values of the variables that headers name."""
        secrets: list[str] = []

        def filled(text: str, what: str) -> str:
            def value(found: re.Match[str]) -> str:
                if not os.environ.get(found[1]):
                    raise UserError(f"{what} of {name!r} names ${{{found[1]}}}, which is not set")
                secrets.append(os.environ[found[1]].strip())
                return secrets[-1]

            return _REFERENCE.sub(value, text)

        return Access(
            key_variable=self.variable,
            headers={k: filled(v, f"the header {k}") for k, v in self.headers.items()},
            proxy=filled(self.proxy, "the proxy"),
            ca_file=self.ca_file.expanduser() if self.ca_file else None,
            api_version=self.api_version,
            timeout_s=self.timeout_s,
            body=self.body,
            secrets=tuple(secrets),
        )


def models_file(given: Path | None = None) -> Path | None:
    """The file in force, or None. One that was named and is not there is a user's mistake."""
    named = given or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if named is not None:
        if not named.expanduser().is_file():
            how = "--models" if given else VARIABLE
            raise UserError(f"{how} names {named}, which is no file")
        return named.expanduser()
    return next((p for p in map(Path.expanduser, PLACES) if p.is_file()), None)


def read_models(file: Path) -> dict[str, Entry]:
    """The entries of a file by name; UserError with every fault, and never a value that is one."""
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    entries = {}
    for name, table in tables.items():
        where = f"{file}, [{name}]"
        if not _NAME.fullmatch(name):
            raise UserError(f"{where}: a name holds letters, digits, '.', '_' and '-' only")
        if not isinstance(table, Mapping):
            raise UserError(f"{where}: expected a table, as [{name}] with kind, model and url")
        entries[name] = parse(dict(table), Entry, where)
        _check(entries[name], where)
    return entries


def _check(entry: Entry, where: str) -> None:
    """What pydantic cannot say without showing the value."""
    if entry.url:
        try:
            checked_url(entry.url)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    elif entry.api_version and entry.kind == "openai":
        raise UserError(f"{where}: an api_version is for a server with a url of its own (Azure)")
    if entry.key_variable and not _ENVIRONMENT_NAME.fullmatch(entry.key_variable):
        raise UserError(
            f"{where}: key_variable is the NAME of an environment variable, as HOSPITAL_LLM_KEY, "
            "and never the key itself"
        )
    for header, value in entry.headers.items():
        if _SECRET_HEADER.search(header) and not _REFERENCE.search(value):
            raise UserError(
                f"{where}: the header {header} looks like a secret; name the environment variable "
                f'that holds it, as {header} = "${{HOSPITAL_TOKEN}}"'
            )
    if secret := _secret_field(entry.body):
        raise UserError(
            f"{where}: body holds {secret}, and what is in the body is written into journals and "
            "manifests; name the key's variable as key_variable, or send it in a header"
        )
    try:
        json.dumps(entry.body, allow_nan=False)
    except (TypeError, ValueError):
        raise UserError(
            f"{where}: body must hold what JSON can: no dates, no nan and no inf"
        ) from None
    try:
        proxy = urlsplit(entry.proxy)
        named = not entry.proxy or entry.proxy.startswith("${")
        sound = named or (proxy.scheme in ("http", "https") and proxy.hostname)
    except ValueError:
        sound = False
    if not sound:
        raise UserError(f"{where}: the proxy is no URL; expected for example http://proxy:3128")
    password = proxy.password
    if password and not _REFERENCE.fullmatch(password):
        raise UserError(f'{where}: a proxy\'s password is named, as "http://me:${{PROXY_KEY}}@…"')


def _secret_field(value: Any) -> str:
    """The name of a field that holds a secret, at any depth; empty where there is none."""
    inner: list[Any] = []
    if isinstance(value, Mapping):
        for name, held in value.items():
            if isinstance(held, str) and _SECRET_FIELD.fullmatch(name):
                return str(name)
        inner = [*value.values()]
    elif isinstance(value, list):
        inner = value
    return next((found for one in inner if (found := _secret_field(one))), "")


def find_model(name: str, given: Path | None = None) -> Entry:
    """The entry with this name; UserError with the closest name where there is none."""
    file = models_file(given)
    if file is None:
        places = ", ".join(str(p) for p in PLACES)
        hint = f" Did you mean 'hf:{name}'?" if Path(name).is_dir() else ""
        raise UserError(
            f"{name!r} names no model, and there is no models.toml that could hold it (looked for: "
            f"--models, {VARIABLE}, {places}).{hint} A model is {FORMS}."
        )
    entries = read_models(file)
    if name not in entries:
        known = ", ".join(entries) or "none"
        raise UserError(
            f"{name!r} is not in {file}.{did_you_mean(name, entries)} There are: {known}"
        )
    return entries[name]
