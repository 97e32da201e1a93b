"""How long the rows of a training run are, and how much of them is learned: what a plan packs.

From the rows themselves and the base's tokenizer, as training encodes them. Without the tokenizer
on this machine the rows' bytes tell about how many tokens they are, and ``origin`` says so.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from meadowlark.errors import UserError
from meadowlark.templates import load_template, messages
from meadowlark.train.data import encode_data, find_tokenizer, records
from meadowlark.train.encoded import Encoded
from meadowlark.train.options import TrainOptions

BYTES_PER_TOKEN = 3.9
"""UTF-8 bytes of English medical text a token of LLaMA-2's tokenizer (wikidoc 3.91, ChatDoctor
3.90); LLaMA-3's has about 15 % more."""

Counts = npt.NDArray[np.int64]
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of each row, how many of them are learned, and where that is known from.

    ``vocabulary`` is the tokenizer's size, added tokens included; 0 where there is none.
    ``examples`` are the encoded rows, where they were encoded.
    """

    lengths: Counts
    supervised: Counts
    origin: str
    validation_tokens: int = 0
    vocabulary: int = 0
    examples: Encoded | None = None


def find_lengths(options: TrainOptions, limit: int | None = None) -> Lengths:
    """The lengths of a run's rows; UserError where there is no row to train on."""
    base = options.model.base
    if base is None or on_disk(base, TOKENIZER_FILES):
        found = _encoded(options, limit)
    else:
        found = _estimated(options, limit)
    if not len(found.lengths):
        raise UserError(f"no row of {options.data.path} can be trained on; `check` says why")
    return found


def on_disk(base: str, files: tuple[str, ...]) -> bool:
    """Whether one of a base's ``files`` lies in its folder, or in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if Path(base).is_dir():
        return any((Path(base) / name).exists() for name in files)
    try:
        return any(isinstance(try_to_load_from_cache(base, name), str) for name in files)
    except HFValidationError:
        return False


def _encoded(options: TrainOptions, limit: int | None) -> Lengths:
    with tempfile.TemporaryDirectory() as name:
        tokenizer = find_tokenizer(options, limit, Path(name))
        examples, held_out = encode_data(options, tokenizer, limit)
    return Lengths(
        examples.lengths,
        examples.supervised,
        "as encoded for training",
        int(held_out.lengths.sum()) if held_out is not None else 0,
        len(tokenizer),
        examples,
    )


def _estimated(options: TrainOptions, limit: int | None) -> Lengths:
    """Tokens from bytes, for want of the tokenizer."""
    data = options.data
    template = load_template(data.template) if data.template is not None else None
    lengths, supervised = [], []
    for record in records(data.path, limit):
        turns = messages(record, with_output=True)
        try:
            text = template.render(turns) if template else "".join(turn.content for turn in turns)
        except UserError:  # turns that do not alternate, which encoding rejects
            continue
        learned = 1 + _tokens(record.output)
        length = max(2 + _tokens(text), learned + 1)
        if not record.output.strip() or (length > data.max_length and data.too_long == "reject"):
            continue
        length = min(length, data.max_length)
        lengths.append(length)
        supervised.append(length - 1 if data.loss_on == "all" else min(learned, length - 1))
    origin = f"estimated at {BYTES_PER_TOKEN} bytes a token: the base's tokenizer is not here"
    return Lengths(np.array(lengths, np.int64), np.array(supervised, np.int64), origin)


def _tokens(text: str) -> int:
    return max(round(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN), 1)
