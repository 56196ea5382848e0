"""The recipe by which the mechanism "located" was chosen measures what the package computes."""

import torch

from recipes.miniature.located.measure import RULES, check, compare, maps
from recipes.miniature.words.measure import draw_task

PATHS = {"down_blocks.0.attentions.0": 16, "up_blocks.0.attentions.1": 8, "up_blocks.1.attentions.1": 16}


def recorded(pictures: int, words: int, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    shape = {path: (pictures, 2, side * side, words + 1) for path, side in PATHS.items()}
    return [{path: torch.rand(size, generator=generator) for path, size in shape.items()} for _ in range(4)]


def test_its_rule_is_the_packages():
    for words in (1, 2):
        check(recorded(3, words))


def test_where_the_word_is_seen_at_the_subject_the_scores_are_good():
    task = draw_task(2, pairs=True)
    steps = recorded(2, 2)
    kinds = [["person" if hasattr(one, "skin") else "pet" for one in scene.subjects] for scene in task.scenes]
    for i, masks in enumerate(task.masks):
        for w, word in enumerate(("person", "pet")):
            for path, side in PATHS.items():
                drawn = torch.tensor(masks[kinds[i].index(word)]).float()
                steps[0][path][i, :, :, w] += 40 * torch.nn.functional.adaptive_avg_pool2d(drawn[None], side).flatten()
    results = compare({"made up": (steps, task)}, ["made up"])
    assert results.keys() == RULES.keys()
    for scores in results["located"]["cases"].values():
        assert min(scores["IoU"]) > 0.7 and min(scores["inside"]) > 0.85 and max(scores["on the other"]) < 0.05
    assert maps(steps, RULES["this step only"])[-1].max() < maps(steps, RULES["located"])[-1].max()
