"""One encoded row as a person reads it: its text as the model sees it, what is learned set apart.

What is learned is green and between ⟦ and ⟧, so that it can also be read without colour. Special
tokens stand as they are written; what could command a terminal is made visible.
"""

from __future__ import annotations

import itertools
from typing import Any

from rich.text import Text

from meadowlark.terminal import clipped, printable
from meadowlark.train.encode import Example

OPEN, CLOSE = "⟦", "⟧"
STRETCHES = 6
_OWN_MARKS = str.maketrans({OPEN: "[[", CLOSE: "]]"})


def segments(example: Example, tokenizer: Any) -> list[tuple[str, bool]]:
    """The row's text in stretches, and whether each is learned.

    A stretch is what its tokens add to the text of those before them, so that no tokenizer's
    treatment of a text's beginning shows. A character whose bytes lie on both sides of a border
    belongs to the later stretch.
    """
    ids = example.input_ids.tolist()
    borders = [0, *(edge for span in example.spans for edge in span), len(ids)]
    found: list[tuple[str, bool]] = []
    done = ""
    whole = tokenizer.decode(ids)
    for number, (start, end) in enumerate(itertools.pairwise(borders)):
        upto = tokenizer.decode(ids[:end])
        if not whole.startswith(upto):
            upto = upto.rstrip("\ufffd")
        if not (upto.startswith(done) and whole.startswith(upto)):
            upto = done + tokenizer.decode(ids[start:end])
            whole = upto + tokenizer.decode(ids[end:])
        if end > start:
            found.append((upto[len(done) :], number % 2 == 1))
        done = upto
    return found


def marked(example: Example, tokenizer: Any, title: str, *, most: int | None = None) -> Text:
    """The row under a title that counts its tokens.

    With ``most`` every stretch is shortened to about so many characters, and of more stretches
    than :data:`STRETCHES` those in the middle are left out.
    """
    counts = f"{len(example.input_ids):,} tokens, {example.supervised:,} of them learned"
    text = Text(f"{title} {printable(example.id)}: {counts} ({OPEN} … {CLOSE})\n", style="bold")
    stretches = segments(example, tokenizer)
    left_out = len(stretches) - STRETCHES if most is not None else 0
    for number, (stretch, learned) in enumerate(stretches):
        if 0 <= number - 2 < left_out:
            if number == 2:
                text.append(f"[… {left_out} stretches …]", style="not bold dim")
            continue
        if most is not None:  # a prompt begins with what all prompts begin with
            stretch = clipped(stretch, most, head=0.67 if learned else 0.33)
        shown = printable(stretch.translate(_OWN_MARKS))
        if learned:
            text.append(f"{OPEN}{shown}{CLOSE}", style="not bold green")
        else:
            text.append(shown, style="not bold dim")
    return text
