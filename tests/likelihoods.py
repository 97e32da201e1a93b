"""Likelihoods of given continuations, asked for at once, as tests compare models by them."""

from collections.abc import Sequence

from meadowlark.llm.local import TransformersModel
from meadowlark.records import Turn


def loglikelihoods(
    model: TransformersModel,
    prompts: Sequence[Sequence[Turn]],
    continuations: Sequence[Sequence[str]],
) -> list[list[float]]:
    """For each prompt, the log-likelihood (nats, summed over tokens) of each continuation."""
    queries = model.queries([model.prompter.render(turns) for turns in prompts], continuations)
    results: list[list[float]] = [[] for _ in queries]
    for batch in model.batches([query.width for query in queries], padded=False):
        scored = model.score([queries[index] for index in batch])
        for index, values in zip(batch, scored, strict=True):
            results[index] = values
    return results
