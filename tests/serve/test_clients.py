"""The official OpenAI clients, in Python and JavaScript, against the server; and engines beside it.

The JavaScript client is looked for where NODE_PATH says.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from running import local_voice, serving
from transformers import AutoModelForCausalLM

from chat_server import ChatServer, chunk, streaming
from meadowlark.errors import MeadowlarkError, ModelError, UserError
from meadowlark.llm import open_chat_model
from meadowlark.llm.chat import ChatReply, ChatRequest, Sampling
from meadowlark.llm.streaming import spoken
from meadowlark.records import Turn
from meadowlark.serve import vllm
from meadowlark.serve.opening import names_of, open_voice
from meadowlark.serve.proof import prove
from meadowlark.serve.voices import Ending, EngineVoice, LocalVoice
from meadowlark.templates import TEMPLATES
from tiny_model import make_tiny_model

# peft 0.21 reads an attribute that transformers 5 renames
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
KEY = "sk-a-key-that-nobody-may-see"
ASK = "Explain fever."
MESSAGES: Any = [{"role": "user", "content": ASK}]


@pytest.fixture(scope="module")
def voice(tiny: Path) -> LocalVoice:
    return local_voice(tiny)


@pytest.fixture(scope="module")
def url(voice: LocalVoice) -> Iterator[str]:
    with serving([voice], key=KEY) as at:
        yield at


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Any]:
    openai = pytest.importorskip("openai", reason="the openai client is not installed")
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def greedy(voice: LocalVoice, most: int = 16, **how: Any) -> str:
    return voice.model.generate([[Turn("user", ASK)]], Sampling(max_tokens=most, **how))[0].text


def test_the_openai_client_gets_answers_and_streams(client: Any, voice: LocalVoice) -> None:
    whole = client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=16)
    assert whole.choices[0].message.content == greedy(voice)
    assert (whole.choices[0].finish_reason, whole.usage.completion_tokens) == ("length", 16)
    chunks = list(
        client.chat.completions.create(
            model="tiny",
            messages=MESSAGES,
            max_tokens=16,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(pieces) == greedy(voice)
    assert len([p for p in pieces if p]) > 3
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].usage == whole.usage
    assert [m.id for m in client.models.list()] == ["tiny"]


def test_the_openai_clients_stop_and_seed_do_what_they_say(client: Any, voice: LocalVoice) -> None:
    text = greedy(voice)
    stop = text[6:9]
    cut = client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=16, stop=stop
    ).choices[0]
    assert (cut.message.content, cut.finish_reason) == (text[: text.index(stop)], "stop")
    how: Any = {"model": "tiny", "messages": MESSAGES, "temperature": 1.0, "max_tokens": 16}
    drawn = [
        client.chat.completions.create(**how, seed=seed).choices[0].message.content
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == greedy(voice, temperature=1.0, seed=1)


def test_the_openai_client_raises_its_own_errors(client: Any, url: str) -> None:
    import openai

    complete = client.chat.completions.create
    with pytest.raises(openai.NotFoundError, match="there are: tiny"):
        complete(model="gpt-4", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError) as caught:
        complete(model="tiny", messages=MESSAGES, n=3)
    assert caught.value.param == "n"
    with openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as refused:
            stranger.chat.completions.create(model="tiny", messages=MESSAGES)
        assert KEY not in str(refused.value)


def test_the_javascript_client_gets_answers_and_streams(url: str, voice: LocalVoice) -> None:
    node, modules = shutil.which("node"), Path(os.environ.get("NODE_PATH", "nowhere")) / "openai"
    if node is None or not modules.is_dir():
        pytest.skip("no node, or no openai package where NODE_PATH says")
    script = f"""
    const {{ OpenAI }} = require("openai");
    const apiKey = process.env.THE_KEY;
    const client = new OpenAI({{ baseURL: "{url}/v1", apiKey, maxRetries: 0 }});
    const ask = {{ model: "tiny", messages: {json.dumps(MESSAGES)}, max_tokens: 16 }};
    (async () => {{
      const whole = await client.chat.completions.create(ask);
      let streamed = "";
      for await (const c of await client.chat.completions.create({{ ...ask, stream: true }}))
        streamed += c.choices[0]?.delta?.content ?? "";
      let status = 0;
      try {{ await client.chat.completions.create({{ ...ask, model: "none" }}); }}
      catch (e) {{ status = e.status; }}
      console.log(JSON.stringify([whole.choices[0].message.content, streamed, status]));
    }})();
    """
    done = subprocess.run(
        [node, "-e", script], capture_output=True, text=True, env={**os.environ, "THE_KEY": KEY}
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [greedy(voice), greedy(voice), 404]


# ----- checkpoints of every kind


async def said(voice: Any, most: int = 16) -> tuple[str, Ending]:
    pieces, ending = [], None
    async for item in voice.answer([Turn("user", ASK)], Sampling(max_tokens=most)):
        if isinstance(item, Ending):
            ending = item
        else:
            pieces.append(item)
    assert ending is not None
    return "".join(pieces), ending


def test_served_tokens_are_those_of_plain_transformers(tmp_path: Path) -> None:
    """Full and adapter checkpoints: transformers' (and peft's) own greedy answer, by id."""
    folder = make_tiny_model(tmp_path / "base")
    torch.manual_seed(3)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    tuned = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config)
    tuned.save_pretrained(tmp_path / "adapter")
    full = AutoModelForCausalLM.from_pretrained(folder)
    text = TEMPLATES["alpaca"].render([Turn("user", ASK)], bos="<s>")
    found = []
    for reference, model in ((folder, full), (f"{folder}+{tmp_path / 'adapter'}", tuned)):
        voice = local_voice(reference, "served")
        ids = voice.model.prompter.encode([text])
        assert voice.tokens([Turn("user", ASK)]) == ids[0]
        out = model.generate(
            input_ids=torch.tensor(ids),
            attention_mask=torch.ones(1, len(ids[0]), dtype=torch.long),
            max_new_tokens=16,
            do_sample=False,
            pad_token_id=1,
        )[0, len(ids[0]) :].tolist()
        expected = voice.model.prompter.decode(out), Ending("length", len(ids[0]), 16)
        assert asyncio.run(said(voice)) == expected
        asyncio.run(voice.close())
        found.append(expected)
    assert found[0] != found[1]


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_quantised_checkpoints_are_served(tmp_path: Path, kind: Any) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    folder = make_tiny_model(tmp_path / "base", width=64)
    voice = local_voice(folder, quantise=kind)
    assert kind in voice.model.dtype
    assert asyncio.run(said(voice))[0] == greedy(voice)
    asyncio.run(voice.close())


def test_a_checkpoint_whose_template_is_not_trainings_is_not_served(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "base")
    (folder / "config.toml").write_text('[data]\ntemplate = "alpaca"\n')
    voice = local_voice(folder)
    assert "as recorded in" in voice.proof.sentence()
    asyncio.run(voice.close())
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text().replace("### Response:", "### Answer:"))
    with pytest.raises(MeadowlarkError, match="not served"):
        local_voice(folder)
    (folder / "config.toml").write_text('[data]\ntemplate = "medalpaca"\n')
    with pytest.raises(MeadowlarkError, match="trained with the template medalpaca"):
        local_voice(folder)


def test_a_second_bos_or_another_tokenisation_is_found(tiny: Path) -> None:
    from meadowlark.llm.prompter import open_prompter

    prompter = open_prompter(str(tiny), None)
    whole = prompter.tokenizer.chat_template
    assert prove(prompter).refused == 0
    prompter.tokenizer.chat_template = "{{- bos_token -}}" + whole
    with pytest.raises(MeadowlarkError, match="2 begin tokens"):
        prove(prompter)


def test_models_get_names_that_differ(tiny: Path, tmp_path: Path) -> None:
    run = make_tiny_model(tmp_path / "run" / "model")
    specs = [
        f"hf:{tiny}",
        f"hf:{tiny}",
        f"hf:{run}",
        "openai:llama@http://localhost:1/v1",
        "hf:a/b",
    ]
    assert names_of(specs) == ["tiny", "tiny-2", "run-model", "llama", "a/b"]


# ----- an engine beside us


def test_an_engine_is_held_to_trainings_tokens_and_streams(
    url: str, voice: LocalVoice, tiny: Path, tmp_path: Path
) -> None:
    """Our own server stands in for vLLM: it speaks the two paths that are used of it."""

    async def through() -> tuple[str, Ending]:
        engine = await vllm.at_url(url, str(tiny), "tiny", None, KEY)
        try:
            return await said(engine)
        finally:
            await engine.close()

    text, ending = asyncio.run(through())
    assert text == greedy(voice)
    assert (ending.finish, ending.tokens_out) == ("length", 16)
    untrained = make_tiny_model(tmp_path / "medalpaca", template="medalpaca")
    with pytest.raises(MeadowlarkError, match="differs from training at token"):
        asyncio.run(vllm.at_url(url, str(untrained), "tiny", None, KEY))
    with pytest.raises(UserError, match="no server tells its models"):
        asyncio.run(vllm.at_url(url, str(tiny), "tiny", None, "wrong"))
    with pytest.raises(UserError, match="no server tells its models"):
        asyncio.run(vllm.at_url("http://127.0.0.1:9", str(tiny), "tiny", None))


def test_this_server_before_another_streams_through_both(
    url: str, voice: LocalVoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``serve openai:…`` and ``chat openai:…`` with ``serve`` itself behind them."""
    monkeypatch.setenv("MEADOWLARK_API_KEY", KEY)
    front = open_voice(f"openai:tiny@{url}/v1", "front")
    with serving([front]) as at:
        monkeypatch.setenv("MEADOWLARK_API_KEY", "")
        model = open_chat_model(f"openai:front@{at}/v1")
        request = ChatRequest((Turn("user", ASK),), Sampling(max_tokens=16))
        pieces = list(spoken(model, request))
        assert "".join(pieces) == greedy(voice)
        assert len(pieces) > 3

        async def at_once() -> ChatReply:
            try:
                return await model.reply(request)
            finally:
                await model.close()

        whole = asyncio.run(at_once())
    assert (whole.text, whole.finish, whole.tokens_out) == (greedy(voice), "length", 16)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((chunk("A"),), "broke off"),
        ((chunk("A"), b'data: {"error": {}}\n\n'), "failed in the middle"),
        ((chunk("A"), b"data: 3\n\n"), "did not answer"),
    ],
)
def test_an_engine_that_breaks_off_is_no_end(
    parts: tuple[bytes, ...], message: str, voice: LocalVoice
) -> None:
    async def through(url: str) -> None:
        engine = EngineVoice("tiny", url, "tiny", voice.proof)
        try:
            async for item in engine.answer([Turn("user", ASK)], Sampling()):
                assert item == "A"
        finally:
            await engine.close()

    with ChatServer(streaming(*parts)) as server, pytest.raises(ModelError, match=message):
        asyncio.run(through(server.url))


@pytest.mark.slow
def test_a_vllm_of_another_environment_is_started_proved_and_ended(
    tiny: Path, tmp_path: Path, voice: LocalVoice
) -> None:
    """A stand-in package named vllm, reached only through another Python's command line."""
    package = tmp_path / "elsewhere" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    (package / "api_server.py").write_text(
        textwrap.dedent(f"""
        import os, sys
        sys.path[:0] = {sys.path!r}
        from pathlib import Path
        from meadowlark.cli import run
        def after(name):
            return sys.argv[sys.argv.index(name) + 1]
        assert after("--host") == "127.0.0.1"
        sys.exit(run(["serve", "hf:" + after("--model"), "--name", after("--served-model-name"),
            "--template", after("--chat-template"), "--port", after("--port"), "--vllm", "no",
            "--api-key-env", "VLLM_API_KEY"]))
        """)
    )
    python = tmp_path / "elsewhere" / "python3"
    python.write_text(f'#!/bin/sh\ncd "$(dirname "$0")" && exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    started = vllm.start(str(python), str(tiny), "tuned", None)
    try:

        async def through() -> str:
            await vllm.wait(started, 60)
            engine = EngineVoice("tuned", started.url, "tuned", voice.proof, started.key)
            await engine.prove()
            text, _ = await said(engine)
            await engine.close()
            return text

        assert asyncio.run(through()) == greedy(voice)
        assert started.key not in repr(started)
    finally:
        started.stop()
    assert started.process.returncode is not None


def test_a_vllm_that_does_not_start_says_why(tiny: Path, tmp_path: Path) -> None:
    broken = tmp_path / "python3"
    broken.write_text(
        "#!/bin/sh\necho worker: ValueError: no GPU here $VLLM_API_KEY >&2\n"
        "for i in 1 2 3 4 5 6 7 8 9; do echo line $i; done; exit 3\n"
    )
    broken.chmod(0o755)
    started = vllm.start(str(broken), str(tiny), "tuned", None)
    with pytest.raises(UserError, match=r"ended with 3(.|\n)*no GPU here \*\*\*"):
        asyncio.run(vllm.wait(started, 30))
    started.stop()
    with pytest.raises(UserError, match="cannot be started"):
        vllm.start(str(tmp_path / "none"), str(tiny), "tuned", None)


def test_how_vllm_is_asked_for_an_adapter(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 24, "base_model_name_or_path": "base"})
    )
    options = "--tensor-parallel-size 2 --tool 'a b'"
    line = vllm.command_line(
        "vllm", f"base+{tmp_path}", "tuned", 1, Path("t"), context=512, options=options
    )
    assert line[:3] == ["vllm", "serve", "base"]
    assert line[line.index("--lora-modules") + 1] == f"tuned={tmp_path}"
    assert line[line.index("--max-lora-rank") + 1] == "32"
    assert line[line.index("--max-model-len") + 1] == "512"
    assert line[line.index("--dtype") + 1] == "float32"  # ours, where there is no GPU
    assert line[-4:] == ["--tensor-parallel-size", "2", "--tool", "a b"]
    with pytest.raises(UserError, match=r"--vllm-options .* No closing quotation"):
        vllm.command_line("vllm", "base", "tuned", 1, Path("t"), options="'a")
