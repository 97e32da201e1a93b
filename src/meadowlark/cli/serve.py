"""``meadowlark serve``: a model behind OpenAI's interface."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from meadowlark import NOTICE
from meadowlark.cli.options import stdout
from meadowlark.errors import UserError

if TYPE_CHECKING:
    from meadowlark.llm.local import Quantised
    from meadowlark.serve.guard import Limits
    from meadowlark.serve.voices import Voice

Host = Annotated[
    str, typer.Option("--host", help="Address to listen on; wider than loopback needs a key.")
]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")]
KeyVariable = Annotated[
    str,
    typer.Option("--api-key-env", help="NAME of the environment variable that holds the key."),
]
Template = Annotated[
    str | None,
    typer.Option("--template", help="alpaca, alpaca-lora, medalpaca, FILE.toml or FILE.jinja."),
]
QuantiseOption = Annotated[
    str | None, typer.Option("--quantise", help="Hold an hf: model's linear layers in int8 or nf4.")
]
Context = Annotated[
    int | None,
    typer.Option("--context", min=2, help="Most tokens of prompt and answer together (hf:)."),
]


def serve(
    model: Annotated[
        str,
        typer.Argument(
            help="hf:PATH_OR_ID[+ADAPTER]; or openai:NAME@BASE_URL, anthropic:NAME, recorded:FILE, "
            "or a name from models.toml, to put this front before it."
        ),
    ],
    host: Host = "127.0.0.1",
    port: Port = 8000,
    api_key_env: KeyVariable = "",
    name: Annotated[
        str, typer.Option("--name", help="What clients call the model (default: its own name).")
    ] = "",
    vllm: Annotated[
        str,
        typer.Option(
            "--vllm", help="A Python or command that has vLLM, a URL where it runs, or no."
        ),
    ] = "",
    vllm_key_env: Annotated[
        str, typer.Option("--vllm-key-env", help="NAME of the variable with the key of that URL.")
    ] = "",
    vllm_options: Annotated[
        str, typer.Option("--vllm-options", help="More for a vLLM started here, as for a shell.")
    ] = "",
    template: Template = None,
    quantise: QuantiseOption = None,
    context: Context = None,
    max_body: Annotated[
        int, typer.Option("--max-body", min=1024, help="Largest request in bytes.")
    ] = 1 << 20,
    requests_per_minute: Annotated[
        int, typer.Option("--requests-per-minute", min=0, help="From one address; 0: any number.")
    ] = 600,
    grace: Annotated[
        float, typer.Option("--grace", min=0, help="Seconds that answers may go on at a stop.")
    ] = 30.0,
) -> None:
    """Serve a model by OpenAI's interface, on this machine only unless told otherwise.

    Before it listens it proves that prompts are rendered as in training, token
    for token, and refuses to start otherwise. The engine is the vLLM of an
    environment of its own (--vllm, or on the PATH of a machine with a GPU),
    which is held to the same tokens; else our own, which answers many requests
    together and gives the tokens of `answer` and `exam`. Answers are greedy
    unless a request says otherwise.

    A request's user message holds the instruction, or the instruction, then
    "\\n\\n### Input:\\n", then the input, as in training. Prompts and answers are
    not logged. SIGTERM or Ctrl-C: nothing new is taken, answers at work end
    (--grace), a second one ends at once.

    \b
    Examples:
      meadowlark serve hf:runs/demo/model
      meadowlark serve hf:base+tuned --quantise nf4 --port 8010
      meadowlark serve hf:served --vllm ~/vllm/bin/python
      meadowlark serve hf:served --vllm vllm --vllm-options "--tensor-parallel-size 2"
      meadowlark serve hf:served --host 0.0.0.0 --api-key-env MEADOWLARK_SERVER_KEY
    """
    import asyncio

    from meadowlark.serve.guard import Limits

    key = server_key(host, api_key_env)
    limits = Limits(max_body, requests_per_minute)
    asyncio.run(
        _serve(
            model,
            host,
            port,
            key,
            name=name,
            vllm=vllm,
            vllm_key_env=vllm_key_env,
            vllm_options=vllm_options,
            template=template,
            quantise=quantise_of(quantise),
            context=context,
            limits=limits,
            grace=grace,
        )
    )


async def _serve(
    spec: str,
    host: str,
    port: int,
    key: str,
    *,
    name: str,
    vllm: str,
    vllm_key_env: str,
    vllm_options: str,
    template: str | None,
    quantise: Quantised | None,
    context: int | None,
    limits: Limits,
    grace: float,
) -> None:
    from meadowlark.listening import take_address, url_of
    from meadowlark.llm.keys import read_key
    from meadowlark.serve import vllm as engine
    from meadowlark.serve.opening import name_of, open_proof, open_voice
    from meadowlark.serve.server import make_app, run
    from meadowlark.serve.voices import EngineVoice

    provider, _, reference = spec.partition(":")
    name = name or name_of(spec)
    local = provider == "hf" and bool(reference)
    found = vllm
    if not vllm and local:
        found = engine.find() or ""
    if found in ("no", "none"):
        found = ""
    if found and not local:
        raise UserError(f"--vllm is for an hf: model, not {spec!r}")
    at_url = found.startswith(("http://", "https://"))
    _refuse(
        {"--quantise": quantise, "--context": context} if at_url else {},
        f"is for a model that is loaded here; {found} has its own already",
    )
    _refuse(
        {} if found and not at_url else {"--vllm-options": vllm_options},
        "is for a vLLM that is started here: --vllm PYTHON",
    )
    _refuse(
        {} if at_url else {"--vllm-key-env": vllm_key_env},
        "is for a vLLM that runs already: --vllm URL",
    )
    started: engine.Process | None = None
    voice: Voice
    taken = take_address(host, port)
    try:
        if at_url:
            voice = await engine.at_url(found, reference, name, template, read_key(vllm_key_env))
        elif found:
            proof = open_proof(reference, template)
            stdout.print(f"starting {found}", markup=False)
            started = engine.start(
                found,
                reference,
                name,
                template,
                quantise=quantise,
                context=context,
                options=vllm_options,
            )
            await engine.wait(started)
            voice = EngineVoice(name, started.url, name, proof, started.key)
            await voice.prove()
        else:
            voice = open_voice(spec, name, template=template, quantise=quantise, context=context)
        log_requests()
        app = make_app([voice], key=key, limits=limits)
        url = url_of(host, taken) + "/v1"
        await run(app, taken, grace_s=grace, ready=lambda: announce(url, [voice], bool(key)))
    finally:
        taken.close()
        if started is not None:
            started.stop()
    stdout.print("stopped")


def _refuse(typed: Mapping[str, object], why: str) -> None:
    """UserError for the first option that was typed and would do nothing here."""
    for option, value in typed.items():
        if value:
            raise UserError(f"{option} {why}; leave it out")


def server_key(host: str, variable: str) -> str:
    """The key that clients must send; UserError where one is needed and there is none."""
    from meadowlark.listening import is_loopback
    from meadowlark.llm.keys import read_key

    if variable:
        key = read_key(variable)
        if not key:
            raise UserError(
                f"--api-key-env {variable}: that variable is not set. Make a key, for example with "
                f"export {variable}=$(openssl rand -hex 32)"
            )
        if len(key) < 16:
            raise UserError(
                f"the key in {variable} has fewer than 16 characters: it can be guessed"
            )
        return key
    if not is_loopback(host):
        raise UserError(
            f"--host {host} is wider than this machine, so a key is needed: --api-key-env NAME, "
            "the name of an environment variable that holds it"
        )
    return ""


def quantise_of(text: str | None) -> Quantised | None:
    """``int8`` or ``nf4``; UserError for anything else."""
    if text == "int8":
        return "int8"
    if text == "nf4":
        return "nf4"
    if text is not None:
        raise UserError(f"--quantise {text}: expected int8 or nf4")
    return None


def announce(url: str, voices: list[Voice], locked: bool) -> None:
    """Say where the server listens, and what is proved."""
    for voice in voices:
        proof = getattr(voice, "proof", None)
        said = proof.sentence() if proof else "its prompts are its own server's affair"
        stdout.print(f"{voice.name} ({voice.engine}): {said}", markup=False)
    lock = "with its key" if locked else "without a key, from this machine only"
    stdout.print(f"listening on {url} ({lock}). Ctrl-C stops.", markup=False)
    stdout.print(NOTICE, markup=False)


def log_requests() -> None:
    """One line a request on standard error: method, path, status, seconds; no text of anybody."""
    logger = logging.getLogger("meadowlark.serve")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
