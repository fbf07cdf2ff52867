"""The 13 tokens: their tokenizer, and the two-way map to a backbone's own ids.

Id 0 is the pad, 1 to 10 are the digits 0 to 9, 11 is the comma, 12 the semicolon: `95,1;` is 10 6 11 2 12.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m2lib.files import InputError
from m2lib.series import PAD

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

SYMBOLS = (PAD, *"0123456789", ",", ";")  # a symbol's place is its id
PAD_ID, COMMA_ID, SEMICOLON_ID = 0, 11, 12
_ID_OF = {symbol: i for i, symbol in enumerate(SYMBOLS)}


def text_to_ids(text: str) -> list[int]:
    """Token ids of an encoded series, one per character.

    Parameters
    ----------
    text : str
        Of digits, commas and semicolons; a `<pad>` is not read.

    Returns
    -------
    list of int
        From 1 to 12.

    Raises
    ------
    InputError
        Where the text holds anything else, with the character and its position.
    """
    try:
        return [_ID_OF[character] for character in text]
    except KeyError:
        position, character = next((i, c) for i, c in enumerate(text) if c not in _ID_OF)
        raise InputError(
            f"character {character!r} at position {position} is not one of the 12 symbols 0-9 , ;"
        ) from None


def ids_to_text(ids: Iterable[int]) -> str:
    """The text of token ids, `<pad>` written out.

    Parameters
    ----------
    ids : iterable of int
        From 0 to 12.

    Returns
    -------
    str
        One character a token, five for a pad.
    """
    return "".join(SYMBOLS[i] for i in ids)


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """The 13-symbol vocabulary as an ordinary Hugging Face tokenizer.

    Complete in its tokenizer.json: `save_pretrained` to a folder of its own, and `AutoTokenizer.from_pretrained`
    brings it back.

    Returns
    -------
    PreTrainedTokenizerFast
        Pads on the left, as batched decoding needs. It has no unknown token, so that a foreign character raises
        instead of vanishing; `text_to_ids` says where it stands.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel(dict(_ID_OF)))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")  # each character is a word of its own
    core.decoder = decoders.Fuse()  # without it decoding puts a space between digits
    core.add_special_tokens([PAD])
    core.enable_padding(direction="left", pad_id=PAD_ID, pad_token=PAD)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, padding_side="left", clean_up_tokenization_spaces=False
    )


@dataclass(frozen=True)
class TokenRemap:
    """Where each of the 13 symbols lives in a backbone's own vocabulary."""

    backbone_ids: tuple[int, ...]
    """`backbone_ids[i]` is the backbone's id of symbol i, that is of `SYMBOLS[i]`."""

    @classmethod
    def from_tokenizer(cls, tokenizer: "PreTrainedTokenizerBase") -> "TokenRemap":
        """Ask a backbone's tokenizer for each symbol.

        Parameters
        ----------
        tokenizer : PreTrainedTokenizerBase
            The pad is its pad token, else `<|endoftext|>`, else its end-of-sequence token.

        Returns
        -------
        TokenRemap
            With 13 ids, no two of them equal.

        Raises
        ------
        InputError
            Where a symbol is not exactly one token, two symbols share one, a series is not written symbol by symbol,
            or there is nothing to pad with.
        """
        ids = [_pad_id(tokenizer)]
        for symbol in SYMBOLS[1:]:
            tokens = tokenizer.encode(symbol, add_special_tokens=False)
            if len(tokens) != 1:
                raise InputError(
                    f"this backbone's tokenizer writes {symbol!r} as {len(tokens)} tokens {list(tokens)}, not one; "
                    "choose a backbone that splits numbers into single digits"
                )
            ids.append(int(tokens[0]))
        # Symbols that are one token each may still merge with their neighbours, as in `52` or `;9`.
        example = "952,1034;948,1029;"
        pieces = list(tokenizer.encode(example, add_special_tokens=False))
        if pieces != [ids[i] for i in text_to_ids(example)]:
            raise InputError(
                f"this backbone's tokenizer does not write {example!r} symbol by symbol but as {len(pieces)} tokens; "
                "choose a backbone that splits numbers into single digits"
            )
        if len(set(ids)) != len(ids):
            raise InputError(
                f"this backbone's tokenizer gives two symbols one id: {dict(zip(SYMBOLS, ids, strict=True))}"
            )
        return cls(tuple(ids))

    def to_backbone(self, ids: Iterable[int]) -> list[int]:
        """The backbone's ids of reduced ones.

        Parameters
        ----------
        ids : iterable of int
            From 0 to 12.

        Returns
        -------
        list of int
            In the backbone's own vocabulary.
        """
        return [self.backbone_ids[i] for i in ids]

    def from_backbone(self, ids: Sequence[int]) -> list[int]:
        """The reduced ids of a backbone's.

        Parameters
        ----------
        ids : sequence of int
            In the backbone's own vocabulary.

        Returns
        -------
        list of int
            From 0 to 12.

        Raises
        ------
        InputError
            For an id that is none of the 13, with its position.
        """
        back = {backbone_id: i for i, backbone_id in enumerate(self.backbone_ids)}
        for position, backbone_id in enumerate(ids):
            if int(backbone_id) not in back:
                raise InputError(f"id {int(backbone_id)} at position {position} is none of the 13 kept tokens")
        return [back[int(i)] for i in ids]


def _pad_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    """The id of the token that stands for the pad in a backbone's vocabulary."""
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    end_of_text = tokenizer.get_vocab().get("<|endoftext|>", tokenizer.eos_token_id)
    if end_of_text is None:
        raise InputError("this backbone's tokenizer has no pad, <|endoftext|> or end-of-sequence token to pad with")
    return int(end_of_text)
