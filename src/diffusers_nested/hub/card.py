"""The model card of a published adapter: written, or completed where the author has begun one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import yaml
from huggingface_hub import ModelCard, ModelCardData

from ..errors import PublishError
from .scores import eval_results, evaluation_setting, evaluation_table, is_ours
from .sections import Section, complete

TAGS = ("diffusers-nested", "nested-attention")
TO_FILL_IN = "For the author to fill in"


@dataclass(frozen=True)
class CardFacts:
    """What a card says of an adapter.

    Attributes:
        repo_id: ``user/name``.
        config: The adapter's configuration.
        parameters: Number of the adapter's parameters.
        weights_size: Bytes of its weights on disk.
        has_image_encoder: Whether it brings its own.
        load_keywords: What ``load_nested_adapter`` must be given beside the name, such as ``subfolder``.
        pictures: Paths of sample pictures, relative to the card.
        evaluation: See ``read_evaluation``.
        base_model: Repository of the pipeline that it was trained on; None leaves the author's or SDXL's.
        license: Such as ``"apache-2.0"``; None leaves the author's.
    """

    repo_id: str
    config: Mapping[str, Any]
    parameters: int
    weights_size: int
    has_image_encoder: bool
    load_keywords: Mapping[str, str]
    pictures: Sequence[str] = ()
    evaluation: Mapping[str, Any] | None = None
    base_model: str | None = None
    license: str | None = None


def write_card(facts: CardFacts, existing: str | None = None) -> ModelCard:
    """A card with all metadata and sections.

    Args:
        facts: What to say.
        existing: The author's card. Its text and metadata stay; what is missing is added, and the parts between our
            marks are written anew.

    Raises:
        PublishError: The metadata of the existing card cannot be read, or the base model is not known.
    """
    card = _parse(existing or "", facts.repo_id)
    base_model = facts.base_model or card.data.get("base_model") or _sdxl(facts.config)
    if base_model is None:
        raise PublishError(
            "It is not known which base model the adapter was trained on. Pass base_model='user/name' "
            "(--base-model), or write base_model into the metadata of README.md."
        )
    _complete_data(card.data, facts, base_model)
    text = card.text if card.text.strip() else _opening(facts)
    card.text = "\n" + complete(text, _sections(facts, base_model if isinstance(base_model, str) else base_model[0]))
    return card


def _parse(existing: str, repo_id: str) -> Any:
    # without metadata, the class would log that there is none
    content = existing if existing.lstrip("\ufeff").startswith("---") else f"---\n{{}}\n---\n{existing}"
    try:
        return ModelCard(content)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise PublishError(f"The metadata at the top of the README.md of {repo_id} cannot be read: {error}") from error


def _complete_data(data: ModelCardData, facts: CardFacts, base_model: str | list[str]) -> None:
    data.base_model = base_model
    data.license = facts.license or data.license
    data.library_name = data.library_name or "diffusers-nested"
    data.pipeline_tag = data.pipeline_tag or "text-to-image"
    data.tags = list(dict.fromkeys([*(data.tags or ()), *TAGS]))
    _complete_results(data, facts)


def _complete_results(data: ModelCardData, facts: CardFacts) -> None:
    """Our results in the place of earlier ones of ours; the author's others stay."""
    ours = eval_results(facts.evaluation) if facts.evaluation is not None else []
    earlier = [result for result in data.eval_results or () if is_ours(result)]
    results = [result for result in data.eval_results or () if not is_ours(result)] + ours
    gone = {result.metric_type for result in earlier}
    metrics = [metric for metric in data.metrics or () if metric not in gone] + [result.metric_type for result in ours]
    data.eval_results = results or None
    data.model_name = (data.model_name or facts.repo_id.split("/")[-1]) if results else None
    data.metrics = list(dict.fromkeys(metrics)) or None


def _sdxl(config: Mapping[str, Any]) -> str | None:
    """SDXL itself for an adapter of its size: 70 cross-attention layers, embeddings of 2048 numbers."""
    is_sdxl = len(config["layers"]) == 70 and config["token_dim"] == 2048
    return "stabilityai/stable-diffusion-xl-base-1.0" if is_sdxl else None


def _opening(facts: CardFacts) -> str:
    word = facts.config["subject_token"]
    return (
        f"# {facts.repo_id.split('/')[-1]}\n\n"
        f'A nested-attention adapter for SDXL pipelines of diffusers: a photo becomes the word "{word}" of a prompt. '
        "The method is [Nested Attention](https://arxiv.org/abs/2501.01407)."
    )


def _sections(facts: CardFacts, base_model: str) -> list[Section]:
    return [
        Section("Use", _use(facts, base_model), generated=True),
        Section("Samples", "\n".join(f"![{name}]({quote(name)})" for name in facts.pictures), generated=True),
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


def _use(facts: CardFacts, base_model: str) -> str:
    word = facts.config["subject_token"]
    keywords = "".join(f', {name}="{value}"' for name, value in facts.load_keywords.items())
    article = "an" if word[0].lower() in "aeiou" else "a"
    return f"""\
```python
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils import load_image

import diffusers_nested  # gives the pipeline load_nested_adapter

pipe = StableDiffusionXLPipeline.from_pretrained("{base_model}")
if torch.cuda.is_available():
    pipe.to("cuda", torch.float16)
pipe.load_nested_adapter("{facts.repo_id}"{keywords})

photo = load_image("photo.png")  # of your {word}
image = pipe("a photo of {article} {word} on the beach", nested_adapter_image=photo).images[0]
image.save("result.png")
```

The prompt must contain the word "{word}". `pipe.set_nested_adapter_scale(2.0)` gives the subject more weight."""


def _evaluation(evaluation: Mapping[str, Any] | None) -> str:
    if evaluation is None:
        return ""
    return f"Mean and interval over {evaluation_setting(evaluation)}.\n\n{evaluation_table(evaluation)}"


def _details(facts: CardFacts) -> str:
    config = facts.config
    encoder = "in `image_encoder/`" if facts.has_image_encoder else f"`{config['image_encoder']}`"
    rows = {
        "Word": f"`{config['subject_token']}`",
        "Subject tokens per photo": config["num_queries"],
        "Mechanism": f"{config['mechanism']}, α = {config['alpha']}",
        "Base family": f"{config['base_family']}, {len(config['layers'])} layers",
        "Parameters": f"{facts.parameters / 1e6:.1f} M",
        "Weights": f"{facts.weights_size / 1e6:.1f} MB",
        "Image encoder": f"{encoder}, features of width {config['image_feature_dim']}",
        "Format version": config["format_version"],
    }
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows.items())
