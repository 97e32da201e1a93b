"""Tokenizers for training: one made from the run's own rows, or the one a base model brings.

Both leave here with a chat template, an end token and, where one can be had without resizing the
model, a pad token that is not the end token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from meadowlark.checkpoints import known_checkpoint
from meadowlark.errors import UserError
from meadowlark.records import Record
from meadowlark.templates import PromptTemplate, load_template, messages

BEGIN, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"


def learn_tokenizer(texts: Iterable[str], vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer learned from ``texts``, the same for the same texts.

    Any text can be encoded and comes back unchanged. Digits stay single, as in LLaMA. The
    vocabulary is at most ``vocabulary``, special tokens included, and smaller where the texts hold
    fewer pairs that occur twice.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[PAD, BEGIN, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def learning_texts(records: Iterable[Record], template: PromptTemplate) -> Iterator[str]:
    """What a new tokenizer learns from: every row's own words, and the template's texts once.

    Writing the template once a row would spend the vocabulary on its few words.
    """
    for text in (template.primer, template.primer_without_input):
        yield text + template.instruction + template.input + template.response
    for record in records:
        for turn in messages(record, with_output=True):
            yield turn.content


def load_tokenizer(source: str | Path, template: str | None) -> Any:
    """The tokenizer of a checkpoint (folder or hub id) with ``template`` compiled into it.

    Without ``template`` the checkpoint's own chat template stays, or that of a known checkpoint is
    taken, whose BOS rule also holds when its template is named; with none it is a user error.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        where = "" if Path(source).exists() else " (no such local folder, so taken as a hub id)"
        raise UserError(f"cannot load the tokenizer of {str(source)!r}{where}: {error}") from None
    known = known_checkpoint([str(source)])
    if template is None and known is not None and not tokenizer.chat_template:
        template = known.template or None
    if known is not None and template == known.template:
        tokenizer.chat_template = known.chat_template()
    elif template is not None:
        tokenizer.chat_template = load_template(template).chat_template()
    if not tokenizer.chat_template:
        raise UserError(
            f"{str(source)!r} has no chat template, and nothing is guessed: set data.template to "
            "alpaca, alpaca-lora, medalpaca or a template file"
        )
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        _choose_pad(tokenizer)
    return tokenizer


def add_tokens(tokenizer: Any, added: tuple[str, ...]) -> None:
    """Add new special tokens, at the end; what the tokenizer has already is a user error.

    A tokenizer whose pad token is its end token takes one of them for padding.
    """
    known = tokenizer.get_vocab()
    for token in added:
        if token in known:
            raise UserError(f"model.added_tokens: {token!r} is in the base's tokenizer already")
    tokenizer.add_tokens(list(added), special_tokens=True)
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        _choose_pad(tokenizer)


def _choose_pad(tokenizer: Any) -> None:
    """Name an existing token as pad: a pad token equal to the end token unlearns the end.

    The first choice is one named so, then the unknown token, then a special token that no template
    writes (no text may hold one, so that it stays apart). Training itself never pads. Without a
    candidate the tokenizer stays as it is.
    """
    taken = {tokenizer.bos_token, tokenizer.eos_token}
    special = [str(t) for t in tokenizer.added_tokens_decoder.values() if t.special]
    free = [text for text in special if text not in taken]
    named = [text for text in free if "pad" in text.lower()]
    unknown = [text for text in (tokenizer.unk_token,) if text is not None and text not in taken]
    spare = [text for text in free if text not in tokenizer.chat_template]
    for candidate in (*named, *unknown, *spare):
        tokenizer.pad_token = candidate
        return


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write tokenizer and chat template, without traces of this machine.

    transformers 5's own class name becomes the one that 4, and the servers pinned to it, know.
    """
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for loading in ("is_local", "local_files_only"):
        config.pop(loading, None)
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
