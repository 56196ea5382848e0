"""The miniature in comparisons."""

import numpy as np
import pytest
from PIL import Image

from diffusers_nested import NestedAdapterError, miniature
from diffusers_nested.evaluation import Reference, Shot, make_metric
from diffusers_nested.miniature.backgrounds import draw_place
from diffusers_nested.miniature.drawing import Canvas, render
from diffusers_nested.miniature.evaluation import adapter, references
from diffusers_nested.miniature.prompts import wanted
from diffusers_nested.miniature.world import (
    Person,
    Scene,
    is_held_out,
    portrait,
    random_person,
    random_pet,
    random_scene,
)
from recipes.miniature.bundled.captions import describe


def scenes(count: int, seed: int, *, both: bool = False) -> list[Scene]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        subjects = (random_person(rng, held_out=True), random_pet(rng, held_out=True))
        subjects = subjects if both and rng.random() < 0.5 else subjects[::-1]
        found.append(random_scene(rng, subjects if both else subjects[-1:]))
    return found


def truth(scene: Scene, number: int) -> dict[str, str]:
    """What the caption of a scene says of one of its subjects, by the rules of the captions."""
    look, said = scene.looks[number], {"style": scene.style}
    said |= {} if scene.place == "studio" else {"place": scene.place}
    said |= {} if look.shirt == "grey" else {"shirt": look.shirt}
    said |= {} if look.hat == "none" else {"hat": look.hat}
    return said | ({} if look.expression == "neutral" else {"expression": look.expression})


def word(scene: Scene, number: int) -> str:
    return scene.looks[number].role if isinstance(scene.subjects[number], Person) else "pet"


@pytest.mark.parametrize("both", [False, True])
def test_what_captions_name_is_read_from_them(both):
    for scene in scenes(200, seed=1, both=both):
        caption = describe(scene, np.random.default_rng(0), traits=0.0)
        count = len(scene.subjects)
        assert wanted(caption, [word(scene, i) for i in range(count)]) == [truth(scene, i) for i in range(count)]


@pytest.mark.parametrize("both", [False, True])
def test_drawn_pictures_score_high_and_others_low(both):
    drawn = [scene for scene in scenes(120, seed=2, both=both) if all(look.role == "person" for look in scene.looks)]
    shots, pictures = [], []
    for i, scene in enumerate(drawn):
        words = [word(scene, n) for n in range(len(scene.subjects))]
        photo = Image.fromarray(render(scene, np.random.default_rng(i)))
        caption = describe(scene, np.random.default_rng(0), traits=0.0)
        shots.append(Shot(Reference(str(i), {one: [photo] for one in words}), caption, 0, 0))
        pictures.append(photo)
    metric = make_metric("text", "miniature-text")
    right = np.mean([row["text"] for row in metric.score(pictures, shots, None)])
    wrong = np.mean([row["text"] for row in metric.score(pictures[1:] + pictures[:1], shots, None)])
    assert right > 0.9 and wrong < 0.6
    (row, *_) = metric.score(pictures, shots, None)
    named = set().union(*(truth(drawn[0], i) for i in range(len(drawn[0].subjects))))
    assert set(row) == {"text", *(f"text {trait}" for trait in named)}


def test_subjects_are_unseen_and_stay_the_same():
    few, more = references("people", 2, 1), references("people", 3, 4)
    assert [one.name for one in more] == ["people-000", "people-001", "people-002"]
    for one, other in zip(few, more, strict=False):
        assert one.photos()[0].tobytes() == other.photos()[0].tobytes()
    assert len({photo.tobytes() for one in more for photo in one.photos()}) == 12
    unseen = random_person(np.random.default_rng([500, 1]), held_out=True)
    assert is_held_out(unseen)
    portrait_of_it = render(portrait(unseen), np.random.default_rng([500, 0]))
    assert np.array_equal(np.asarray(more[1].photos()[0]), portrait_of_it)
    recogniser = make_metric("identity", "miniature-identity")
    recogniser.check(more)
    # the studio's portraits, against all photos of the same and of the next subject
    shots = [Shot(one, "a photo of a person", 0, 0) for one in more]
    portraits = [one.photos()[0] for one in more]
    own = [row["identity"] for row in recogniser.score(portraits, shots, None)]
    others = [row["identity"] for row in recogniser.score(portraits[1:] + portraits[:1], shots, None)]
    assert min(own) > 0.7 and max(others) < 0.5


@pytest.mark.parametrize(("kind", "word"), [("people", "person"), ("pets", "pet")])
def test_traits_are_those_of_the_photo(kind, word):
    subjects = references(kind, 8, 1)
    metric = make_metric("traits", "miniature-traits")
    metric.check(subjects)
    shots = [Shot(one, f"a photo of a {word}", 0, 0) for one in subjects]
    portraits = [one.photos()[0] for one in subjects]
    same = metric.score(portraits, shots, None)
    assert all(set(row.values()) == {1.0} for row in same)
    drawn = {"people": random_person, "pets": random_pet}[kind]
    people = [drawn(np.random.default_rng([500, i]), held_out=True) for i in range(8)]
    traits = {name: column for name, column in vars(people[0]).items() if name != "shade"}
    assert set(same[0]) == {"traits", *(f"traits {name.replace('_', ' ')}" for name in traits)}
    others = metric.score(portraits[1:] + portraits[:1], shots, None)
    for i, row in enumerate(others):  # the recogniser reads portraits as they were drawn
        shown, wanted_of = vars(people[(i + 1) % 8]), vars(people[i])
        assert row["traits"] == pytest.approx(np.mean([shown[name] == wanted_of[name] for name in traits]), abs=0.26)


def test_each_of_a_pair_is_looked_for_in_its_half():
    (pair,) = references("pairs", 1, 1)
    assert pair.words == ("person", "pet")
    (person,), (pet,) = pair.photos("person"), pair.photos("pet")
    rng = np.random.default_rng([500, 0])
    subjects = [random_person(rng, held_out=True)]
    subjects.append(random_pet(np.random.default_rng([500, 0]), held_out=True))
    assert person.size == pet.size == (32, 32)
    rows = {}
    for order in ((0, 1), (1, 0)):
        drawn = random_scene(rng, (subjects[order[0]], subjects[order[1]]))
        picture = Image.fromarray(render(Scene(drawn.subjects, drawn.looks, "beach"), rng))
        prompt = "a photo of a {} and a {} on the beach".format(*(("person", "pet")[i] for i in order))
        for name in ("person", "pet"):
            metric = make_metric(name, {"kind": "miniature-identity", "word": name})
            metric.check([pair])
            for said in (prompt, prompt.replace("pet", "dog").replace("person", "pet").replace("dog", "person")):
                rows[order, name, said == prompt] = metric.score([picture], [Shot(pair, said, 0, 0)], None)[0][name]
    right = [value for (_, _, fits), value in rows.items() if fits]
    wrong = [value for (_, _, fits), value in rows.items() if not fits]
    assert min(right) > 0.6 and max(wrong) < 0.4


def test_nobody_reaches_the_strips_at_the_sides():
    """What the page on evaluation says of the box of the metric "outside"."""
    metric = make_metric("outside", {"kind": "outside", "box": [0.09, 0.0, 0.91, 1.0]})
    for seed, scene in enumerate(scenes(150, seed=3, both=True)):
        alone = Scene((scene.subjects[-1],), (scene.looks[-1],), scene.place)
        canvas = Canvas()
        draw_place(canvas, scene.place, np.random.default_rng(seed))
        pictures = [Image.fromarray(render(alone, np.random.default_rng(seed)))]
        assert metric.score(pictures, [], [Image.fromarray(canvas.pixels)]) == [{"outside": 0.0}]


def test_what_there_is_not():
    with pytest.raises(NestedAdapterError, match="pairs"):
        references("plants", 1, 1)
    with pytest.raises(NestedAdapterError, match="0 photos"):
        references("people", 1, 0)
    with pytest.raises(NestedAdapterError, match="people"):
        adapter("pairs")
    large = Reference("ada", {"person": [miniature.example("mira")]})
    with pytest.raises(NestedAdapterError, match="256"):
        make_metric("identity", "miniature-identity").check([large])
