"""Packages: one answer from every loader, the template as trained, and a card that is true."""

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from meadowlark.config import parse
from meadowlark.curate.mix import mix
from meadowlark.dataset import open_run, read_manifest, write_json
from meadowlark.errors import FolderDiffers, MeadowlarkError, UserError
from meadowlark.llm.chat import Sampling
from meadowlark.llm.local import open_local
from meadowlark.records import Record, Turn, to_json
from meadowlark.sources.convert import convert
from meadowlark.templates import TEMPLATES, user_content
from meadowlark.train import package as stage
from meadowlark.train import served, weights
from meadowlark.train.options import TrainOptions, to_toml
from meadowlark.train.package import package
from meadowlark.train.run import train
from meadowlark.train.tokenizer import load_tokenizer
from tiny_model import make_tiny_model, make_tokenizer

pytestmark = pytest.mark.filterwarnings(  # in peft itself
    "ignore:.*is_gradient_checkpointing:FutureWarning"
)
SCRATCH = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "vocabulary": 500, "context": 512}
LORA = {"rank": 4, "alpha": 32, "targets": ["q_proj", "v_proj", "down_proj"]}
PROMPTS = [
    [Turn("user", "What does the skin do?")],
    [Turn("user", user_content("Name one sign.", "A patient of 41 years asks."))],
    [Turn("user", "Hello?"), Turn("assistant", "How can I help?"), Turn("user", "And the brain?")],
]
NEW_TOKENS = 24


def options(rows: Path, **sections: Any) -> TrainOptions:
    values: dict[str, Any] = {
        "model": {"from_scratch": SCRATCH},
        "data": {"path": str(rows), "template": "alpaca"},
        "optimiser": {"learning_rate": 5e-3, "batch_rows": 4, "epochs": 4},
        **sections,
    }
    return parse(values, TrainOptions, "test")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, records: list[Record]) -> Path:
    """Runs as a user has them: converted, mixed, ``full`` trained, ``adapter`` trained on it."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "own.json").write_text(
        json.dumps([to_json(r) | {"source": "ward", "licence": "CC-BY-NC-4.0"} for r in records])
    )
    convert("patient_questions", folder / "converted", limit=30)
    mix([f"{folder / 'own.json'}=16", f"{folder / 'converted'}=12"], folder / "mixed", val=4)
    train(options(folder / "mixed"), folder / "full")
    base = {"base": str(folder / "full")}
    train(options(folder / "mixed", model=base, lora=LORA), folder / "adapter")
    return folder


@pytest.fixture(scope="module")
def packages(home: Path) -> Path:
    """The three forms, in float32."""
    folder = home / "packages"
    package(home / "full", folder / "full", dtype="float32")
    package(home / "adapter", folder / "adapter")
    package(home / "adapter", folder / "merged", merge=True, dtype="float32")
    return folder


def answers(model: Any, tokenizer: Any) -> list[str]:
    """Greedy, by transformers' own template and generation, with the defaults of the folder."""
    found = []
    for turns in PROMPTS:
        prompt = tokenizer.apply_chat_template(
            [turn._asdict() for turn in turns],
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )
        made = model.generate(**prompt, max_new_tokens=NEW_TOKENS)
        new = made[0, prompt["input_ids"].shape[1] :]
        found.append(tokenizer.decode(new, skip_special_tokens=True))
    return found


def our_answers(reference: str) -> list[str]:
    replies = open_local(reference).generate(PROMPTS, Sampling(max_tokens=NEW_TOKENS))
    return [reply.text for reply in replies]


def auto(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


# --------------------------------------------------------------------------- one answer everywhere


def test_full_weights_answer_as_the_run_in_plain_transformers(home: Path, packages: Path) -> None:
    expected = our_answers(str(home / "full"))
    assert answers(*auto(packages / "full")) == expected
    assert our_answers(str(packages / "full")) == expected
    assert any(expected)


def test_adapter_and_merged_weights_answer_as_the_run_in_peft_and_transformers(
    home: Path, packages: Path
) -> None:
    from peft import PeftModel

    expected = our_answers(f"{home / 'full'}+{home / 'adapter'}")
    assert expected != our_answers(str(home / "full"))
    assert answers(*auto(packages / "merged")) == expected
    assert our_answers(str(packages / "merged")) == expected
    base, tokenizer = auto(home / "full")[0], auto(packages / "full")[1]
    assert answers(PeftModel.from_pretrained(base, packages / "adapter"), tokenizer) == expected
    base = auto(home / "full")[0]
    base.load_adapter(str(packages / "adapter"))
    assert answers(base, tokenizer) == expected
    assert our_answers(f"{packages / 'full'}+{packages / 'adapter'}") == expected


@pytest.mark.parametrize("form", ["full", "merged", "adapter"])
def test_the_code_in_the_card_runs_and_answers_as_the_run(
    home: Path, packages: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The text of the card's Python block, but for its two names, which become folders here."""
    text = (packages / form / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)\n```", text, re.S)
    name = f'name = "{form}"'
    if form == "adapter":
        name = 'name, base = "adapter", "FOLDER_OF_THE_BASE"'
        there = f"name, base = {str(packages / form)!r}, {str(home / 'full')!r}"
    else:
        there = f"name = {str(packages / form)!r}"
    assert name in code
    capsys.readouterr()
    exec(code.replace(name, there), {})
    reference = f"{home / 'full'}" + (f"+{home / 'adapter'}" if form != "full" else "")
    turns = [Turn("user", "What does the liver do?")]
    expected = open_local(reference).generate([turns], Sampling(max_tokens=256))[0].text
    assert capsys.readouterr().out == expected + "\n"


@pytest.fixture
def server(packages: Path) -> Iterator[str]:
    """``transformers serve`` of the merged package, in a process of its own."""
    for module in ("fastapi", "uvicorn", "openai"):
        if not importlib.util.find_spec(module):
            pytest.skip(f"transformers serve needs {module}: pip install 'transformers[serving]'")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()"]
    command += ["serve", str(packages / "merged"), "--port", str(port)]
    process = subprocess.Popen(
        command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stderr=subprocess.PIPE
    )
    address = f"http://localhost:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=1)
                break
            except OSError:
                assert process.poll() is None, process.communicate()[1].decode()
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.slow
def test_transformers_serve_answers_as_the_run(home: Path, packages: Path, server: str) -> None:
    expected = our_answers(f"{home / 'full'}+{home / 'adapter'}")
    for turns, text in zip(PROMPTS, expected, strict=True):
        body = {
            "model": str(packages / "merged"),
            "messages": [turn._asdict() for turn in turns],
            "max_tokens": NEW_TOKENS,
        }
        request = urllib.request.Request(
            f"{server}/v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            assert json.load(reply)["choices"][0]["message"]["content"] == text


# --------------------------------------------------------------------------- the weights


def test_weights_are_bfloat16_unless_asked_and_rounded_once(home: Path, tmp_path: Path) -> None:
    run = package(home / "full", tmp_path / "full")
    assert run.manifest.results["dtype"] == "bfloat16"
    assert "nothing overflows" in run.manifest.results["dtype_because"]
    trained = load_file(home / "full" / "model.safetensors")
    for name, tensor in load_file(tmp_path / "full" / "model.safetensors").items():
        assert torch.equal(tensor, trained[name].bfloat16()), name
    config = json.loads((tmp_path / "full" / "config.json").read_text())
    assert config["dtype"] == config["torch_dtype"] == "bfloat16"
    assert config["use_cache"] is True
    assert auto(tmp_path / "full")[0].dtype == torch.bfloat16


def adapt(base: Path, folder: Path, added: int = 0, **lora: Any) -> Path:
    """An adapter with random weights on ``base``, saved by peft as train saves one."""
    from peft import LoraConfig, get_peft_model

    model = weights.load(base, "float32")
    if added:
        model.resize_token_embeddings(model.config.vocab_size + added, mean_resizing=False)
    targets = lora.pop("target_modules", ["q_proj", "down_proj"])
    config = LoraConfig(
        r=4, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM", init_lora_weights=False
    )
    for name, value in lora.items():
        setattr(config, name, value)
    torch.manual_seed(3)
    tuned = get_peft_model(model, config)
    for name, tensor in tuned.named_parameters():
        if tensor.requires_grad and "lora_" not in name:
            torch.nn.init.normal_(tensor, std=0.3)
    tuned.save_pretrained(folder, save_embedding_layers=False)
    return folder


VARIANTS = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "embeddings": {"modules_to_save": ["embed_tokens", "lm_head"], "added": 5},
}


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.filterwarnings("ignore:Model with `tie_word_embeddings=True`")
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("tied", [False, True])
def test_merged_weights_give_the_logits_of_peft_unmerged(
    tmp_path: Path, variant: str, tied: bool
) -> None:
    base = make_tiny_model(tmp_path / "base", tie_word_embeddings=tied)
    adapter = adapt(base, tmp_path / "adapter", **VARIANTS[variant])
    weights.save(weights.merge(str(base), adapter, "float32"), "float32", tmp_path / "merged")
    merged = weights.load(tmp_path / "merged", "auto").eval()
    unmerged = weights.put_on(weights.load(base, "float32"), str(adapter)).eval()
    ids = torch.arange(5, 45)[None]
    with torch.inference_mode():
        expected, found = unmerged(input_ids=ids).logits, merged(input_ids=ids).logits
        plain = weights.load(base, "float32")(input_ids=ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found[..., : plain.shape[-1]] - plain).abs().max() > 0.1
    assert merged.get_input_embeddings().num_embeddings == 400 + VARIANTS[variant].get("added", 0)


def test_a_merge_into_half_precision_rounds_the_float32_sum_once(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    half = weights.load(base, "bfloat16")
    half.save_pretrained(tmp_path / "half")
    adapter = adapt(tmp_path / "half", tmp_path / "adapter")
    exact = weights.merge(str(tmp_path / "half"), adapter, "float32").state_dict()
    merged = weights.merge(str(tmp_path / "half"), adapter, "bfloat16").state_dict()
    for name, tensor in merged.items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, exact[name].bfloat16()), name


def test_large_files_that_stay_as_they_are_are_not_copied(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a run that is trained anew leaves the package as it was."""
    monkeypatch.setattr(weights, "LARGE", 1)
    full = home / "again"
    small = {"model": {"from_scratch": SCRATCH}, "optimiser": {"learning_rate": 1e-3}}
    train(options(home / "mixed", **small), full, limit=8)
    run = package(full, tmp_path / "packaged", dtype="float32")
    assert run.manifest.results["weights"] in ("hard link", "shared blocks")
    placed = tmp_path / "packaged" / "model.safetensors"
    if run.manifest.results["weights"] == "hard link":
        assert placed.samefile(full / "model.safetensors")
    before = placed.read_bytes()
    train(options(home / "mixed", **small), full, limit=9, force=True)
    assert placed.read_bytes() == before != (full / "model.safetensors").read_bytes()


def test_weights_beyond_float16_are_refused(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "wide")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = 1e6
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"float16 cannot hold model\.norm\.weight"):
        package(folder, tmp_path / "out", dtype="float16")
    package(folder, tmp_path / "out", dtype="bfloat16")


def test_large_weights_are_written_in_shards(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "SHARD", "100KB")
    run = package(home / "full", tmp_path / "out")
    shards = sorted((tmp_path / "out").glob("model-*.safetensors"))
    assert len(shards) > 1
    assert {path.name for path in shards} | {"model.safetensors.index.json"} <= set(
        run.manifest.outputs
    )
    assert answers(*auto(tmp_path / "out")) == our_answers(str(tmp_path / "out"))
    assert not list((tmp_path / "out").glob("*.bin"))


@pytest.mark.filterwarnings("ignore:Model (has|with) `tie_word_embeddings=True`")
@pytest.mark.parametrize("tied", [False, True])
def test_added_tokens_go_out_with_their_embeddings(tmp_path: Path, tied: bool) -> None:
    """The base has 400 embeddings; the adapter was trained with 3 tokens more."""
    base = make_tiny_model(tmp_path / "base", tie_word_embeddings=tied)
    trained = {"modules_to_save": ["embed_tokens", "lm_head"], "added": 3}
    adapter = adapt(base, tmp_path / "adapter", **trained)
    tokenizer = load_tokenizer(base, None)
    tokens = ["<|dose|>", "<|unit|>", "<|route|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    tokenizer.save_pretrained(adapter)
    expected = our_answers(f"{base}+{adapter}")
    assert expected != our_answers(str(base))
    package(adapter, tmp_path / "merged", merge=True, dtype="float32")
    assert answers(*auto(tmp_path / "merged")) == our_answers(str(tmp_path / "merged")) == expected
    made = load_tokenizer(tmp_path / "merged", None)
    assert made.convert_tokens_to_ids(tokens) == [400, 401, 402]
    assert made.tokenize("10 <|unit|>")[-1] == "<|unit|>"
    config = json.loads((tmp_path / "merged" / "tokenizer_config.json").read_text())
    assert config["additional_special_tokens"] == tokens
    package(adapter, tmp_path / "alone")
    assert (
        "(trained embeddings): package it with `--merge`"
        in (tmp_path / "alone" / "README.md").read_text()
    )


# --------------------------------------------------------------------------- what servers read


def test_prompts_of_the_package_are_the_template_in_python_with_one_begin_token(
    packages: Path,
) -> None:
    for form in ("full", "merged", "adapter"):
        tokenizer = auto(packages / "full")[1] if form == "full" else None
        tokenizer = tokenizer or load_tokenizer(packages / form, None)
        bos, eos = tokenizer.bos_token, tokenizer.eos_token
        for turns in PROMPTS:
            ids = tokenizer.apply_chat_template(
                [turn._asdict() for turn in turns], add_generation_prompt=True, return_dict=False
            )
            text = TEMPLATES["alpaca"].render(turns, bos=bos, eos=eos)
            assert tokenizer.decode(ids) == text
            assert ids.count(tokenizer.bos_token_id) == 1
            assert ids[0] == tokenizer.bos_token_id


def test_the_files_say_what_transformers_4_looks_for(packages: Path) -> None:
    """As read in its sources, 4.45 and 4.57; with both, packages gave the same greedy answers."""
    for form in ("full", "merged", "adapter"):
        folder = packages / form
        config = json.loads((folder / "tokenizer_config.json").read_text())
        assert config["chat_template"] == (folder / "chat_template.jinja").read_text()
        assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
        assert config["model_input_names"] == ["input_ids", "attention_mask"]
        assert not isinstance(config.get("extra_special_tokens"), list)
    config = json.loads((packages / "merged" / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 10_000
    assert config["torch_dtype"] == "float32"


def test_scaled_rotary_positions_are_told_to_transformers_4_too(tmp_path: Path) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256,
    }
    folder = make_tiny_model(tmp_path / "long", rope_parameters=rope)
    package(folder, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["rope_theta"] == 500_000
    assert config["rope_scaling"] == {k: v for k, v in rope.items() if k != "rope_theta"}
    assert auto(tmp_path / "out")[0].config.rope_parameters == rope
    assert our_answers(str(tmp_path / "out")) == our_answers(str(folder))


def test_generation_ends_where_training_ended_and_samples_nothing(
    tmp_path: Path, packages: Path
) -> None:
    config = json.loads((packages / "full" / "generation_config.json").read_text())
    tokenizer = auto(packages / "full")[1]
    assert config["eos_token_id"] == tokenizer.eos_token_id
    assert config["pad_token_id"] == tokenizer.pad_token_id != config["eos_token_id"]
    assert config["do_sample"] is False
    assert "max_new_tokens" not in config
    folder = make_tiny_model(tmp_path / "chatty")
    published = {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [7, 9]}
    write_json(folder / "generation_config.json", published)
    package(folder, tmp_path / "out", dtype="float16")
    config = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert config["eos_token_id"] == [1, 7, 9]  # the tokenizer's own, then the base's
    assert not {"temperature", "top_p"} & config.keys()
    model = auto(tmp_path / "out")[0]
    model.save_pretrained(tmp_path / "saved again")


def test_the_real_llama_2_tokenizer_goes_out_with_its_pieces(
    real_data: Path, tmp_path: Path
) -> None:
    """llama.cpp takes the scores of SentencePiece's pieces from tokenizer.model alone."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    base = tmp_path / "Llama-2-tiny"
    base.mkdir()
    shutil.copyfile(real_data / "tokenizers" / "llama2_tokenizer.model", base / "tokenizer.model")
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    rules = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": False}
    write_json(base / "tokenizer_config.json", {**rules, **names})
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2)).save_pretrained(base)
    package(base, tmp_path / "out", template="alpaca")
    pieces = (tmp_path / "out" / "tokenizer.model").read_bytes()
    assert pieces == (base / "tokenizer.model").read_bytes()
    config = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert config["added_tokens_decoder"]["2"]["content"] == "</s>"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (
        tokenizer("A cough")["input_ids"]
        == AutoTokenizer.from_pretrained(base)("A cough")["input_ids"]
    )
    card = (tmp_path / "out" / "README.md").read_text()
    assert "add_special_tokens=False" in card  # its tokenizer adds a BOS of its own
    (base / "tokenizer.model").rename(tmp_path / "elsewhere")
    tokenizer.save_pretrained(base)
    package(base, tmp_path / "without", template="alpaca")
    assert "words are split wrongly" in (tmp_path / "without" / "README.md").read_text()


# --------------------------------------------------------------------------- the proof can fail


def tampered(change: Any) -> Any:
    """save_served_tokenizer, and then ``change`` on its folder."""
    save = served.save_served_tokenizer

    def saved(tokenizer: Any, folder: Path, pieces: Path | None = None) -> None:
        save(tokenizer, folder, pieces)
        change(folder)

    return saved


def _template(old: str, new: str) -> Any:
    def change(folder: Path) -> None:
        path = folder / "chat_template.jinja"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


def _lower_case(folder: Path) -> None:
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "normalizer": {"type": "Lowercase"}}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_template("### Response:", "### Answer:"), "differs from training at token"),
        (_template("{{- bos_token -}}", "{{- bos_token + bos_token -}}"), "differs from training"),
        (_template("{{- bos_token -}}", ""), "differs from training at token 0"),
        (_template("+ eos_token", ""), "differs from training"),
        (_lower_case, "differs from training"),
    ],
)
def test_a_package_that_would_be_served_otherwise_is_not_finished(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, message: str
) -> None:
    monkeypatch.setattr(served, "save_served_tokenizer", tampered(change))
    with pytest.raises(MeadowlarkError, match=message) as caught:
        package(home / "full", tmp_path / "out")
    assert not isinstance(caught.value, UserError)  # found wanting: exit code 1
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_an_end_token_that_was_not_trained_is_found(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "end_tokens", lambda *_: [5])
    with pytest.raises(MeadowlarkError, match=r"training ended answers with token 2, not one of"):
        package(home / "full", tmp_path / "out")


def test_a_template_that_is_not_the_configured_one_is_found(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "_our_template", lambda *_: TEMPLATES["medalpaca"])
    with pytest.raises(MeadowlarkError, match="where medalpaca is"):
        package(home / "full", tmp_path / "out")


# --------------------------------------------------------------------------- the stage


def test_the_same_again_does_nothing_and_another_is_refused(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    package(home / "full", out)
    made = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert package(home / "full", out).done_before
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == made
    with pytest.raises(FolderDiffers, match='dtype: "bfloat16" there, "float16" asked'):
        package(home / "full", out, dtype="float16")
    with pytest.raises(FolderDiffers, match="input checkpoint: the content of"):
        package(home / "adapter", out, dtype="bfloat16")
    assert package(home / "full", out, dtype="float16", force=True).manifest.results["dtype"] == (
        "float16"
    )


def test_killed_and_again_gives_the_same_files(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(home / "adapter", tmp_path / "whole", merge=True)

    def killed(*_: Any) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "model_card", killed)
        with pytest.raises(KeyboardInterrupt):
            package(home / "adapter", tmp_path / "killed" / "whole", merge=True)
    left = tmp_path / "killed" / "whole"
    assert {path.name for path in left.iterdir()} == {"started.json", ".lock", "unfinished"}
    (left / "unfinished" / "model-00001-of-00002.safetensors").write_bytes(b"torn")
    run = package(home / "adapter", left, merge=True)
    assert run.manifest.outputs == read_manifest(tmp_path / "whole").outputs
    assert {path.name for path in left.iterdir()} == {*run.manifest.outputs, "manifest.json"}


def test_nothing_in_a_package_names_a_place_on_this_machine(home: Path, packages: Path) -> None:
    paths = [path for path in packages.rglob("*") if path.is_file()]
    assert len(paths) > 20
    for path in paths:
        assert str(home).encode() not in path.read_bytes(), path
    held = json.loads((packages / "adapter" / "adapter_config.json").read_text())
    assert held["base_model_name_or_path"] is None
    (warning,) = read_manifest(packages / "adapter").warnings
    assert "local folder without a hub id" in warning


def test_a_base_is_named_by_its_hub_id(home: Path, tmp_path: Path) -> None:
    package(home / "adapter", tmp_path / "named", base_name="org/base-7b")
    config = json.loads((tmp_path / "named" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/base-7b"
    card = ModelCard.load(tmp_path / "named" / "README.md")
    assert card.data.base_model == "org/base-7b"
    assert card.data.to_dict()["base_model_relation"] == "adapter"
    cached = tmp_path / "hub" / "models--org--cached" / "snapshots" / "0a1b"
    cached.parent.mkdir(parents=True)
    shutil.copytree(home / "full", cached)
    model = {"base": str(cached)}
    train(options(home / "mixed", model=model, lora=LORA), tmp_path / "adapter", limit=8)
    package(tmp_path / "adapter", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/cached"


# --------------------------------------------------------------------------- refusals


def test_a_training_that_has_not_ended_is_refused(tmp_path: Path) -> None:
    run = open_run("train", tmp_path / "run", options={}, inputs={})
    with run:
        with pytest.raises(UserError, match="is being trained right now"):
            package(tmp_path / "run", tmp_path / "out")
        (tmp_path / "run" / "checkpoints" / "checkpoint-5").mkdir(parents=True)
    with pytest.raises(UserError, match="its training was interrupted"):
        package(tmp_path / "run", tmp_path / "out")
    with pytest.raises(UserError, match="lies inside the run run: give that"):
        package(tmp_path / "run" / "checkpoints" / "checkpoint-5", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_packaged_says_why(home: Path, packages: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def refused(match: str, checkpoint: Path, place: Path = out, **asked: Any) -> None:
        with pytest.raises(UserError, match=match):
            package(checkpoint, place, **asked)

    refused("no such folder: .*nothing", tmp_path / "nothing")
    refused("was made by mix, not by train", home / "mixed")
    refused("is packaged already", packages / "full")
    (tmp_path / "empty").mkdir()
    refused("neither config.json nor adapter_config.json", tmp_path / "empty")
    refused("--merge is for adapters", home / "full", merge=True)
    refused("--base is for adapters", home / "full", base="org/name")
    refused("add --merge", home / "adapter", base=str(home / "full"))
    refused("is no hub id", home / "adapter", base_name="/data/llama")
    refused("'int4': expected float32, bfloat16, float16", home / "full", dtype="int4")
    refused("brings the template it was trained with", home / "full", template="alpaca")
    refused("hold each other", home / "full", home / "full", force=True)
    refused("hold each other", home / "full", home, force=True)
    refused("no scores.json there", home / "full", scores=[home / "mixed"])
    refused("is not the base that", home / "adapter", merge=True, base=str(packages / "full"))
    assert not out.exists() or {path.name for path in out.iterdir()} <= {".lock"}
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    shutil.copyfile(home / "full" / "config.json", pickled / "config.json")
    (pickled / "pytorch_model.bin").write_bytes(b"")
    refused("only safetensors are read", pickled)
    bare = make_tiny_model(tmp_path / "bare", template=None)
    refused("nothing is guessed", bare)


def test_a_base_that_is_gone_is_asked_for_and_may_be_given(home: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(home / "adapter", moved)
    config = json.loads((moved / "adapter_config.json").read_text())
    away = str(tmp_path / "gone" / "base")
    write_json(moved / "adapter_config.json", {**config, "base_model_name_or_path": away})
    (moved / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"gone/base is not there \(any more\)"):
        package(moved, tmp_path / "out", merge=True)
    run = package(moved, tmp_path / "out", merge=True, base=str(home / "full"), dtype="float32")
    merged = load_file(tmp_path / "out" / "model.safetensors")
    expected = load_file(home / "packages" / "merged" / "model.safetensors")
    assert all(torch.equal(merged[name], tensor) for name, tensor in expected.items())
    assert run.manifest.inputs["base"]["path"] == "full"


def test_a_quantised_base_is_no_place_to_merge_into(home: Path, tmp_path: Path) -> None:
    quantised = tmp_path / "quantised"
    shutil.copytree(home / "full", quantised)
    config = json.loads((quantised / "config.json").read_text())
    bits = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    write_json(quantised / "config.json", {**config, "quantization_config": bits})
    with pytest.raises(UserError, match="holds quantised weights"):
        weights.merge(str(quantised), home / "adapter", "float32")


# --------------------------------------------------------------------------- the card


def front_matter(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = ModelCard.load(folder / "README.md").data.to_dict()
    return found


def test_the_card_has_what_the_hub_reads(packages: Path) -> None:
    full, adapter = front_matter(packages / "full"), front_matter(packages / "adapter")
    assert full["library_name"] == "transformers"
    assert adapter["library_name"] == "peft"
    for data in (full, adapter):
        assert data["pipeline_tag"] == "text-generation"
        assert data["language"] == ["en"]
        assert (data["license"], data["license_name"]) == ("other", "mixed-non-commercial")
        assert {"medical", "research-use-only", "non-commercial"} <= set(data["tags"])


def test_the_card_opens_with_the_warning_and_tells_the_data(home: Path, packages: Path) -> None:
    text = (packages / "merged" / "README.md").read_text()
    body = text.split("---\n", 2)[2]
    assert re.match(r"# merged\n\n> \*\*Research use only\.\*\* .* clinician", body)
    manifest = read_manifest(home / "adapter")
    kept = {licence: str(rows) for licence, rows in manifest.licences.items()}
    assert "| ward | CC-BY-NC-4.0 |" in body
    assert "| patient_questions | Apache-2.0 |" in body
    assert (
        sum(map(int, re.findall(r"\| \S+ \| (?:CC-BY-NC-4.0|Apache-2.0) \| (\d+) \|", body)))
        == (manifest.rows["kept"])
    )
    assert f"{manifest.rows['kept']} rows of {manifest.rows['in']} were learned from" in body
    for licence, rows in kept.items():
        assert f"{licence} ({rows})" in body  # the mix's, in the table of runs
    assert "| convert | converted (patient_questions) | 30 |" in body
    assert "Not for commercial use" in body
    assert "lora.rank = 4" in body
    assert f"{manifest.results['validation_loss_after']:.4g}" in body
    assert f"{manifest.results['validation_bits_per_byte_after']:.4g}" in body
    for given in manifest.inputs.values():
        assert given["sha256"] in body
    assert read_manifest(packages / "merged").inputs["checkpoint"]["sha256"] in body
    assert "medical advice" not in body.lower()  # it gives none and says nothing of giving any


def test_the_card_shows_scores_and_whether_they_are_about_these_weights(
    home: Path, packages: Path, tmp_path: Path
) -> None:
    """Exams of the checkpoint, of a package of it, and of an adapter on it; scores of the first."""
    row = {"task": "demo", "model": str(home / "full"), "metric": "accuracy", "value": 0.25}
    row |= {"low": 0.1, "high": 0.5, "n": 40, "n_unreadable": 2}
    other = {"model": home / "full", "adapter": home / "adapter"}  # full is but its base
    packaged = {"model": packages / "full"}
    exams = {"exam": {"model": home / "full"}, "served": packaged, "other": other}
    for name, inputs in exams.items():
        run = open_run("exam", tmp_path / name, options={}, inputs=inputs)
        with run:
            run.write_json("scores.json", [row, row | {"task": "demo/anatomy"}])
            run.finish()
    run = open_run("score", tmp_path / "score", options={}, inputs={"input 1": tmp_path / "exam"})
    with run:
        run.write_json("scores.json", [row])
        run.finish()
    scores = [tmp_path / "exam", tmp_path / "other", tmp_path / "score", tmp_path / "served"]
    done = package(home / "full", tmp_path / "out", scores=scores)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| demo | full | accuracy | 0.25 | 0.1 to 0.5 | 40 | 2 |" in text
    assert "anatomy" not in text
    for name in ("exam", "score", "served"):
        assert f"Evaluation `{name}` (its manifests lead to the very checkpoint" in text
    assert "Evaluation `other` (its manifests do not show that" in text
    assert [w for w in done.manifest.warnings if "scores in other" in w]
    assert str(home) not in text


def test_a_merge_says_what_its_adapter_was_trained_on(home: Path, tmp_path: Path) -> None:
    """A finished run with an NF4 base in its config; the weights are those of the plain one."""
    base = str(home / "full")
    asked = options(home / "mixed", model={"base": base, "quantise": "nf4"}, lora=LORA)
    made = tmp_path / "nf4"
    run = open_run("train", made, options=asked.compared(), inputs={"base": home / "full"})
    with run:
        for path in (home / "adapter").iterdir():
            if path.is_file() and path.name not in ("manifest.json", "config.toml"):
                shutil.copyfile(path, made / path.name)
                run.wrote(path.name)
        (made / "config.toml").write_text(to_toml(asked))
        run.wrote("config.toml")
        run.finish()
    merged = package(made, tmp_path / "out", merge=True)
    (warning,) = merged.manifest.warnings
    assert "4 bits (NF4); here it is merged into the unquantised base" in warning
    assert warning in (tmp_path / "out" / "README.md").read_text()


def test_a_published_checkpoint_gets_its_template_and_its_begin_rule(tmp_path: Path) -> None:
    """medAlpaca was trained without BOS: no prompt of the package opens with one."""
    from transformers import AutoTokenizer

    folder = make_tiny_model(tmp_path / "medalpaca-7b", template=None)
    run = package(folder, tmp_path / "out")
    assert run.manifest.results["dtype"] == "float16"
    assert run.manifest.results["begin_tokens"] == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    for turns in PROMPTS:
        messages = [turn._asdict() for turn in turns]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert text == TEMPLATES["medalpaca"].render(turns, bos="", eos="</s>")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "Who trained this model, on what, is not known" in text
    assert "Not known: the folder came without a training manifest" in text
    assert "medalpaca/medalpaca-7b" in text
    assert front_matter(tmp_path / "out")["license"] == "other"


def test_another_folder_is_packaged_with_a_template_by_name(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "mine", template=None)
    (folder / "LICENSE.txt").write_text("terms")
    run = package(folder, tmp_path / "out", template="alpaca", licence="apache-2.0")
    assert run.manifest.results["template"] == "alpaca"
    assert front_matter(tmp_path / "out")["license"] == "apache-2.0"
    assert (tmp_path / "out" / "LICENSE.txt").read_text() == "terms"
    assert our_answers(str(tmp_path / "out")) == [
        reply.text
        for reply in open_local(str(folder), "alpaca").generate(
            PROMPTS, Sampling(max_tokens=NEW_TOKENS)
        )
    ]


def test_the_modelfile_holds_the_template_and_the_end(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "mine")
    package(folder, tmp_path / "out")
    text = (tmp_path / "out" / "Modelfile").read_text()
    assert "FROM ./model.gguf\n" in text
    assert f'TEMPLATE """{TEMPLATES["alpaca"].go_template(bos="<s>", eos="</s>")}"""\n' in text
    assert 'PARAMETER stop "</s>"\n' in text


def test_a_tokenizer_that_llama_cpp_cannot_know_has_no_modelfile(packages: Path) -> None:
    assert not (packages / "full" / "Modelfile").exists()
    assert (
        "learned from the training rows is not among them"
        in (packages / "full" / "README.md").read_text()
    )


FAMILIES = {
    "mistral": {"num_key_value_heads": 2, "sliding_window": None},
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "gemma": {"num_key_value_heads": 2, "head_dim": 8},
    "gemma3_text": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_answer_as_their_checkpoint_does(tmp_path: Path, family: str) -> None:
    """Whole, and with an adapter merged."""
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = make_tokenizer()
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 408}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
    config = AutoConfig.for_model(
        family,
        **shape,
        **ends,
        **FAMILIES[family],
        num_attention_heads=4,
        max_position_embeddings=512,
    )
    for name in ("initializer_range", "init_std"):
        if hasattr(config, name):
            setattr(config, name, 0.3)
    torch.manual_seed(0)
    base = tmp_path / "base"
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    tokenizer.save_pretrained(base)
    adapter = adapt(base, tmp_path / "adapter", target_modules=["q_proj", "v_proj"], lora_alpha=400)
    package(base, tmp_path / "full", dtype="float32")
    package(adapter, tmp_path / "merged", merge=True, base=str(base), dtype="float32")
    whole, tuned = our_answers(str(base)), our_answers(f"{base}+{adapter}")
    assert whole != tuned
    assert answers(*auto(tmp_path / "full")) == whole
    assert answers(*auto(tmp_path / "merged")) == tuned
