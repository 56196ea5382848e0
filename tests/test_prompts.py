"""Word → positions, with CLIP's real vocabulary and diffusers' own conversion of textual-inversion tokens."""

import pytest
import torch
from diffusers.loaders import TextualInversionLoaderMixin
from transformers import CLIPTokenizer

from clip_vocabulary import sdxl_tokenizers
from diffusers_nested.errors import PromptTokenError
from diffusers_nested.prompts import pair_prompts, unread, word_positions


class Pipeline(TextualInversionLoaderMixin):
    """The part of an SDXL pipeline that reads prompts."""

    def __init__(self, tokenizer: CLIPTokenizer | None, tokenizer_2: CLIPTokenizer):
        self.tokenizers = (tokenizer, tokenizer_2)

    def add_vectors(self, token: str, num_vectors: int) -> None:
        """As `load_textual_inversion` names the vectors of one embedding."""
        for tokenizer in filter(None, self.tokenizers):
            tokenizer.add_tokens([token, *(f"{token}_{i}" for i in range(1, num_vectors))])

    def positions(self, prompt: str, word: str, prompt_2: str | None = None) -> tuple[int, ...]:
        return word_positions(prompt, prompt_2, word, self.tokenizers, self.maybe_convert_prompt)

    def pieces(self, prompt: str, word: str) -> list[list[str]]:
        """What stands at the positions found, in the sequences that SDXL's `encode_prompt` makes."""
        positions = self.positions(prompt, word)
        found = []
        for tokenizer in filter(None, self.tokenizers):
            text = self.maybe_convert_prompt(prompt, tokenizer)
            length = tokenizer.model_max_length
            ids = tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
            found.append(tokenizer.convert_ids_to_tokens(ids["input_ids"][0, torch.tensor(positions)].tolist()))
        return found


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    """Shared, to build the large vocabulary once: no test may add tokens to it."""
    return Pipeline(*sdxl_tokenizers())


@pytest.fixture(scope="module")
def tokenizer(pipe: Pipeline) -> CLIPTokenizer:
    assert pipe.tokenizers[0] is not None
    return pipe.tokenizers[0]


def test_vocabulary_is_that_of_clip(pipe: Pipeline):
    first, second = pipe.tokenizers
    assert first is not None
    for tokenizer in (first, second):
        assert len(tokenizer) == 49408
        assert tokenizer("a photo of a person")["input_ids"] == [49406, 320, 1125, 539, 320, 2533, 49407]
        assert tokenizer("labradoodle", add_special_tokens=False)["input_ids"] == [37067, 9388]
    assert (first.pad_token_id, second.pad_token_id) == (49407, 0)


@pytest.mark.parametrize(
    ("prompt", "word", "expected"),
    [
        ("a photo of a person", "person", (5,)),
        ("person", "person", (1,)),
        ("a person next to a person", "person", (2, 6)),
        ("a labradoodle in the snow", "labradoodle", (2, 3)),
        ("labradoodle labradoodle", "labradoodle", (1, 2, 3, 4)),
        ("a portrait of an old man, an old woman and a man", "old man", (5, 6)),
        ("a Photo of a PERSON", "person", (5,)),
        ("a photo of a person", "PeRson", (5,)),
        ("an OLD   man", " old man ", (2, 3)),
        ("a person, smiling", "person", (2,)),
        ("a person's hat", "person", (2,)),
        ("a person’s hat", "person", (2,)),
        ("a (person) and (a person:1.2)", "person", (3, 8)),
        ("a person!", "person", (2,)),
        ("well-known person-like", "person", (4,)),
        ("a café by the sea", "cafe\u0301", (2,)),
        ("bye bye bye", "bye bye", (1, 2, 3)),
        ("personal salesperson, then a person", "person", (8,)),
    ],
)
def test_positions(pipe: Pipeline, prompt: str, word: str, expected: tuple[int, ...]):
    assert pipe.positions(prompt, word) == expected
    assert word_positions(prompt, None, word, pipe.tokenizers[:1]) == expected


def test_positions_hold_the_pieces_of_the_word(pipe: Pipeline):
    assert pipe.pieces("A Labradoodle: the labradoodle!", "labradoodle") == [["labra", "doodle</w>"] * 2] * 2


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("a personal photo", "person"),
        ("a salesperson at work", "person"),  # ends in "erson</w>"
        ("a salesperson at work", "erson"),
        ("a labradoodle", "doodle"),  # the last piece of the word is a whole word elsewhere
        ("a labradoodle", "labra"),
        ("an old, bearded man", "old man"),
        ("an old man", "man old"),
        ("a photo of a person", "people"),
        ("", "person"),
    ],
)
def test_missing_word_shows_the_tokenised_prompt(pipe: Pipeline, tokenizer: CLIPTokenizer, prompt: str, word: str):
    with pytest.raises(PromptTokenError) as error:
        pipe.positions(prompt, word)
    for i, piece in enumerate(tokenizer.tokenize(prompt), start=1):
        assert f"{i}:{piece}" in str(error.value)
    assert repr(word) in str(error.value)


def test_tails_of_other_words_are_told_from_words(tokenizer: CLIPTokenizer):
    """`doodle</w>` ends "labradoodle" and is all of "doodle": only the second is the word."""
    assert tokenizer.tokenize("labradoodle doodle") == ["labra", "doodle</w>", "doodle</w>"]
    assert word_positions("labradoodle doodle", None, "doodle", [tokenizer]) == (3,)


@pytest.mark.parametrize("word", ["", "  ", None, 3, ["person"]])
def test_word_must_be_text(pipe: Pipeline, word):
    with pytest.raises(PromptTokenError):
        pipe.positions("a photo of a person", word)


@pytest.mark.parametrize("word", ["!", "person!", "<|endoftext|>", "<|startoftext|> a"])
def test_padding_and_special_tokens_are_no_words(pipe: Pipeline, word: str):
    with pytest.raises(PromptTokenError, match="2:person</w>"):
        pipe.positions("a person!", word)


class TestTruncation:
    def test_last_position_that_fits(self, pipe: Pipeline):
        assert pipe.positions("very " * 74 + "person", "person") == (75,)

    def test_only_past_the_limit(self, pipe: Pipeline):
        with pytest.raises(PromptTokenError, match="76:person</w>"):
            pipe.positions("very " * 75 + "person", "person")

    def test_cut_in_the_middle(self, pipe: Pipeline):
        with pytest.raises(PromptTokenError, match="75:labra 76:doodle</w>"):
            pipe.positions("very " * 74 + "labradoodle", "labradoodle")

    def test_cut_in_the_middle_of_a_phrase(self, pipe: Pipeline):
        with pytest.raises(PromptTokenError, match="75:old</w> 76:man</w>"):
            pipe.positions("very " * 74 + "old man", "old man")

    def test_occurrences_that_fit_are_used(self, pipe: Pipeline):
        assert pipe.positions("a labradoodle " + "very " * 71 + "labradoodle", "labradoodle") == (2, 3)
        assert pipe.positions("a person " + "very " * 80 + "person", "person") == (2,)


class TestTextualInversion:
    @pytest.fixture
    def pipe(self) -> Pipeline:
        return Pipeline(*sdxl_tokenizers())

    def test_tokens_before_the_word_shift_it(self, pipe: Pipeline):
        pipe.add_vectors("<style>", 1)
        pipe.add_vectors("<cat>", 4)
        assert pipe.positions("<style> photo of a person", "person") == (5,)
        assert pipe.positions("a <cat> and a person", "person") == (8,)
        assert pipe.pieces("a <cat> and a person", "person") == [["person</w>"]] * 2

    def test_a_token_is_the_word(self, pipe: Pipeline):
        pipe.add_vectors("<me>", 1)
        assert pipe.positions("a photo of <me>, <me>", "<me>") == (4, 6)

    def test_all_vectors_are_the_word(self, pipe: Pipeline):
        pipe.add_vectors("<cat>", 3)
        assert pipe.positions("a <cat> on a <cat>", "<cat>") == (2, 3, 4, 7, 8, 9)
        assert pipe.pieces("a <cat>.", "<cat>") == [["<cat>", "<cat>_1", "<cat>_2"]] * 2

    def test_more_than_ten_vectors(self, pipe: Pipeline):
        pipe.add_vectors("<cat>", 12)
        assert pipe.positions("a <cat> here", "<cat>") == tuple(range(2, 14))

    def test_the_word_is_a_phrase_with_a_token(self, pipe: Pipeline):
        pipe.add_vectors("<cat>", 2)
        assert pipe.positions("a <cat> and a fluffy <cat> toy", "fluffy <cat>") == (6, 7, 8)

    def test_the_word_written_out(self, pipe: Pipeline):
        pipe.add_vectors("<cat>", 2)
        assert pipe.positions("a <cat> here", "<cat> <cat>_1") == (2, 3)

    def test_the_word_in_another_case(self, pipe: Pipeline):
        pipe.add_vectors("<cat>", 2)
        assert pipe.positions("a <cat> here", "<CAT>") == (2, 3)

    def test_a_token_that_only_contains_the_word(self, pipe: Pipeline):
        pipe.add_vectors("<cat>", 2)
        with pytest.raises(PromptTokenError, match="1:a</w> 2:<cat> 3:<cat>_1"):
            pipe.positions("a <cat>", "cat")

    def test_a_word_after_a_token_without_space(self, pipe: Pipeline):
        pipe.add_vectors("<old>", 1)
        assert pipe.positions("a <old>person", "person") == (3,)

    def test_cut_vectors_of_a_textual_inversion_token(self, pipe: Pipeline):
        pipe.add_vectors("<cat>", 3)
        with pytest.raises(PromptTokenError, match="75:<cat>_1 76:<cat>_2"):
            pipe.positions("very " * 73 + "<cat>", "<cat>")
        assert pipe.positions("very " * 72 + "<cat>", "<cat>") == (73, 74, 75)

    def test_loaded_into_one_tokenizer_only(self, pipe: Pipeline):
        pipe.tokenizers[1].add_tokens(["<cat>", "<cat>_1"])
        with pytest.raises(PromptTokenError, match="<cat>_1"):
            pipe.positions("a <cat> and a person", "person")


class TestTwoPrompts:
    def test_same_positions(self, pipe: Pipeline):
        assert pipe.positions("a person in a red hat", "person", "a person, oil painting") == (2,)

    def test_different_positions_show_both(self, pipe: Pipeline):
        with pytest.raises(PromptTokenError) as error:
            pipe.positions("a photo of a person", "person", "a person")
        for part in ("5:person</w>", "2:person</w>", "(5,)", "(2,)", "prompt_2"):
            assert part in str(error.value)

    def test_missing_in_the_second(self, pipe: Pipeline):
        with pytest.raises(PromptTokenError, match=r"prompt_2.* 1:oil</w> 2:painting</w>"):
            pipe.positions("a photo of a person", "person", "oil painting")

    def test_tokenizers_that_read_the_same_text_differently(self, pipe: Pipeline):
        """`tokenizer_2` pads with "!", and so takes "!!" apart where `tokenizer` has one piece."""
        with pytest.raises(PromptTokenError, match=r"2:!!</w> 3:a</w>.* 2:! 3:! 4:a</w>"):
            pipe.positions("wow!! a person", "person")
        assert pipe.positions("a person!!", "person") == (2,)

    def test_without_the_first_tokenizer(self, pipe: Pipeline):
        """Refiner pipelines give `prompt` to `tokenizer_2` and leave `prompt_2` unread."""
        refiner = Pipeline(None, pipe.tokenizers[1])
        assert refiner.positions("a photo of a person", "person", "a person") == (5,)

    def test_without_any_tokenizer(self):
        with pytest.raises(PromptTokenError, match="a person"):
            word_positions("a person", None, "person", (None, None))


class TestOwnVocabulary:
    """A tokenizer with a small vocabulary of its own, as tiny pipelines have them."""

    @pytest.fixture
    def tokenizer(self) -> CLIPTokenizer:
        tokens = [
            "<|startoftext|>",
            "<|endoftext|>",
            *"acemnoprst",
            *(f"{letter}</w>" for letter in "acemnoprst"),
        ]
        vocab = {token: i for i, token in enumerate([*tokens, "so", "son</w>"])}
        merges: list = [("s", "o"), ("so", "n</w>")]
        return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=16)

    def test_positions(self, tokenizer: CLIPTokenizer):
        assert tokenizer.tokenize("person") == ["p", "e", "r", "son</w>"]
        assert word_positions("a person", None, "person", [tokenizer]) == (2, 3, 4, 5)
        assert word_positions("a person son", None, "son", [tokenizer]) == (6,)

    def test_word_that_it_cannot_write(self, tokenizer: CLIPTokenizer):
        """Unknown letters get the id of the padding: any other unknown word, or the padding, would match."""
        with pytest.raises(PromptTokenError, match="1:a</w>"):
            word_positions("a big dog", None, "dog", [tokenizer])

    def test_truncation_at_its_own_length(self, tokenizer: CLIPTokenizer):
        assert word_positions("a " * 13 + "son", None, "son", [tokenizer]) == (14,)
        with pytest.raises(PromptTokenError, match="son</w>"):
            word_positions("a " * 13 + "man son", None, "son", [tokenizer])
        assert unread("a " * 13 + "son", tokenizer) == ""
        assert unread("a " * 13 + "man son", tokenizer) == "an son"  # in the middle of a word

    def test_a_very_long_prompt_is_not_shown_whole(self, tokenizer: CLIPTokenizer):
        with pytest.raises(PromptTokenError, match=r"ends at position 301, but .* only up to 14\.") as caught:
            word_positions("a " * 300 + "son", None, "son", [tokenizer])
        assert " 31:a</w> … Shorten the prompt" in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "prompt_2", "expected"),
    [
        ("a", None, [("a", "a")]),
        ("a", "", [("a", "a")]),
        ("a", "b", [("a", "b")]),
        (["a", "b"], None, [("a", "a"), ("b", "b")]),
        (["a", "b"], ["c", "d"], [("a", "c"), ("b", "d")]),
        (["a", "b"], ["c", ""], [("a", "c"), ("b", "")]),
        (["a"], "c", [("a", "c")]),
    ],
)
def test_pair_prompts(prompt, prompt_2, expected):
    assert pair_prompts(prompt, prompt_2) == expected


def test_pair_prompts_of_different_numbers():
    with pytest.raises(PromptTokenError, match=r"3.*2"):
        pair_prompts(["a", "b", "c"], ["d", "e"])


def test_pair_prompts_that_are_not_text():
    with pytest.raises(PromptTokenError, match="int"):
        pair_prompts(["a", 3])  # pyright: ignore[reportArgumentType]
