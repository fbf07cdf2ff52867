"""The reduction of a language model to the 13 tokens: its embedding and its head.

A language model knows tens of thousands of tokens; a series needs the 13 of `m2lib.model.vocabulary`. Only their rows
of the embedding and of the head are kept.
"""

import torch
from torch import nn
from transformers import PreTrainedModel

from m2lib.files import InputError
from m2lib.model.vocabulary import PAD_ID, SYMBOLS, TokenRemap


class ReducedHead(nn.Linear):
    """The head of the reduced model, d -> 13: the kept rows, frozen, and a trainable bias, at first zero.

    The bias and the logits are float32 whatever the weights are: in bfloat16 small training steps would be lost.

    Parameters
    ----------
    weight : Tensor of float, shape (13, d)
        The kept rows of the full head; they are copied.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__(weight.shape[1], weight.shape[0], device="meta")
        self.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(len(weight), device=weight.device, dtype=torch.float32))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """The logits of the last hidden states.

        Parameters
        ----------
        hidden : Tensor of float, shape (..., d)
            In the dtype of the weight.

        Returns
        -------
        Tensor of float32, shape (..., 13)
            The scores of the 13 tokens, before the softmax.
        """
        return nn.functional.linear(hidden, self.weight).float() + self.bias


def reduce_vocabulary(model: PreTrainedModel, remap: TokenRemap) -> PreTrainedModel:
    """Cut a causal LM's embedding and head to the 13 kept tokens, in place.

    The embedding becomes (13, d) and the head a `ReducedHead` of its own, no longer tied; the head's bias is the only
    parameter left trainable. It is zero, so that logits equal the full model's at the kept ids, unless the model has
    biases of these tokens in its generation config, as an exported model does: these move into the head.

    Parameters
    ----------
    model : PreTrainedModel
        With its full vocabulary, on any device, meta too.
    remap : TokenRemap
        The full vocabulary's ids of the 13 tokens.

    Returns
    -------
    PreTrainedModel
        The same model.

    Raises
    ------
    ValueError
        For a model that is reduced already.
    InputError
        Where the ids do not fit the model.
    """
    old_embedding, old_head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    if len(old_embedding) == len(SYMBOLS):
        raise ValueError("this model's vocabulary is reduced already")
    if max(remap.backbone_ids) >= len(old_embedding):
        raise InputError(
            f"the tokenizer's id {max(remap.backbone_ids)} is outside the model's vocabulary of {len(old_embedding)}; "
            "tokenizer and weights do not belong together"
        )
    model.requires_grad_(False)
    rows = torch.tensor(remap.backbone_ids, device=old_embedding.device)
    model.set_input_embeddings(nn.Embedding.from_pretrained(old_embedding[rows].clone(), freeze=True))
    model.set_output_embeddings(ReducedHead(old_head[rows]))

    _move_biases(model, remap)
    for config in (model.config, model.generation_config):
        if config is not None:
            config.bos_token_id = config.eos_token_id = None
            config.pad_token_id = PAD_ID
    model.config.vocab_size = len(SYMBOLS)
    model.config.tie_word_embeddings = False
    return model


@torch.no_grad()
def _move_biases(model: PreTrainedModel, remap: TokenRemap) -> None:
    """From the generation config, whose ids the reduced model no longer has, to the head's bias."""
    config, bias = model.generation_config, model.get_output_embeddings().bias
    if config is None or not config.sequence_bias:
        return
    pairs = config.sequence_bias  # a file has lists, [[[31], 0.2], ...]; transformers also takes a dict, {(31,): 0.2}
    for ids, value in pairs.items() if isinstance(pairs, dict) else pairs:
        if len(ids) == 1 and ids[0] in remap.backbone_ids:
            bias[remap.backbone_ids.index(ids[0])] = value
    config.sequence_bias = None
