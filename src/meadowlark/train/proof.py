"""A model type that no test knows is tried out on its own weights before it is trained.

Short random samples are computed alone by the model's own attention, and behind one another by
ours. Where the logits differ by more than rounding, training would be another model's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from meadowlark.errors import UserError
from meadowlark.train.attention import NAME
from meadowlark.train.encode import Example
from meadowlark.train.loss import summed_loss
from meadowlark.train.pack import lay_out
from meadowlark.train.prefix import LEAST

LENGTHS = (24, 17, 21)
DIFFERENT = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""How far a sample's median token may be off (root mean square over its logits, in their spread).

Rounding is at most a fifth of it, and a token that rounding sends to another expert is not the
median; tokens of another sample move every logit by tenths or more.
"""


@torch.no_grad()
def prove(model: Any, *, packing: bool) -> None:
    """Raise UserError unless packed samples give what ``model`` computes for each by itself."""
    rng = np.random.default_rng(0)
    embeddings = model.get_input_embeddings().weight
    ids = [rng.integers(0, len(embeddings), length).astype(np.int32) for length in LENGTHS]
    ids[2][:LEAST] = ids[0][:LEAST]
    examples = [Example("", some, ((1, len(some)),), 1) for some in ids]
    device = embeddings.device
    mode = model.training
    model.eval()
    model.set_attn_implementation("eager")
    tokens = [torch.as_tensor(some, device=device).long() for some in ids]
    own = [model(input_ids=some[None], use_cache=False).logits[0] for some in tokens]
    model.set_attn_implementation(NAME)
    for chosen in ([0], [1], [0, 1], [0, 1, 2]) if packing else ([0], [1]):
        batch = lay_out([examples[row] for row in chosen], device, share=True)
        alone = torch.cat([own[row] for row in chosen]).float()
        logits = model(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            samples=batch.samples,
            use_cache=False,
        ).logits[0]
        logits = batch.of_samples(logits)
        limit = DIFFERENT[logits.dtype]
        off = (logits.float() - alone).square().mean(1).sqrt() / alone.std()
        apart = max(float(some.median()) for some in torch.split(off, batch.samples.lengths))
        nats = sum(
            float(F.cross_entropy(own[row][:-1].float(), tokens[row][1:], reduction="sum"))
            for row in chosen
        )
        loss = float(summed_loss(model, batch))
        if apart > limit or abs(loss - nats) > limit * nats:
            raise UserError(
                f"a {model.config.model_type} model is not known here, and a trial showed that "
                f"{'packed samples' if len(chosen) > 1 else 'its samples'} come out differently "
                f"than from its own attention (logits by {apart:.2g} of their spread, the loss "
                f"{loss:.4g} for {nats:.4g})"
                + ("; try run.packing = false" if len(chosen) > 1 else "")
            )
    model.train(mode)
