"""The model card of a published adapter: written from scratch, or completed from the author's own."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from huggingface_hub import ModelCard

from ..backbones import BACKBONES, Backbone
from ..errors import PublishError
from ..files import shown
from ..mechanisms import MECHANISMS
from ..vision import OWN_FOLDER, each_tower, numbered
from .card_metadata import complete_data, fill_in, parse_card
from .own_files import decoded
from .quoting import markdown_text, python_literal
from .scores import evaluation_setting, evaluation_table
from .sections import Section, block_of, complete, keep_written

TO_FILL_IN = "For the author to fill in"
SAMPLES = "Samples"
_PURPOSE = 'A {}-attention adapter for {} pipelines of diffusers: a photo becomes the word "{}" of a prompt.'
_PAPER = "The method is [Nested Attention](https://arxiv.org/abs/2501.01407)."
_METHODS = {
    "located": "The method is that of [IP-Adapter](https://arxiv.org/abs/2308.06721), where the word is drawn.",
    "decoupled": "The method is that of [IP-Adapter](https://arxiv.org/abs/2308.06721).",
}


@dataclass(frozen=True)
class CardFacts:
    """The facts about an adapter that its card states.

    Attributes:
        repo_id: ``user/name``.
        config: The adapter's configuration.
        parameters: Number of the adapter's parameters.
        weights_size: Bytes of its weights on disk.
        own_encoders: The numbers of the vision towers that it comes with.
        load_keywords: Keywords that ``load_nested_adapter`` needs besides the name, such as ``subfolder``.
        pictures: Paths of sample pictures, relative to the card.
        evaluation: See ``read_evaluation``.
        base_model: Repository of the pipeline that it was trained on; None keeps the author's, or means its family's.
        license: Such as ``"apache-2.0"``; None keeps the author's.
    """

    repo_id: str
    config: Mapping[str, Any]
    parameters: int
    weights_size: int
    own_encoders: Collection[int]
    load_keywords: Mapping[str, str]
    pictures: Sequence[str] = ()
    evaluation: Mapping[str, Any] | None = None
    base_model: str | None = None
    license: str | None = None


def write_card(facts: CardFacts, authors: str | None = None, published: bytes | None = None) -> ModelCard:
    """Write a card with all metadata and sections.

    Args:
        facts: What the card states.
        authors: The author's card. Its text and metadata are kept, missing parts are added, and the generated sections
            are rewritten.
        published: The card in the repository. Metadata and sections that the author wrote only there are kept.

    Raises:
        PublishError: The metadata of an existing card cannot be read, or the base model or its family is unknown.
    """
    card, earlier = _begun(facts, authors, published)
    base_model = facts.base_model or card.data.base_model or _backbone(facts).base_model(facts.config).repository
    if base_model is None:
        raise PublishError(
            "The base model that the adapter was trained on is unknown. Pass base_model='user/name' (--base-model), or "
            "add base_model to the metadata of README.md."
        )
    name = facts.repo_id.split("/")[-1]
    complete_data(card.data, name=name, base_model=base_model, license=facts.license, evaluation=facts.evaluation)
    sections = _sections(facts, base_model if isinstance(base_model, str) else base_model[0])
    text = _with_purpose(card.text, facts) if card.text.strip() else _opening(facts)
    card.text = "\n" + complete(text if earlier is None else keep_written(text, earlier.text, sections), sections)
    return parse_card(card.content, "the new card")


def shown_pictures(card: bytes, pictures: Sequence[str]) -> list[str]:
    """The pictures that the generated part of a card shows."""
    block = block_of(card.decode(errors="replace"), SAMPLES)
    return [name for name in pictures if f"({quote(name)})" in block]


def _begun(facts: CardFacts, authors: str | None, published: bytes | None) -> tuple[Any, Any]:
    """The card to complete, and the one in the repository if it is a different, readable one."""
    where = f"README.md of {facts.repo_id}"
    if authors is None:
        return parse_card(decoded(published or b"", where), where), None
    card = parse_card(authors, "README.md")
    try:
        earlier = parse_card(decoded(published or b"", where), where)
    except PublishError:
        return card, None  # replaced by the author's
    fill_in(card.data, earlier.data)
    return card, earlier


def _backbone(facts: CardFacts) -> Backbone:
    family = facts.config["base_family"]
    if family not in BACKBONES:
        raise PublishError(
            f"The adapter's base_family is {shown(family)}, expected {' or '.join(map(repr, BACKBONES))}. Upgrade "
            "diffusers-nested if the adapter is newer."
        )
    return BACKBONES[family]


def _opening(facts: CardFacts) -> str:
    return (
        f"# {markdown_text(facts.repo_id.split('/')[-1])}\n\n"
        f"{_purpose(facts)} {_METHODS.get(facts.config['mechanism'], _PAPER)}"
    )


def _purpose(facts: CardFacts) -> str:
    base = _backbone(facts).base_model(facts.config)
    kind = facts.config["mechanism"].replace("_", "-")
    return _PURPOSE.format(markdown_text(kind), base.title, markdown_text(facts.config["subject_token"]))


def _with_purpose(text: str, facts: CardFacts) -> str:
    """The text, with this adapter's base and word in our opening sentence if that is still there."""
    ours = ".*?".join(map(re.escape, _PURPOSE.split("{}")))
    return re.sub(ours, lambda _: _purpose(facts), text)


def _sections(facts: CardFacts, base_model: str) -> list[Section]:
    return [
        Section("Use", _use(facts, base_model), generated=True),
        Section(SAMPLES, "\n".join(map(_picture, facts.pictures)), generated=True),
        Section("Evaluation", _evaluation(facts.evaluation), generated=True),
        Section("Details", _details(facts), generated=True),
        Section(
            "Training data",
            f"*{TO_FILL_IN}: which pictures, how many, from where, under which terms, and how captions and "
            "crops were made.*",
            generated=False,
        ),
        Section(
            "Limits",
            f"*{TO_FILL_IN}: which subjects, styles and prompts it fails on, whom it works less well for, "
            "and what it must not be used for.*",
            generated=False,
        ),
    ]


def _picture(name: str) -> str:
    return f"![{markdown_text(name)}]({quote(name)})"


def _use(facts: CardFacts, base_model: str) -> str:
    word = facts.config["subject_token"]
    keywords = "".join(f", {name}={python_literal(value)}" for name, value in facts.load_keywords.items())
    pipeline = _backbone(facts).text_to_image
    article = "an" if word.strip()[0].lower() in "aeiou" else "a"
    return f"""\
```python
import torch
from diffusers import {pipeline}
from diffusers.utils import load_image

import diffusers_nested  # gives the pipeline load_nested_adapter

pipe = {pipeline}.from_pretrained({python_literal(base_model)})
if torch.cuda.is_available():
    pipe.to("cuda", torch.float16)
pipe.load_nested_adapter({python_literal(facts.repo_id)}{keywords})

{_photo(facts.config)}
image = pipe({python_literal(f"a photo of {article} {word} on the beach")}, nested_adapter_image=photo).images[0]
image.save("result.png")
```

The prompt must contain the word "{markdown_text(word)}". {_dial(facts.config)}"""


def _dial(config: Mapping[str, Any]) -> str:
    mechanism = MECHANISMS.get(config["mechanism"])
    if mechanism is not None and max(mechanism.scales) <= 1:
        return "`pipe.set_nested_adapter_scale(0.5)` gives the subject less weight."
    return "`pipe.set_nested_adapter_scale(2.0)` gives the subject more weight."


def _photo(config: Mapping[str, Any]) -> str:
    """The line of the example that makes the photo what the adapter was trained on."""
    if config.get("image_preparation"):
        return 'photo = diffusers_nested.prepare_face(load_image("photo.png"))  # the largest face, aligned'
    return 'photo = load_image("photo.png")  # of your subject'


def _evaluation(evaluation: Mapping[str, Any] | None) -> str:
    if evaluation is None:
        return ""
    return f"Mean and interval over {evaluation_setting(evaluation)}.\n\n{evaluation_table(evaluation)}"


def _details(facts: CardFacts) -> str:
    config = facts.config
    rows = {
        "Word": markdown_text(config["subject_token"]),
        "Subject tokens per photo": config["num_queries"],
        "Mechanism": f"{markdown_text(config['mechanism'])}, α = {config['alpha']}",
        **({"Photos": "aligned faces"} if config.get("image_preparation") else {}),
        **({"Rank of the projections": rank} if (rank := config.get("projection_rank")) else {}),
        "Base family": f"{markdown_text(config['base_family'])}, {len(config['layers'])} layers",
        "Parameters": f"{facts.parameters / 1e6:.1f} M",
        "Weights": f"{facts.weights_size / 1e6:.1f} MB",
        **_towers(facts),
        "Format version": config["format_version"],
    }
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows.items())


def _towers(facts: CardFacts) -> dict[str, str]:
    """A row for each vision tower."""
    rows = {}
    for number, config in enumerate(each_tower(facts.config), 1):
        own = f"in `{numbered(OWN_FOLDER, number)}/`"
        place = own if number in facts.own_encoders else markdown_text(str(config["image_encoder"]))
        kind = f" ({markdown_text(named)})" if (named := config.get("image_encoder_type")) else ""
        kinds = f"{chosen} features" if (chosen := config.get("image_features")) else "features"
        label = numbered("Image encoder", number).replace("_", " ")
        rows[label] = f"{place}{kind}, {markdown_text(kinds)} of width {config['image_feature_dim']}"
    return rows
