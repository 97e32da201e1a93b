"""The rows of a run and the tokenizer that reads them, as ``check``, ``plan`` and ``train`` all do.

What a base brings is loaded, what a model from scratch needs is learned from its training rows;
rows come encoded from the cache (``encoded.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from meadowlark.dataset import read_batches
from meadowlark.records import Record, from_table
from meadowlark.templates import load_template
from meadowlark.train import encoded, parallel
from meadowlark.train.encoded import Encoded, Settings
from meadowlark.train.options import DataOptions, TrainOptions
from meadowlark.train.tokenizer import (
    add_tokens,
    learn_tokenizer,
    learning_texts,
    load_tokenizer,
    save_tokenizer,
)

VALIDATION = "validation.parquet"


def find_tokenizer(options: TrainOptions, limit: int | None, folder: Path) -> Any:
    """The tokenizer that training would use; a new one is learned, saved to ``folder`` and loaded
    again, as there."""
    if options.model.from_scratch is None:
        assert options.model.base is not None
        tokenizer = load_tokenizer(options.model.base, options.data.template)
        add_tokens(tokenizer, options.model.added_tokens)
        return tokenizer
    save_tokenizer(new_tokenizer(options, limit), folder)
    return load_tokenizer(folder, None)


def new_tokenizer(options: TrainOptions, limit: int | None) -> Any:
    """The tokenizer of a model from scratch, learned from the training rows."""
    scratch, named = options.model.from_scratch, options.data.template
    assert scratch is not None
    assert named is not None
    template = load_template(named)
    texts = learning_texts(records(options.data.path, limit), template)
    tokenizer = learn_tokenizer(texts, scratch.vocabulary, scratch.context)
    tokenizer.chat_template = template.chat_template()
    return tokenizer


def records(path: Path, limit: int | None) -> Iterator[Record]:
    """The rows of a file or folder, one by one."""
    for table, _ in read_batches(path, Record, encoded.BATCH, limit):
        yield from from_table(table, Record)


def encode_data(
    options: TrainOptions, tokenizer: Any, limit: int | None = None
) -> tuple[Encoded, Encoded | None]:
    """Training and validation rows, encoded. Validation is always on the last responses alone,
    whatever the loss is on, so that runs compare."""
    data, workers = options.data, options.data.workers
    settings = Settings(data.max_length, data.too_long, data.loss_on)
    held_out = None
    with parallel.local_main_first():
        examples = encoded.encode(data.path, tokenizer, settings, limit=limit, workers=workers)
        path = validation_path(data)
        if path is not None:
            held_out = encoded.encode(
                path,
                tokenizer,
                Settings(data.max_length, data.too_long),
                limit=limit,
                workers=workers,
                label="encode validation",
            )
    return examples, held_out


def validation_path(data: DataOptions) -> Path | None:
    """The file of held-out rows: the one named, or the one beside the training rows."""
    if data.validation is not None:
        return data.validation
    beside = data.path / VALIDATION
    return beside if data.path.is_dir() and beside.exists() else None
