"""Text similarity that several stages need. `rouge` is the exact ROUGE-L join and its growing
index; every answer equals what comparing pair by pair would give."""

from meadowlark.match.rouge import (
    NearDuplicates,
    RougeIndex,
    near_duplicates,
    rouge_l_f1,
)
from meadowlark.match.tokens import tokenize

__all__ = ["NearDuplicates", "RougeIndex", "near_duplicates", "rouge_l_f1", "tokenize"]
