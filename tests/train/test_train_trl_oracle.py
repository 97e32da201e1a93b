"""Against TRL's SFTTrainer: the same rows give the same tokens, the same masks, the same loss.

TRL is no dependency of this project; where it is not installed these tests are skipped.
"""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from meadowlark.records import Record
from meadowlark.templates import messages
from meadowlark.train.attention import NAME
from meadowlark.train.encode import Encoder
from meadowlark.train.loss import summed_loss
from meadowlark.train.pack import lay_out

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    trl = pytest.importorskip("trl", reason="TRL is not installed")
    datasets = pytest.importorskip("datasets", reason="TRL's datasets is not installed")
    from trl import SFTConfig, SFTTrainer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def oracle(model: Any, tokenizer: Any, records: list[Record], tmp_path: Path) -> Any:
    """An SFTTrainer over the rows as prompt and completion, loss on the completion only."""
    rows = []
    for record in records:
        turns = [turn._asdict() for turn in messages(record, with_output=True)]
        rows.append({"prompt": turns[:-1], "completion": turns[-1:]})
    model.set_attn_implementation("sdpa")
    config = SFTConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        report_to="none",
        max_length=512,
        completion_only_loss=True,
        gradient_checkpointing=False,
    )
    return SFTTrainer(
        model=model,
        args=config,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def test_tokens_and_masks_are_trls(oracle: Any, tokenizer: Any, records: list[Record]) -> None:
    examples, _ = Encoder(tokenizer, max_length=512).encode(records)
    for row, example in zip(oracle.train_dataset, examples, strict=True):
        assert row["input_ids"] == example.input_ids.tolist()
        first = example.first_supervised
        assert row["labels"] == [-100] * first + example.input_ids[first:].tolist()


def test_the_loss_of_a_batch_is_trls(
    oracle: Any, model: Any, tokenizer: Any, records: list[Record]
) -> None:
    examples, _ = Encoder(tokenizer, max_length=512).encode(records[:8])
    batch = oracle.data_collator([oracle.train_dataset[row] for row in range(8)])
    supervised = sum(example.supervised for example in examples)
    assert int((batch["labels"] != -100).sum()) == supervised
    with torch.no_grad():
        theirs = oracle.compute_loss(model, batch)
        model.set_attn_implementation(NAME)
        ours = summed_loss(model, lay_out(examples)) / supervised
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
