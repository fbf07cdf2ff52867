"""The 13 tokens: their ids, those that a backbone has for them, and a model reduced to them.

Id 0 is the pad, 1 to 10 are the digits 0 to 9, 11 is the comma, 12 the semicolon: `95,1;` is 10 6
11 2 12. A language model knows tens of thousands of tokens; only these 13 rows of its embedding and
of its head are kept.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from m2lib.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SYMBOLS = ("<pad>", *"0123456789", ",", ";")
"""The 13 tokens; the place of each is its id.

Every adapter holds a bias for each of them (head_bias.safetensors), so none can be added or
replaced without training all adapters anew.
"""
PAD_ID = 0  # the id of `<pad>`
COMMA_ID = 11  # the id of `,`
SEMICOLON_ID = 12  # the id of `;`
_ID_OF = {symbol: i for i, symbol in enumerate(SYMBOLS)}


def text_to_ids(text: str) -> list[int]:
    """Return the token ids of an encoded series, one a character; KeyError for an unknown one."""
    return [_ID_OF[character] for character in text]


def ids_to_text(ids: Iterable[int]) -> str:
    """Return the text of token ids, `<pad>` written out."""
    return "".join(SYMBOLS[i] for i in ids)


@dataclass(frozen=True)
class TokenRemap:
    """The ids of the 13 symbols in a backbone's own vocabulary."""

    backbone_ids: tuple[int, ...]
    """`backbone_ids[i]` is the backbone's id of `SYMBOLS[i]`."""

    @classmethod
    def from_tokenizer(cls, tokenizer: "PreTrainedTokenizerBase") -> "TokenRemap":
        """Look up the id of each symbol in a backbone's tokenizer.

        The pad is the tokenizer's own pad, else its `<|endoftext|>`, else its end of text.

        Raises
        ------
        InputError
            If the tokenizer does not write a series symbol by symbol, or has nothing for the pad.
        """
        pad = tokenizer.pad_token_id
        if pad is None:
            pad = tokenizer.get_vocab().get("<|endoftext|>", tokenizer.eos_token_id)
        if pad is None:
            raise InputError(
                "this backbone's tokenizer has neither a pad nor an end of text; "
                "name one of its tokens as pad_token in tokenizer_config.json"
            )
        ids = [pad]
        for symbol in SYMBOLS[1:]:
            ids += tokenizer.encode(symbol, add_special_tokens=False)
        # Symbols that are one token each may still merge with their neighbours, as in `52` or `;9`.
        example = "952,1034;948,1029;"
        pieces = tokenizer.encode(example, add_special_tokens=False)
        one_token_each = len(set(ids)) == len(ids) == len(SYMBOLS)
        if not one_token_each or pieces != [ids[i] for i in text_to_ids(example)]:
            raise InputError(
                f"this backbone's tokenizer does not write {example!r} symbol by symbol "
                f"but as {len(pieces)} tokens; "
                "choose a backbone that splits numbers into single digits"
            )
        return cls(tuple(ids))

    def to_backbone(self, ids: Iterable[int]) -> list[int]:
        """Translate reduced ids, 0 to 12, into the backbone's."""
        return [self.backbone_ids[i] for i in ids]


class ReducedHead(nn.Linear):
    """The head of the reduced model, d -> 13: frozen rows of the full head, and a trainable bias.

    The bias starts at 0. It and the logits are float32 whatever the weights are, because in
    bfloat16 small training steps would be lost.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        # Weight and bias are set right below; on the meta device none is allocated or drawn before.
        super().__init__(weight.shape[1], weight.shape[0], device="meta")
        self.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        self.bias = nn.Parameter(
            torch.zeros(len(weight), device=weight.device, dtype=torch.float32)
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return float32 logits (..., 13) of final hidden states (..., d) in the weight's dtype."""
        return nn.functional.linear(hidden, self.weight).float() + self.bias


def reduce_vocabulary(model: nn.Module, remap: TokenRemap) -> nn.Module:
    """Cut a causal LM's embedding and head to the 13 tokens, in place, and return the model.

    The embedding becomes (13, d) and the head a `ReducedHead`, no longer tied to it, whose bias is
    the only trainable parameter. The bias is zero, so that logits equal the full model's at these
    ids.
    """
    old_embedding = model.get_input_embeddings().weight
    old_head = model.get_output_embeddings().weight
    model.requires_grad_(False)
    rows = torch.tensor(remap.backbone_ids, device=old_embedding.device)
    head = ReducedHead(old_head[rows])
    model.set_input_embeddings(nn.Embedding.from_pretrained(old_embedding[rows]))
    model.set_output_embeddings(head)

    # The full vocabulary's begin and end of text are not among the 13 tokens.
    for config in (model.config, model.generation_config):
        config.bos_token_id = None
        config.eos_token_id = None
        config.pad_token_id = PAD_ID
    model.config.vocab_size = len(SYMBOLS)
    model.config.tie_word_embeddings = False
    return model
