"""The nodes of ComfyUI."""

from typing import Any

from torch import Tensor

from diffusers_nested import Subject, SubjectError
from diffusers_nested.subjects import resolve_subjects

from . import runtime
from .layers import find_layers
from .loading import AdapterFiles, Photos, check_alone, load_files, read_photos
from .patches import apply_subjects
from .positions import TAG, Prompt, find_word
from .subjects import KEY, ActingSubject, ActingSubjects
from .wording import in_words_of_nodes

_CATEGORY = "nested adapter"
_FROM_HUB = "(repository)"


class LoadNestedAdapter:
    """Loads an adapter with its image encoder."""

    CATEGORY = _CATEGORY
    RETURN_TYPES = ("NESTED_ADAPTER",)
    FUNCTION = "load"
    DESCRIPTION = "Loads a nested adapter from models/nested_adapters, or from the Hub."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What the node takes."""
        names = [_FROM_HUB, *runtime.folders()]
        repository = (
            "A repository on the Hub, or a path; counts instead of the folder. user/name, user/name/sub/folder, or the "
            "file of an IP-Adapter: user/name/sub/folder/file.safetensors."
        )
        encoder = "The folder of the image encoder there, if not image_encoder beside the adapter."
        return {
            "required": {"adapter": (names, {"tooltip": "A folder in models/nested_adapters."})},
            "optional": {
                "repository": ("STRING", {"default": "", "tooltip": repository}),
                "image_encoder": ("STRING", {"default": "", "tooltip": encoder}),
            },
        }

    @in_words_of_nodes
    def load(self, adapter: str, repository: str = "", image_encoder: str = "") -> tuple[AdapterFiles]:
        """See ``load_files``."""
        return (load_files(adapter, runtime.folders(), repository, image_encoder, runtime.adapter_dtype()),)


class NestedAdapterPrompt:
    """Encodes a prompt, and notes where its words are."""

    CATEGORY = _CATEGORY
    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "encode"
    DESCRIPTION = "In place of CLIP Text Encode: encodes a prompt, and notes where its words are."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What the node takes."""
        hint = "Optional: embeddings of this very text that another node has made; only the words are then noted."
        return {
            "required": {
                "clip": ("CLIP",),
                "text": ("STRING", {"multiline": True, "dynamicPrompts": True, "default": "a photo of a person"}),
            },
            "optional": {"conditioning": ("CONDITIONING", {"tooltip": hint})},
        }

    @in_words_of_nodes
    def encode(self, clip: Any, text: str, conditioning: Any = None) -> tuple[list[Any]]:
        """The conditioning of a text, or a given one, tagged with the text's tokens.

        Raises:
            SubjectError: There is no CLIP, or the given conditioning has another length.
        """
        if clip is None:
            raise SubjectError("There is no CLIP, which reads the prompt: the checkpoint has none. Load one by itself.")
        prompt = Prompt.read(clip.tokenizer, text)
        if conditioning is None:
            conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(text))
        for states, _ in conditioning:
            if states.shape[1] != prompt.length:
                raise SubjectError(
                    f"The conditioning has {states.shape[1]} positions, but the text {prompt.length}: it was not made "
                    "of this text. Give the text that it was made of."
                )
        return ([[states, {**options, TAG: prompt}] for states, options in conditioning],)


class ApplyNestedAdapter:
    """Lets a subject act at a word of a prompt, in a clone of a model."""

    CATEGORY = _CATEGORY
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "apply"
    DESCRIPTION = "Puts the subject of a photo at a word of the prompt. For several subjects, chain several nodes."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What the node takes."""
        part = {"default": 0.0, "min": 0.0, "max": 1.0, "step": 0.001}
        return {
            "required": {
                "model": ("MODEL",),
                "adapter": ("NESTED_ADAPTER",),
                "positive": ("CONDITIONING", {"tooltip": "Of the node Nested Adapter Prompt, as the sampler gets it."}),
                "word": ("STRING", {"default": "", "tooltip": "A word of the prompt; empty for the adapter's own."}),
                "scale": (
                    "FLOAT",
                    {
                        "default": 1.0,
                        "min": 0.0,
                        "max": 8.0,
                        "step": 0.05,
                        "tooltip": "0 is off, 1 the paper's layer; above 1, the word gets more attention.",
                    },
                ),
                "start": ("FLOAT", part),
                "end": ("FLOAT", {**part, "default": 1.0}),
            },
            "optional": {
                "image": ("IMAGE", {"tooltip": "A photo of the subject, or a batch of photos of it."}),
                "photos": ("NESTED_PHOTOS", {"tooltip": "Of the node Blend Nested Adapter Photos, in place of image."}),
                "mask": ("MASK", {"tooltip": "Where in the picture the subject may act."}),
            },
        }

    @in_words_of_nodes
    def apply(
        self,
        model: Any,
        adapter: AdapterFiles,
        positive: Any,
        word: str = "",
        scale: float = 1.0,
        start: float = 0.0,
        end: float = 1.0,
        image: Tensor | None = None,
        photos: Photos | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Any]:
        """A clone of the model in which the subject acts, beside those that act in it already.

        Raises:
            NestedAdapterError: The adapter does not fit the model, the word is not in the prompt, or a value cannot be
                used.
        """
        check_alone((image, photos))
        layers = find_layers(model.model.diffusion_model)
        loaded = adapter.for_layers(layers)
        word = word.strip() or loaded.subject_token
        placed = find_word(word, positive)
        photos = photos if image is None else Photos.of_batch(image)
        assert photos is not None  # checked above
        tokens = read_photos(loaded, photos, model.load_device)
        given = Subject(
            image_embeds=tokens,
            token=word,
            scale=scale,
            image_weights=photos.weights,
            mask=_single(mask),
            start=start,
            end=end,
        )
        subject = resolve_subjects(given, None, None, num_prompts=1, adapter_tokens={loaded.name: word})[0][0]
        sampling = model.get_model_object("model_sampling")
        sigmas = (sampling.percent_to_sigma(start), sampling.percent_to_sigma(end))
        acting = ActingSubject(loaded, subject, placed, sigmas)
        before = model.model_options["transformer_options"].get(KEY) or ActingSubjects(())
        subjects = before.with_subject(acting)
        changed = model.clone()
        apply_subjects(changed, subjects, list(layers.values()), runtime.stock_attention())
        return (changed,)


class BlendNestedAdapterPhotos:
    """Photos of one subject, or of several that are mixed, with weights."""

    CATEGORY = _CATEGORY
    RETURN_TYPES = ("NESTED_PHOTOS",)
    FUNCTION = "blend"
    DESCRIPTION = "Gives photos weights. Chain several of these nodes for photos of several weights or sizes."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What the node takes."""
        return {
            "required": {
                "image": ("IMAGE",),
                "weight": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 100.0, "step": 0.01}),
            },
            "optional": {"photos": ("NESTED_PHOTOS", {"tooltip": "Photos to which these are added."})},
        }

    def blend(self, image: Tensor, weight: float = 1.0, photos: Photos | None = None) -> tuple[Photos]:
        """The photos with their weight, after those that are given."""
        own = Photos.of_batch(image)
        own = Photos(own.images, (weight,) * len(own.images))
        return (own if photos is None else photos.with_photos(own),)


def _single(mask: Tensor | None) -> Tensor | None:
    """The mask (H, W) of ComfyUI's batch of one.

    Raises:
        SubjectError: There are several.
    """
    if mask is None or mask.ndim == 2:
        return mask
    if len(mask) != 1:
        raise SubjectError(f"mask is a batch of {len(mask)}, expected one mask. Connect a mask for each subject.")
    return mask[0]


_NODES = {
    "Load Nested Adapter": LoadNestedAdapter,
    "Nested Adapter Prompt": NestedAdapterPrompt,
    "Apply Nested Adapter": ApplyNestedAdapter,
    "Blend Nested Adapter Photos": BlendNestedAdapterPhotos,
}
NODE_CLASS_MAPPINGS = {node.__name__: node for node in _NODES.values()}
NODE_DISPLAY_NAME_MAPPINGS = {node.__name__: title for title, node in _NODES.items()}
