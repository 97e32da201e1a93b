"""Against TRL's SFTTrainer: the same rows give the same tokens, masks, packed passes and loss."""

import copy
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from meadowlark.curate.export import export
from meadowlark.dataset import write_table
from meadowlark.records import Record, Turn, to_table
from meadowlark.templates import messages
from meadowlark.train.encode import Encoder, Example
from meadowlark.train.loss import summed_loss
from meadowlark.train.pack import best_fit, lay_out

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import datasets
    from trl import SFTConfig, SFTTrainer

pytestmark = pytest.mark.filterwarnings("ignore")
LENGTH = 512
CHATS = [
    Record(
        f"And the {organ}?",
        "Seen from below." * (number % 2),
        f"The {organ} is well.",
        (
            *([Turn("system", "Answer briefly.")] if number else []),
            Turn("user", "What does the heart do?"),
            Turn("assistant", "It pumps."),
            Turn("user", "Why?"),
            Turn("assistant", "To move blood, all day and all night. " * (number + 1)),
        ),
    )
    for number, organ in enumerate(["liver", "skin", "spleen"])
]


@pytest.fixture(scope="session")
def generating(tokenizer: Any) -> Any:
    """The tokenizer with the answers of its template marked as TRL wants them, for TRL alone."""
    made = copy.deepcopy(tokenizer)
    answer = "{{- message['content'] + eos_token -}}"
    assert answer in made.chat_template
    made.chat_template = made.chat_template.replace(
        answer, "{%- generation -%}" + answer + "{%- endgeneration -%}"
    )
    return made


@pytest.fixture
def oracle(model: Any, tmp_path: Path) -> Callable[..., Any]:
    """Makes an SFTTrainer over rows, with a copy of the model on transformers' own attention."""

    def make(rows: Sequence[dict[str, Any]], tokenizer: Any, **options: Any) -> Any:
        theirs = copy.deepcopy(model)
        theirs.set_attn_implementation("sdpa")
        config = SFTConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            report_to="none",
            gradient_checkpointing=False,
            **{"max_length": LENGTH, **options},
        )
        return SFTTrainer(
            model=theirs,
            args=config,
            train_dataset=datasets.Dataset.from_list(list(rows)),
            processing_class=tokenizer,
        )

    return make


def turns(record: Record) -> list[dict[str, str]]:
    return [turn._asdict() for turn in messages(record, with_output=True)]


def prompt_and_completion(record: Record) -> dict[str, Any]:
    return {"prompt": turns(record)[:-1], "completion": turns(record)[-1:]}


def labels(example: Example) -> list[int]:
    """The example's mask as labels: -100 where nothing is learned."""
    made = [-100] * len(example.input_ids)
    for start, end in example.spans:
        made[start:end] = example.input_ids[start:end].tolist()
    return made


def losses_agree(
    trainer: Any, batch: dict[str, Any], model: Any, examples: Sequence[Example]
) -> None:
    """TRL's loss of its own batch, against ours of the same rows packed into one pass."""
    supervised = sum(example.supervised for example in examples)
    assert int((batch["labels"] != -100).sum()) == supervised
    with torch.no_grad():
        theirs = trainer.compute_loss(trainer.model, batch)
        ours = summed_loss(model, lay_out(examples)) / supervised
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_tokens_masks_and_loss_of_responses_are_trls(
    oracle: Callable[..., Any], model: Any, tokenizer: Any, records: list[Record]
) -> None:
    trainer = oracle(
        [prompt_and_completion(r) for r in records], tokenizer, completion_only_loss=True
    )
    examples, _ = Encoder(tokenizer, max_length=LENGTH).encode(records)
    for row, example in zip(trainer.train_dataset, examples, strict=True):
        assert row["input_ids"] == example.input_ids.tolist()
        assert row["labels"] == labels(example)
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(8)])
    losses_agree(trainer, batch, model, examples[:8])


def test_masks_and_loss_of_every_answer_in_conversations_are_trls(
    oracle: Callable[..., Any], model: Any, tokenizer: Any, generating: Any, records: list[Record]
) -> None:
    rows = [*CHATS, *records[3:8]]
    trainer = oracle([{"messages": turns(r)} for r in rows], generating, assistant_only_loss=True)
    examples, rejected = Encoder(tokenizer, max_length=LENGTH, loss_on="answers").encode(rows)
    assert not rejected
    assert [len(example.spans) for example in examples] == [3, 3, 3, 1, 1, 2, 1, 1]
    for row, example in zip(trainer.train_dataset, examples, strict=True):
        assert row["input_ids"] == example.input_ids.tolist()
        assert row["labels"] == labels(example)
    batch = trainer.data_collator(list(trainer.train_dataset))
    losses_agree(trainer, batch, model, examples)


def test_every_token_learned_is_trls_loss_on_whole_conversations(
    oracle: Callable[..., Any], model: Any, tokenizer: Any, records: list[Record]
) -> None:
    trainer = oracle([{"messages": turns(r)} for r in records[:8]], tokenizer)
    examples, _ = Encoder(tokenizer, max_length=LENGTH, loss_on="all").encode(records[:8])
    batch = trainer.data_collator(list(trainer.train_dataset))
    batch["labels"][:, 0] = -100  # nothing predicts the first token; the model shifts it away
    losses_agree(trainer, batch, model, examples)


def test_packed_passes_hold_the_same_rows_and_give_the_same_loss_as_trls(
    oracle: Callable[..., Any], model: Any, tokenizer: Any, records: list[Record]
) -> None:
    """Best fit, longest first, in both; TRL's pass goes through transformers' own block mask."""
    trainer = oracle(
        [prompt_and_completion(r) for r in records],
        tokenizer,
        completion_only_loss=True,
        packing=True,
        packing_strategy="bfd",
    )
    examples, _ = Encoder(tokenizer, max_length=LENGTH).encode(records)
    lengths = [len(example.input_ids) for example in examples]
    bins = best_fit(range(len(examples)), lengths, LENGTH)
    theirs = sorted(sorted(row["seq_lengths"]) for row in trainer.train_dataset)
    assert sorted(sorted(lengths[row] for row in rows) for rows in bins) == theirs
    by_ids = {tuple(example.input_ids.tolist()): example for example in examples}
    seen = 0
    for row in trainer.train_dataset:
        packed, start = [], 0
        for length in row["seq_lengths"]:
            example = by_ids[tuple(row["input_ids"][start : start + length])]
            assert row["labels"][start : start + length] == labels(example)
            packed.append(example)
            start += length
        losses_agree(trainer, trainer.data_collator([row]), model, packed)
        seen += len(packed)
    assert seen == len(examples)


def test_rows_laid_out_without_padding_are_trls(
    oracle: Callable[..., Any], model: Any, tokenizer: Any, records: list[Record]
) -> None:
    rows = records[:6]
    trainer = oracle(
        [prompt_and_completion(r) for r in rows],
        tokenizer,
        completion_only_loss=True,
        padding_free=True,
        max_length=None,
    )
    examples, _ = Encoder(tokenizer, max_length=LENGTH).encode(rows)
    batch = trainer.data_collator(list(trainer.train_dataset))
    ours = lay_out(examples)
    assert batch["input_ids"].tolist() == ours.input_ids.tolist()
    assert batch["position_ids"].tolist() == ours.position_ids.tolist()
    assert batch["cu_seq_lens_q"].tolist() == ours.samples.cumulative.tolist()
    learned = torch.nonzero(batch["labels"][0] != -100).flatten()
    assert learned.tolist() == (ours.predicting + 1).tolist()
    losses_agree(trainer, batch, model, examples)


def test_an_exported_file_gives_trl_the_tokens_that_train_encodes(
    oracle: Callable[..., Any], tokenizer: Any, records: list[Record], tmp_path: Path
) -> None:
    """Through `export --format messages`, datasets' JSON loader and SFTTrainer's preparation."""
    rows = [*records[:6], *CHATS]
    data, out = tmp_path / "rows.parquet", tmp_path / "train.jsonl"
    write_table(data, to_table(rows, Record))
    export(data, out, "messages")
    loaded = datasets.load_dataset(
        "json", data_files=str(out), cache_dir=str(tmp_path / "cache"), split="train"
    )
    trainer = oracle([{"messages": row["messages"]} for row in loaded], tokenizer)
    examples, rejected = Encoder(tokenizer, max_length=LENGTH).encode(rows)
    assert rejected == []
    theirs = [row["input_ids"] for row in trainer.train_dataset]
    assert theirs == [example.input_ids.tolist() for example in examples]
