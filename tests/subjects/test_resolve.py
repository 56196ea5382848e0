"""Which adapter a subject uses, and subjects of one prompt that get in each other's way."""

import pytest

from diffusers_nested.errors import SubjectError
from diffusers_nested.subjects import Subject
from subject_cases import DOG, ONE, PHOTO, TWO, names, only, resolve


class TestAdapter:
    @pytest.mark.parametrize("word", ["pet", "PET", " pet ", "pets"])
    def test_by_word(self, word: str):
        subject = only(PHOTO, token=word, adapters=TWO)
        assert (subject.adapter_name, subject.token) == ("pets", word)

    def test_a_name_goes_before_the_words_of_others(self):
        assert only(PHOTO, token="pet", adapters={"cats": "pet", "pet": "dog"}).adapter_name == "pet"

    def test_any_word_with_one_adapter(self):
        assert only(PHOTO, token="child", adapters=ONE).adapter_name == "humans"

    def test_by_name(self):
        subject = only(Subject(PHOTO, token="child", adapter_name="humans"), adapters=TWO)
        assert (subject.adapter_name, subject.token) == ("humans", "child")

    def test_a_name_goes_before_the_word(self):
        assert only(Subject(PHOTO, token="pet", adapter_name="humans"), adapters=TWO).adapter_name == "humans"

    def test_word_of_the_named_adapter(self):
        assert only(Subject(PHOTO, adapter_name="pets"), adapters=TWO).token == "pet"

    @pytest.mark.parametrize("name", ["cats", 3, ["pets"]])
    def test_unknown_name_lists_the_loaded(self, name):
        with pytest.raises(SubjectError, match=r"humans.*pets"):
            resolve(Subject(PHOTO, adapter_name=name))

    @pytest.mark.parametrize("form", [{"child": PHOTO}, Subject(PHOTO, token="child")])
    def test_word_of_no_adapter(self, form):
        with pytest.raises(SubjectError, match=r"child.*humans.*pets.*adapter_name="):
            resolve(form)

    def test_word_of_several_adapters(self):
        with pytest.raises(SubjectError, match=r"person.*men.*women.*adapter_name="):
            resolve(PHOTO, token="person", adapters={"men": "person", "women": "person"})

    @pytest.mark.parametrize("form", [PHOTO, [PHOTO, DOG], Subject(PHOTO)])
    def test_no_word_with_several_adapters(self, form):
        with pytest.raises(SubjectError, match=r"humans.*pets.*dict"):
            resolve(form)

    def test_none_loaded(self):
        with pytest.raises(SubjectError, match="load_nested_adapter"):
            resolve(PHOTO, adapters={})


class TestSameWord:
    @pytest.mark.parametrize("word", ["person", "PERSON", " person"])
    def test_twice_in_a_prompt(self, word: str):
        with pytest.raises(SubjectError, match=repr(word)):
            resolve([Subject(PHOTO, token="person"), Subject(DOG, token=word)])

    def test_by_default(self):
        with pytest.raises(SubjectError, match="person"):
            resolve([Subject(PHOTO), Subject(DOG)], adapters=ONE)

    def test_dict_keys_in_different_case(self):
        with pytest.raises(SubjectError, match="Pet"):
            resolve({"pet": PHOTO, "Pet": DOG})

    def test_in_different_prompts(self):
        rows = resolve([{"person": PHOTO}, {"person": DOG}], num_prompts=2)
        assert [names(row) for row in rows] == [[("humans", "person")]] * 2

    def test_told_apart_by_positions(self):
        first, second = Subject(PHOTO, token_indices=[2]), Subject(DOG, token_indices=[6])
        [subjects] = resolve([first, second], adapters=ONE)
        assert [subject.token_indices for subject in subjects] == [(2,), (6,)]

    def test_positions_of_one_only(self):
        with pytest.raises(SubjectError, match="person"):
            resolve([Subject(PHOTO, token_indices=[2]), Subject(DOG)], adapters=ONE)

    def test_shared_positions(self):
        first, second = Subject(PHOTO, token_indices=[2, 3]), Subject(DOG, token="pet", token_indices=[3, 4])
        with pytest.raises(SubjectError, match=r"\(3, 4\).*\[3\]"):
            resolve([first, second], adapters=ONE)
