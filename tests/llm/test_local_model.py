import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from likelihoods import loglikelihoods
from meadowlark.checkpoints import CHECKPOINTS
from meadowlark.errors import UserError
from meadowlark.llm.chat import ChatRequest, Sampling
from meadowlark.llm.local import TransformersModel, _pick, open_local
from meadowlark.llm.prompter import Prompter, open_prompter
from meadowlark.records import Turn
from meadowlark.templates import TEMPLATES, user_content
from tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> TransformersModel:
    return open_local(str(folder))


def ask(instruction: str, input: str = "") -> list[Turn]:
    return [Turn("user", user_content(instruction, input))]


PROMPTS = [
    ask("Which organ makes bile?", "A: Heart\nB: Liver"),
    ask("Explain fever."),
    ask("A patient has a cough, a fever and pain. What should the doctor ask first, and why?"),
    ask("Name an organ."),
    [Turn("user", "Hello"), Turn("assistant", "Hello."), Turn("user", "Is the liver large?")],
]
CHOICES = [
    ["A", "B"],
    [" the heart", " a fever is heat in the body", "A", "kidney"],
    ["cough", "how long"],
    ["liver", "liver and kidney", "the", "B"],
    ["yes"],
]


def naive_loglikelihood(model: TransformersModel, turns: list[Turn], continuation: str) -> float:
    """One sequence, no padding, no sharing: a full log-softmax over every position."""
    prompter = model.prompter
    text = prompter.render(turns)
    context = prompter.encode([text])[0]
    whole = prompter.encode([text + continuation])[0]
    assert whole[: len(context)] == context
    with torch.inference_mode():
        logits = model.model(input_ids=torch.tensor([whole])).logits[0]
    table = torch.log_softmax(logits.double(), dim=-1)
    return sum(float(table[i - 1, whole[i]]) for i in range(len(context), len(whole)))


def test_likelihoods_equal_one_by_one_scoring(model: TransformersModel) -> None:
    found = loglikelihoods(model, PROMPTS, CHOICES)
    for turns, choices, values in zip(PROMPTS, CHOICES, found, strict=True):
        expected = [naive_loglikelihood(model, turns, choice) for choice in choices]
        assert values == pytest.approx(expected, abs=2e-4)
    assert max(len(model.prompter.encode([c])[0]) for cs in CHOICES for c in cs) > 3


def recorded(model: TransformersModel, patch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """The shapes of the inputs of every forward pass from now on, and for which rows it is."""
    shapes = []
    forward = model.model.forward

    def recording(**given: Any) -> Any:
        shapes.append((given["input_ids"].shape, given["logits_to_keep"]))
        return forward(**given)

    patch.setattr(model.model, "forward", recording)
    return shapes


def test_single_token_choices_take_one_pass_over_the_prompt_alone(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = recorded(model, monkeypatch)
    loglikelihoods(model, PROMPTS[:1], [["A", "B", "C", "D"]])
    (length,) = model.prompt_lengths(PROMPTS[:1])
    assert shapes == [((1, length), 1)]


def test_order_and_batch_size_do_not_change_likelihoods(model: TransformersModel) -> None:
    together = loglikelihoods(model, PROMPTS, CHOICES)
    reversed_order = loglikelihoods(model, PROMPTS[::-1], CHOICES[::-1])[::-1]
    alone = [loglikelihoods(model, [p], [c])[0] for p, c in zip(PROMPTS, CHOICES, strict=True)]
    for a, b, c in zip(together, reversed_order, alone, strict=True):
        assert a == pytest.approx(b, abs=2e-4)
        assert a == pytest.approx(c, abs=2e-4)


def test_what_prompts_begin_with_is_read_once_and_changes_nothing(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With letters (one position a row), and with longer choices (a mask of our own)."""
    opening = "A patient has a fever and a cough. Explain in simple words. " * 3
    texts = [opening + rest for rest in ("Why?", "Which organ makes bile?", "What should", "A")]
    for choices in (["A", "B"], [" the heart", " a fever is heat", "A"]):
        queries = model.queries(texts, [choices] * 4)
        apart = model.score(queries)
        shared = model.share(queries)
        assert shared is not None
        assert len(shared) == len(model.prompter.encode([opening.rstrip()])[0])
        with monkeypatch.context() as patched:
            shapes = recorded(model, patched)
            together = model.score(queries, shared)
        width = max(len(q.prompt) for q in queries) - len(shared) + max(q.region for q in queries)
        assert [shape for shape, _ in shapes] == [(4, width)]
        for found, expected in zip(together, apart, strict=True):
            assert found == pytest.approx(expected, abs=2e-4)
    other = model.queries(["Name an organ."], [choices])
    mixed = model.score([*queries, *other], shared)  # one that begins otherwise: none is shared
    assert mixed[-1] == pytest.approx(model.score(other)[0], abs=2e-4)


def test_little_in_common_and_cut_prompts_are_not_shared(model: TransformersModel) -> None:
    queries = model.queries(["Why?", "Which?"], [["A", "B"]] * 2)
    assert model.share(queries) is None
    assert model.share(queries[:1]) is None
    long = model.queries(["A patient has a fever and a cough. " * 3 + x for x in "ab"], [["A"]] * 2)
    assert model.share(long) is not None
    assert model.share([long[0], replace(long[1], cut=True)]) is None


def test_keys_that_slide_out_of_a_window_are_not_shared(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = model.queries(
        ["A patient has a fever and a cough. " * 3 + x for x in "ab"], [["A"]] * 2
    )
    monkeypatch.setattr(model.model.config, "sliding_window", 8, raising=False)
    monkeypatch.setattr(
        model.model.config, "layer_types", ["full_attention", "sliding_attention"], raising=False
    )
    assert model.share(queries) is None


def test_unconditional_likelihoods_stand_behind_bos_alone(model: TransformersModel) -> None:
    (query,) = model.unconditional([["liver", "the heart"]])
    assert query.prompt == [model.prompter.tokenizer.bos_token_id]
    (found,) = model.score([query])
    for ids, value in zip(query.choices, found, strict=True):
        with torch.inference_mode():
            logits = model.model(input_ids=torch.tensor([[*query.prompt, *ids]])).logits[0]
        table = torch.log_softmax(logits.double(), dim=-1)
        assert value == pytest.approx(sum(float(table[i, t]) for i, t in enumerate(ids)), abs=2e-4)


def test_an_empty_continuation_is_refused(model: TransformersModel) -> None:
    with pytest.raises(UserError, match="empty continuation"):
        loglikelihoods(model, PROMPTS[:1], [["A", ""]])


def test_the_space_at_the_border_belongs_to_the_continuation(model: TransformersModel) -> None:
    with_space, without = loglikelihoods(model, PROMPTS[:1], [[" liver", "liver"]])[0]
    assert with_space != pytest.approx(without, abs=1e-3)


def test_a_token_across_the_border_leaves_the_served_prompt_as_it_is(
    model: TransformersModel,
) -> None:
    class Merging:
        """Tokens that merge the prompt's last character with the answer's first."""

        def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
            table = {"ab": [1, 2], "abc": [1, 9], "c": [3]}
            return {"input_ids": [table[t] for t in texts]}

    prompter = Prompter(Merging(), "", "")
    assert prompter.continuation("ab", [1, 2], [1, 9], "c") == [3]


def test_a_long_prompt_loses_its_beginning_and_keeps_bos(folder: Path) -> None:
    model = open_local(str(folder), context_length=40)
    (query,) = model.queries([model.prompter.render(PROMPTS[2])], [["A", "B"]])
    whole = model.prompter.encode([model.prompter.render(PROMPTS[2])])[0]
    assert query.cut
    assert query.prompt == [model.prompter.tokenizer.bos_token_id, *whole[-39:]]
    assert query.width == 40
    assert all(value < 0 for value in loglikelihoods(model, [PROMPTS[2]], [["A", "B"]])[0])


def test_prompts_have_one_bos_and_the_published_text(model: TransformersModel) -> None:
    text = model.prompter.render(PROMPTS[0])
    assert text == TEMPLATES["alpaca"].render(PROMPTS[0], bos="<s>")
    ids = model.prompter.encode([text])[0]
    assert ids.count(model.prompter.tokenizer.bos_token_id) == 1
    assert ids[0] == model.prompter.tokenizer.bos_token_id


def test_greedy_replies_equal_transformers_own_generation(model: TransformersModel) -> None:
    replies = model.generate(PROMPTS, Sampling(max_tokens=20))
    for turns, reply in zip(PROMPTS, replies, strict=True):
        ids = model.prompter.encode([model.prompter.render(turns)])
        with torch.inference_mode():
            out = model.model.generate(
                torch.tensor(ids),
                attention_mask=torch.ones(1, len(ids[0]), dtype=torch.long),
                max_new_tokens=20,
                do_sample=False,
                pad_token_id=1,
            )[0, len(ids[0]) :].tolist()
        assert reply.text == model.prompter.decode(out)
        assert reply.tokens_in == len(ids[0])
        assert reply.tokens_out == len(out)


def test_a_sampled_reply_does_not_depend_on_its_batch(model: TransformersModel) -> None:
    sampling = Sampling(temperature=1.0, top_p=0.95, top_k=50, max_tokens=16, seed=7)
    together = model.generate(PROMPTS, sampling)
    alone = [model.generate([p], sampling)[0] for p in PROMPTS]
    assert [r.text for r in together] == [r.text for r in alone]
    other = model.generate(PROMPTS, Sampling(temperature=1.0, max_tokens=16, seed=8))
    assert [r.text for r in together] != [r.text for r in other]


@pytest.mark.slow
def test_samples_follow_the_models_distribution(model: TransformersModel) -> None:
    """The first token over 600 seeds against the softmax: total variation within noise."""
    ids = model.prompter.encode([model.prompter.render(PROMPTS[3])])
    with torch.inference_mode():
        logits = model.model(input_ids=torch.tensor(ids)).logits[0, -1]
    probabilities = torch.softmax(logits / 0.7, -1)
    best = int(probabilities.argmax())
    hits = 0
    for seed in range(600):
        row = model._row(ids[0], Sampling(max_tokens=1, seed=seed), 0)
        for _ in model._decode([row], Sampling(temperature=0.7, max_tokens=1, seed=seed)):
            hits += row.new[0] == best
    expected = float(probabilities[best])
    spread = (expected * (1 - expected) / 600) ** 0.5
    assert abs(hits / 600 - expected) < 4 * spread


def test_penalties_follow_openais_formula(model: TransformersModel) -> None:
    """mu[j] - c[j] * frequency - (c[j] > 0) * presence, over the tokens of the answer alone."""
    row = model._row([7], Sampling(), 0)
    row.new += [1, 2, 1]
    logits = torch.tensor([[0.0, 5.0, 4.5, 3.0]])
    for presence, frequency, best in (
        (0.0, 0.0, 1), (0.4, 0.0, 1), (0.0, 0.6, 2), (1.0, 0.3, 1), (1.0, 0.6, 3), (1.9, 0.0, 1),
        (2.1, 0.0, 3),
    ):  # fmt: skip
        sampling = Sampling(presence_penalty=presence, frequency_penalty=frequency)
        assert _pick(logits.clone(), sampling, [row]) == [best]


def test_log_probabilities_of_a_reply_are_refused_not_left_out(model: TransformersModel) -> None:
    with pytest.raises(UserError, match="gives no log-probabilities"):
        model.generate(PROMPTS[:1], Sampling(logprobs=0, max_tokens=1))


def test_an_answer_stops_at_eos_and_at_stop_strings(model: TransformersModel) -> None:
    whole = model.generate(PROMPTS[1:2], Sampling(max_tokens=30))[0]
    assert (whole.finish, whole.tokens_out) == ("length", 30)
    stop = whole.text[5:8]
    cut = model.generate(PROMPTS[1:2], Sampling(max_tokens=30, stop=(stop,)))[0]
    assert cut.finish == "stop"
    assert cut.text == whole.text[: whole.text.index(stop)]
    third = model._row([1], Sampling(), 0)
    model._add(third, model.prompter.tokenizer.eos_token_id, Sampling())
    assert third.finish == "stop"


def test_finished_rows_leave_the_batch_without_changing_the_others(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = model._row(model._encode(PROMPTS[:1])[0], Sampling(max_tokens=24), 0)
    for _ in model._decode([row], Sampling(max_tokens=24)):
        pass
    monkeypatch.setattr(model, "_eos", {row.new[3]})  # ends the first row early
    batched = model.generate(PROMPTS, Sampling(max_tokens=24))
    alone = [model.generate([p], Sampling(max_tokens=24))[0] for p in PROMPTS]
    assert batched == alone
    assert len({r.tokens_out for r in batched}) > 1


def test_a_prompt_that_fills_the_context_gets_an_empty_reply(folder: Path) -> None:
    model = open_local(str(folder), context_length=60)
    short, long = model.generate([PROMPTS[3], PROMPTS[2]], Sampling(max_tokens=100))
    assert (long.text, long.tokens_out, long.finish) == ("", 0, "length")
    assert short.tokens_in + short.tokens_out == 60
    assert short.finish == "length"


def test_a_stream_adds_up_to_the_reply(model: TransformersModel) -> None:
    for turns in PROMPTS:
        pieces = list(model.stream(turns, Sampling(max_tokens=20)))
        assert "".join(pieces) == model.generate([turns], Sampling(max_tokens=20))[0].text
        assert len(pieces) > 1


def test_a_local_model_answers_chat_requests_and_draws_differ(model: TransformersModel) -> None:
    sampling = Sampling(temperature=1.0, max_tokens=12, seed=1)

    async def both() -> list[str]:
        requests = [ChatRequest(tuple(PROMPTS[0]), sampling, draw) for draw in (0, 1)]
        return [r.text for r in await asyncio.gather(*map(model.reply, requests))]

    first, second = asyncio.run(both())
    assert first == model.generate(PROMPTS[:1], sampling)[0].text
    assert first != second


def test_batches_are_longest_first_within_the_budget(model: TransformersModel) -> None:
    lengths = [10, 500, 20, 500, 30]
    batches = model.batches(lengths)
    assert sorted(i for b in batches for i in b) == list(range(5))
    assert [lengths[i] for b in batches for i in b] == [500, 500, 30, 20, 10]
    assert all(
        len(b) == 1 or max(lengths[i] for i in b) * len(b) <= model.batch_tokens for b in batches
    )


def test_rows_that_would_be_padded_much_wait_for_the_next_batch(model: TransformersModel) -> None:
    lengths = [300, 290, 100, 99, 95, 60, 20]
    assert model.batches(lengths) == [list(range(7))]
    assert model.enough_tokens == 512
    tight = model.batches(lengths, padded=False)  # the second is not yet large enough
    assert [[lengths[i] for i in batch] for batch in tight] == [[300, 290], [100, 99, 95, 60, 20]]
    short = model.batches([40, 20, 10, 9], padded=False)  # small ones are not worth a pass each
    assert short == [[0, 1, 2, 3]]
    kept = model.cache_tokens // 2
    assert model.batches([10, 10, 10], kept, padded=False) == [[0], [1], [2]]


# ----- templates and files


def test_a_checkpoint_without_a_template_names_the_choices(tmp_path: Path) -> None:
    bare = str(make_tiny_model(tmp_path / "bare", template=None))
    with pytest.raises(UserError, match=r"--template alpaca \| alpaca-lora \| medalpaca"):
        open_local(bare)
    prompter = open_prompter(bare, "medalpaca")
    assert prompter.render(ask("Why?")) == TEMPLATES["medalpaca"].render(ask("Why?"), bos="<s>")


def test_a_known_checkpoint_brings_its_template_and_bos_rule(tmp_path: Path) -> None:
    care = open_prompter(str(make_tiny_model(tmp_path / "AlpaCare-llama2-7b", None)), None)
    assert care.render(ask("Why?")) == TEMPLATES["alpaca"].render(ask("Why?"), bos="<s>")
    paca = open_prompter(str(make_tiny_model(tmp_path / "medalpaca-7b", None)), None)
    assert paca.render(ask("Why?")) == TEMPLATES["medalpaca"].render(ask("Why?"))
    assert "medalpaca/medalpaca-7b" in paca.template_from


def test_a_jinja_file_can_be_the_template(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "bare", template=None)
    (tmp_path / "own.jinja").write_text("{{ messages[0]['content'] }}=>")
    prompter = open_prompter(str(folder), str(tmp_path / "own.jinja"))
    assert prompter.render(ask("Why?")) == "Why?=>"


def test_the_template_can_refuse_a_conversation(model: TransformersModel) -> None:
    with pytest.raises(UserError, match="alternate"):
        model.prompter.render([Turn("user", "a"), Turn("user", "b")])


def test_a_wrong_path_is_one_message() -> None:
    for place in ("nowhere", "./no/where", "/no/where", "tests/no-such-model"):
        with pytest.raises(UserError, match="no such model folder: "):
            open_local(place, "alpaca")


def test_an_adapter_on_the_hub_table_needs_a_base() -> None:
    with pytest.raises(UserError, match=r"LoRA adapter for LLaMA 7B; give hf:BASE\+"):
        open_local("medalpaca/medalpaca-lora-7b-16bit")


def test_pickled_weights_are_refused(tmp_path: Path, folder: Path) -> None:
    pickled = make_tiny_model(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(UserError, match="only safetensors"):
        open_local(str(pickled))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_lora_folder_loads_on_the_base_it_names(tmp_path: Path, folder: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    tuned = get_peft_model(base, config)
    tuned.save_pretrained(tmp_path / "lora")
    merged = tuned.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    open_prompter(str(folder), None).tokenizer.save_pretrained(tmp_path / "merged")

    expected = loglikelihoods(open_local(str(tmp_path / "merged")), PROMPTS, CHOICES)
    named = open_local(str(tmp_path / "lora"))
    joined = open_local(f"{folder}+{tmp_path / 'lora'}")
    plain = loglikelihoods(open_local(str(folder)), PROMPTS, CHOICES)
    for loaded in (named, joined):
        found = loglikelihoods(loaded, PROMPTS, CHOICES)
        assert all(a == pytest.approx(b, abs=1e-3) for a, b in zip(found, expected, strict=True))
        assert any(a != pytest.approx(b, abs=1e-2) for a, b in zip(found, plain, strict=True))
    assert named.generate(PROMPTS[:1], Sampling(max_tokens=4))[0].tokens_out > 0


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_quantised_checkpoint_stays_quantised_and_answers(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder that transformers quantised and saved; likelihoods are near the original's."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    made = (
        BitsAndBytesConfig(load_in_8bit=True)
        if kind == "int8"
        else BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    )
    folder = make_tiny_model(tmp_path / "plain", width=64)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=made
    )
    model.save_pretrained(tmp_path)
    open_prompter(str(folder), None).tokenizer.save_pretrained(tmp_path)
    caplog.clear()
    loaded = open_local(str(tmp_path))
    packed = torch.int8 if kind == "int8" else torch.uint8
    assert loaded.model.model.layers[0].mlp.up_proj.weight.dtype == packed
    assert loaded.describe()["dtype"] == f"float32, {kind}"
    found = loglikelihoods(loaded, PROMPTS, CHOICES)
    near = loglikelihoods(open_local(str(folder)), PROMPTS, CHOICES)
    for values, expected in zip(found, near, strict=True):
        assert values == pytest.approx(expected, rel=0.05 if kind == "int8" else 0.4)
    assert loaded.generate(PROMPTS[:1], Sampling(max_tokens=4))[0].tokens_out > 0
    assert not caplog.records  # not a line for every layer and pass


def test_every_known_checkpoint_has_a_usable_template() -> None:
    for checkpoint in CHECKPOINTS.values():
        assert checkpoint.template in TEMPLATES
        assert ("bos_token" in checkpoint.chat_template()) is checkpoint.bos
        assert (checkpoint.family == "medAlpaca") is not checkpoint.bos


def test_llama_2s_real_tokenizer_splits_answers_at_the_border(
    tmp_path: Path, real_data: Path
) -> None:
    """A letter after the prompt is one token without a space; with one it is another token."""
    model = (real_data / "tokenizers" / "llama2_tokenizer.model").read_bytes()
    (tmp_path / "tokenizer.model").write_bytes(model)
    config = '{"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}'
    (tmp_path / "tokenizer_config.json").write_text(config)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    for template in TEMPLATES:
        prompter = open_prompter(str(tmp_path), template)
        text = prompter.render(PROMPTS[0])
        (ids,) = prompter.encode([text])
        assert (ids[0], ids.count(1)) == (1, 1)
        for continuation, tokens in (("A", ["A"]), (" A", ["▁A"]), ("Liver", ["L", "iver"])):
            (joint,) = prompter.encode([text + continuation])
            assert joint[: len(ids)] == ids
            found = prompter.continuation(text, ids, joint, continuation)
            assert prompter.tokenizer.convert_ids_to_tokens(found) == tokens
