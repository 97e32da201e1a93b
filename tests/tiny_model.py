"""A tiny LLaMA with random weights and its own tokenizer, in the Hugging Face layout."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from meadowlark.templates import TEMPLATES

SENTENCES = [
    "Below is an instruction that describes a task. Write a response to the request.",
    "Answer this multiple choice question. Which organ makes bile? A: Heart B: Liver C: Lung",
    "A patient has a fever and a cough. What should the doctor ask? Explain in simple words.",
    "### Instruction: ### Input: ### Response: The answer is the kidney, the liver, or the heart.",
]


def make_tokenizer(template: str | None = "alpaca") -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    if template is not None:
        made.chat_template = TEMPLATES[template].chat_template()
    return made


def make_tiny_model(
    folder: Path,
    template: str | None = "alpaca",
    *,
    width: int = 32,
    context: int = 512,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Save the model and tokenizer in ``folder``; weights large enough that answers differ."""
    tokenizer = make_tokenizer(template)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=context,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            initializer_range=0.4,
            **config,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
