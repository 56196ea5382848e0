"""Every form in which a call gives its subjects, and every form that is refused."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from diffusers_nested.errors import SubjectError
from diffusers_nested.subjects import Subject
from subject_cases import CAT, DOG, ONE, PHOTO, TOKENS, names, only, resolve, same_objects


class TestImages:
    @pytest.mark.parametrize(
        "image",
        [
            PHOTO,
            PIL.Image.new("L", (4, 6)),
            DOG,
            np.zeros((8, 8)),
            np.zeros((8, 8, 1)),
            np.zeros((8, 8, 4), dtype=np.float32),
            CAT,
            torch.zeros(1, 8, 8),
            torch.zeros(4, 8, 8, dtype=torch.uint8),
            torch.zeros(3, 8, 8, dtype=torch.float16),
        ],
        ids=lambda image: f"{type(image).__name__} {getattr(image, 'shape', '')}",
    )
    def test_one_image(self, image):
        subject = only(image)
        assert same_objects(subject.images, [image])
        assert (subject.adapter_name, subject.token, subject.embeds) == ("humans", "person", None)
        assert (subject.scale, subject.image_weights, subject.token_indices) == (None, None, None)

    @pytest.mark.parametrize("kind", [list, tuple])
    def test_several_photos_of_one_subject(self, kind):
        assert same_objects(only(kind([PHOTO, DOG, CAT])).images, [PHOTO, DOG, CAT])

    def test_with_a_word(self):
        subject = only(PHOTO, token="child")
        assert (subject.adapter_name, subject.token) == ("humans", "child")

    def test_dict(self):
        [subjects] = resolve({"person": PHOTO, "pet": [DOG, CAT]})
        assert names(subjects) == [("humans", "person"), ("pets", "pet")]
        assert same_objects(subjects[0].images, [PHOTO])
        assert same_objects(subjects[1].images, [DOG, CAT])

    def test_subject(self):
        subject = only(
            Subject([PHOTO, DOG], token="old man", scale=2, image_weights=[1, 0], token_indices=[5, 6]), adapters=ONE
        )
        assert same_objects(subject.images, [PHOTO, DOG])
        assert (subject.adapter_name, subject.token) == ("humans", "old man")
        assert (subject.scale, subject.image_weights, subject.token_indices) == (2.0, (1.0, 0.0), (5, 6))

    @pytest.mark.parametrize("kind", [list, tuple])
    def test_list_of_subjects(self, kind):
        [subjects] = resolve(kind([Subject(PHOTO, adapter_name="humans"), Subject(DOG, token="pet")]))
        assert names(subjects) == [("humans", "person"), ("pets", "pet")]

    def test_images_and_embeddings_in_one_list(self):
        [subjects] = resolve([Subject(PHOTO, token="person"), Subject(image_embeds=TOKENS, token="pet")])
        assert [len(subject.images) for subject in subjects] == [1, 0]
        assert subjects[0].embeds is None
        assert subjects[1].embeds is TOKENS


class TestEmbeds:
    def test_one_tensor(self):
        subject = only(embeds=TOKENS)
        assert subject.embeds is TOKENS
        assert subject.images == ()
        assert (subject.adapter_name, subject.token) == ("humans", "person")

    def test_several_images_in_one_tensor(self):
        many = torch.cat([TOKENS, TOKENS + 1])
        assert only(embeds=Subject(image_embeds=many, image_weights=(0.5, 2))).image_weights == (0.5, 2.0)

    def test_list_is_joined_in_order_with_gradients(self):
        leaf = TOKENS.clone().requires_grad_()
        embeds = only(embeds=[leaf, torch.cat([TOKENS + 1, TOKENS + 2])]).embeds
        assert embeds is not None
        torch.testing.assert_close(embeds, torch.cat([TOKENS, TOKENS + 1, TOKENS + 2]))
        embeds.sum().backward()
        assert leaf.grad is not None

    def test_dict(self):
        [subjects] = resolve(embeds={"person": TOKENS, "pet": [TOKENS, TOKENS]})
        assert names(subjects) == [("humans", "person"), ("pets", "pet")]
        assert [subject.embeds.shape[0] for subject in subjects if subject.embeds is not None] == [1, 2]

    def test_with_a_word(self):
        assert only(embeds=TOKENS, token="child").token == "child"


class TestSeveralPrompts:
    @pytest.mark.parametrize("form", [PHOTO, [PHOTO, DOG], {"person": PHOTO}, Subject(PHOTO), [Subject(PHOTO)]])
    def test_one_form_serves_all(self, form):
        rows = resolve(form, num_prompts=3, adapters=ONE)
        assert len(rows) == 3
        assert all(same_objects(row, rows[0]) for row in rows)  # so that its images are encoded once
        rows[0].clear()
        assert rows[1], "the lists themselves are separate"

    @pytest.mark.parametrize("kind", [list, tuple])
    def test_one_dict_per_prompt(self, kind):
        rows = resolve(kind([{"person": PHOTO}, {"pet": DOG, "person": CAT}]), num_prompts=2)
        assert [names(row) for row in rows] == [
            [("humans", "person")],
            [("pets", "pet"), ("humans", "person")],
        ]
        assert same_objects(rows[1][1].images, [CAT])

    def test_one_list_of_subjects_per_prompt(self):
        rows = resolve([[Subject(PHOTO, token="person")], (Subject(DOG, token="pet"),)], num_prompts=2)
        assert [names(row) for row in rows] == [[("humans", "person")], [("pets", "pet")]]

    def test_dicts_and_lists_mixed(self):
        rows = resolve([{"person": PHOTO}, [Subject(DOG, token="pet")]], num_prompts=2)
        assert [names(row) for row in rows] == [[("humans", "person")], [("pets", "pet")]]

    def test_embeddings_per_prompt(self):
        rows = resolve(embeds=[{"person": TOKENS}, {"pet": TOKENS}], num_prompts=2)
        assert [names(row) for row in rows] == [[("humans", "person")], [("pets", "pet")]]

    @pytest.mark.parametrize("num_prompts", [1, 3])
    def test_wrong_number(self, num_prompts: int):
        with pytest.raises(SubjectError, match=f"2 .*{num_prompts}"):
            resolve([{"person": PHOTO}, {"pet": DOG}], num_prompts=num_prompts)

    @pytest.mark.parametrize("odd", [PHOTO, Subject(PHOTO, token="pet"), [PHOTO], [Subject(PHOTO), PHOTO], "person"])
    def test_entry_of_another_form(self, odd):
        with pytest.raises(SubjectError, match=type(odd).__name__):
            resolve([{"person": PHOTO}, odd], num_prompts=2)


class TestRefusedForms:
    @pytest.mark.parametrize("path", ["me.png", Path("me.png")])
    @pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [PHOTO, x], lambda x: {"pet": x}, Subject])
    def test_path_without_a_file(self, path, wrap):
        with pytest.raises(SubjectError, match=r"no image file 'me\.png'"):
            resolve(wrap(path), adapters=ONE)

    @pytest.mark.parametrize("value", [3, b"bytes", object(), {1, 2}, iter([PHOTO])])
    @pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [PHOTO, x], lambda x: {"pet": x}, Subject])
    def test_wrong_type(self, value, wrap):
        with pytest.raises(SubjectError, match=type(value).__name__):
            resolve(wrap(value), adapters=ONE)

    def test_wrong_type_in_a_dict_names_the_word(self):
        with pytest.raises(SubjectError, match="'pet'"):
            resolve({"person": PHOTO, "pet": 3})

    def test_subject_in_a_dict(self):
        with pytest.raises(SubjectError, match="Subject"):
            resolve({"pet": Subject(PHOTO)})

    @pytest.mark.parametrize("form", [[], (), {}, {"pet": []}, Subject([])])
    def test_empty(self, form):
        with pytest.raises(SubjectError, match="empty"):
            resolve(form, adapters=ONE)
        with pytest.raises(SubjectError, match="empty"):
            empty = Subject(image_embeds=[]) if isinstance(form, Subject) else form
            resolve(embeds=empty, adapters=ONE)

    @pytest.mark.parametrize("form", [[[]], [{}], [None], (None,)])
    def test_no_prompt_with_a_subject(self, form):
        with pytest.raises(SubjectError, match=r"No entry of nested_adapter_image has a subject. Leave it out"):
            resolve(form, adapters=ONE)
        with pytest.raises(SubjectError, match=r"No entry of nested_adapter_image_embeds"):
            resolve(embeds=form, adapters=ONE)

    def test_subjects_and_images_in_one_list(self):
        with pytest.raises(SubjectError, match="Image"):
            resolve([Subject(PHOTO, token="person"), PHOTO])

    def test_lists_of_images_in_a_list(self):
        with pytest.raises(SubjectError, match="per prompt"):
            resolve([[PHOTO, DOG]], adapters=ONE)

    def test_images_together_with_embeddings(self):
        with pytest.raises(SubjectError, match=r"nested_adapter_image.*nested_adapter_image_embeds"):
            resolve(PHOTO, TOKENS, adapters=ONE)
        with pytest.raises(SubjectError, match=r"both"):
            resolve(Subject(PHOTO, TOKENS), adapters=ONE)

    @pytest.mark.parametrize("form", [Subject(), Subject(token="person"), {"person": None}])
    def test_neither_images_nor_embeddings(self, form):
        with pytest.raises(SubjectError, match="neither"):
            resolve(form, adapters=ONE)

    def test_nothing_at_all(self):
        with pytest.raises(SubjectError, match="nested_adapter_image"):
            resolve(token="person", adapters=ONE)
