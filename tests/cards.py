"""Model cards of adapters, and the example in them."""

import re

from huggingface_hub import ModelCard

from diffusers_nested import NestedAdapter
from diffusers_nested.publishing import prepare_publication
from hub.steps import BASE

LOAD = NestedAdapter.from_source
EVALUATION = {
    "identities": 100,
    "prompts": ["a", "b"],
    "results": {
        "plain": {"identity": [-0.02, -0.04, 0.0], "place": [1.0, 1.0, 1.0]},
        "scale 1": {"identity": [0.77, 0.75, 0.78]},
    },
}


def card_of(folder, published=None, **keywords) -> ModelCard:
    return prepare_publication(folder, "alice/nested", load=LOAD, **{"base_model": BASE, **keywords}).card(published)


def snippet(text: str) -> str:
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
