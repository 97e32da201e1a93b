"""Answers during training: what the model says to a few validation prompts as it learns.

Greedy, so that no random number is drawn and the training stays what it would be without them.
They go into ``samples.jsonl``, a line an answer: step, id, prompt, reference, text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from meadowlark.train.encode import Example

SAMPLES = "samples.jsonl"


class Sampler:
    """Answers the prompts of ``examples``, each with at most ``tokens`` tokens."""

    def __init__(self, tokenizer: Any, examples: Sequence[Example], tokens: int) -> None:
        self.tokenizer, self.examples, self.tokens = tokenizer, examples, tokens

    @torch.no_grad()
    def answers(self, model: Any, autocast: torch.dtype | None) -> Iterator[dict[str, str]]:
        """One line for each example, by the model in its present state."""
        training = model.training
        model.eval()
        device = next(model.parameters()).device
        for example in self.examples:
            start = example.spans[-1][0]
            prompt = torch.tensor(example.input_ids[:start].tolist(), device=device)[None]
            with (
                torch.autocast(device.type, autocast, enabled=autocast is not None),
                torch.compiler.set_stance("force_eager"),
            ):
                made = model.generate(
                    input_ids=prompt,
                    attention_mask=torch.ones_like(prompt),
                    max_new_tokens=self.tokens,
                    do_sample=False,
                    use_cache=True,
                    eos_token_id=self.tokenizer.eos_token_id,
                    pad_token_id=self.tokenizer.eos_token_id,
                )
            yield {
                "id": example.id,
                "prompt": self._text(example.input_ids[:start].tolist()),
                "reference": self._text(example.input_ids[start:].tolist()),
                "text": self._text(made[0, start:].tolist()),
            }
        model.train(training)

    def _text(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text
