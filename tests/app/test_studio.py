"""The one pipeline behind all visitors."""

import re
import threading
from typing import Any

import numpy as np
import pytest
import torch

import diffusers_nested
from diffusers_nested import NestedAdapterError, Subject, miniature
from diffusers_nested.app.maps import words_with_maps
from diffusers_nested.app.shots import Compare, shots_of
from diffusers_nested.app.studio import Cancelled, Studio, Visits
from diffusers_nested.app.wish import Wish
from diffusers_nested.app.wording import in_words

PROMPT = "a photo of a person on the beach"


@pytest.fixture(scope="module")
def pipeline() -> Any:
    pipeline = miniature.load_pipeline()
    pipeline.load_nested_adapter([miniature.path("people"), miniature.path("pets")])
    return pipeline


@pytest.fixture
def studio(pipeline: Any) -> Studio:
    return Studio(pipeline, {"height": 32, "width": 32})


def wish(prompt: str = PROMPT, word: str = "person", **values: Any) -> Wish:
    subjects = {"Subject 2": Subject([miniature.example("mira")], token=word)}
    return Wish(prompt, "", subjects, num_inference_steps=2, **values)


def draw(studio: Studio, one: Wish, compare: Compare = Compare.NOTHING, stop: Any = None, tell: Any = None) -> Any:
    return studio.draw(one, shots_of(one, compare), tell or (lambda done, total: None), stop or threading.Event())


def test_pictures_are_those_of_the_pipeline(studio: Studio, pipeline: Any):
    told = []
    drawn = draw(studio, wish(scale=1.5, seed=3, maps=True), tell=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    settings = {"num_inference_steps": 2, "guidance_scale": 4.0, "height": 32, "width": 32}
    person = Subject(miniature.example("mira"), token="person", scale=1.5)
    for picture, keywords in zip(drawn.pictures.values(), [{"nested_adapter_image": person}, {}], strict=True):
        generator = torch.Generator().manual_seed(3)
        expected = pipeline(PROMPT, generator=generator, **settings, **keywords).images[0]
        assert np.array_equal(picture, expected)
    with diffusers_nested.trace(pipeline) as inside:
        pipeline(PROMPT, generator=torch.Generator().manual_seed(3), **settings, nested_adapter_image=person)
    assert list(drawn.maps.of_words) == ["person", "photo", "beach"]
    first = next(iter(drawn.pictures.values()))
    assert np.array_equal(drawn.maps.picture, first.resize((256, 256), 0))
    for word, found in drawn.maps.of_words.items():
        map = inside.word_map(word).map
        where = divmod(int(map.argmax()), map.shape[1])
        times = 256 // map.shape[0]
        cell = found[where[0] * times : (where[0] + 1) * times, where[1] * times : (where[1] + 1) * times]
        assert found.shape == (256, 256) and found.min() == 0 and found.max() == cell.max() == 1


@pytest.mark.parametrize(
    ("prompt", "subjects", "expected"),
    [
        ("A photo of a Person, in the snow", ["person"], ["person", "photo", "snow"]),
        (
            "a golden retriever and a king; the king's crown!",
            ["king", "golden retriever"],
            ["king", "golden retriever", "crown"],
        ),
        ("", [], []),
        ("ein schöner Tag, été, 12345 (person:1.2)", ["person"], ["person", "schöner"]),
        (" ".join(f"word{chr(97 + i)}" for i in range(20)), ["wordc"], ["wordc", *(f"word{i}" for i in "abdefghijkl")]),
    ],
)
def test_words_that_get_a_map(prompt: str, subjects: list[str], expected: list[str]):
    assert words_with_maps(prompt, subjects) == expected


def test_a_cancelled_drawing_stops_at_once_and_leaves_the_studio_ready(studio: Studio):
    plain = Wish(PROMPT, num_inference_steps=1)
    (before,) = draw(studio, plain).pictures.values()
    stop, told = threading.Event(), []

    def tell(done: int, total: int) -> None:
        told.append(done)
        stop.set()

    with pytest.raises(Cancelled):
        draw(studio, wish(seed=1), Compare.SEEDS, stop, tell)
    assert told == [1]
    with pytest.raises(Cancelled):  # cancelled while it waited
        draw(studio, plain, stop=stop)
    (after,) = draw(studio, plain).pictures.values()
    assert np.array_equal(before, after)


class OneAtATime:
    """A pipeline that counts who is in it."""

    def __init__(self, pipeline: Any) -> None:
        self.own, self.lock, self.inside, self.most = pipeline, threading.Lock(), 0, 0
        self.set_progress_bar_config = pipeline.set_progress_bar_config
        self.maybe_free_model_hooks = pipeline.maybe_free_model_hooks

    def __call__(self, **keywords: Any) -> Any:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            return self.own(**keywords)
        finally:
            with self.lock:
                self.inside -= 1


def test_one_visitor_at_a_time(pipeline: Any):
    counted = OneAtATime(pipeline)
    studio, results = Studio(counted, {}), {}
    wishes = [Wish(PROMPT, seed=seed, num_inference_steps=1) for seed in range(3)]
    threads = [threading.Thread(target=lambda one=one: results.update(draw(studio, one).pictures)) for one in wishes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted.most == 1 and sorted(shot.seed for shot in results) == [0, 1, 2]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (wish("a photo of a pet"), "The word 'person' is not in the prompt. .* or change the word of the photos."),
        (wish("a photo of a king", "king"), "^Subject 2 has the word 'king', .* Choose its adapter beside the word.$"),
    ],
)
def test_errors_speak_of_the_page(studio: Studio, one: Wish, expected: str):
    told = []
    with pytest.raises(NestedAdapterError) as caught:
        draw(studio, one, tell=lambda *step: told.append(step))
    words = in_words(caught.value, list(one.subjects))
    assert re.search(expected, words), words
    assert "nested_adapter" not in words and not told  # nothing is drawn first


def test_visitors_stop_their_own_work_only() -> None:
    visits = Visits()
    with visits.work("a") as first, visits.work("a") as second, visits.work("b") as other:
        assert visits.stop("a") and not visits.stop("c")
        assert first.is_set() and second.is_set() and not other.is_set()
    assert not visits.stop("a") and not visits.stop("b")
