"""Nested adapters in Modular Diffusers: a block around SDXL's denoising loop that takes the subjects."""

from copy import deepcopy
from typing import Any

import torch
from diffusers import InputParam, LoopSequentialPipelineBlocks, ModularPipelineBlocks

from ..compat import announce_steps, block_requirements, set_block_requirements
from ..errors import NestedAdapterError
from .keywords import DESCRIPTIONS, KEYWORDS
from .nested_call import NestedCall
from .state import require_state
from .watching import tell_encoded, watched

_INPUTS = {
    **DESCRIPTIONS,
    "prompt": "The prompt in which the subjects' words are looked up.",
    "prompt_2": "The prompt in which they are looked up for the second text encoder.",
    "prompt_embeds": "Embeddings that tell the rows of the prompts in the UNet.",
    "negative_prompt_embeds": "Embeddings that tell the rows of the negative prompts in the UNet.",
    "batch_size": "Number of prompts.",
}


class NestedDenoiseStep(ModularPipelineBlocks):
    """A denoising block in which subjects act.

    It takes the nested keywords in addition to the inputs of the block that it encloses. The subjects are prepared
    before that block runs and released after it, even if it raises. Without a nested keyword, only the enclosed block
    runs.

    Args:
        denoise: A block of SDXL that calls the UNet at every step, with any guider.
    """

    def __init__(self, denoise: ModularPipelineBlocks) -> None:
        # Not in sub_blocks: a workflow unpacks blocks that have sub_blocks, and would drop this one.
        super().__init__()
        self.denoise = denoise
        self.model_name = denoise.model_name
        set_block_requirements(self, block_requirements(denoise))

    @property
    def description(self) -> str:
        """What the block does."""
        return f"Lets the subjects of nested adapters act in: {self.denoise.description}"

    @property
    def expected_components(self) -> list[Any]:
        """Those of the enclosed block."""
        return self.denoise.expected_components

    @property
    def expected_configs(self) -> list[Any]:
        """Those of the enclosed block."""
        return self.denoise.expected_configs

    @property
    def inputs(self) -> list[InputParam]:
        """Those of the enclosed block, the nested keywords, and the inputs that tell the rows of the prompts."""
        inputs = self.denoise.inputs
        known = {one.name for one in inputs}
        return inputs + [InputParam(name, description=text) for name, text in _INPUTS.items() if name not in known]

    @property
    def intermediate_outputs(self) -> list[Any]:
        """Those of the enclosed block."""
        return self.denoise.intermediate_outputs

    def set_progress_bar_config(self, **kwargs: Any) -> None:
        """Pass the settings to the loop that shows the bar."""
        if isinstance(self.denoise, LoopSequentialPipelineBlocks):
            self.denoise.set_progress_bar_config(**kwargs)

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Denoise with the subjects in the state's nested keywords.

        Raises:
            NestedAdapterError: A subject cannot be used; nothing has been denoised.
        """
        denoise: Any = self.denoise  # every block is callable, though the base class does not say so
        nested = state.get(list(KEYWORDS))
        if all(value is None for value in nested.values()):
            return denoise(components, state)
        prompts = _prompts(components, state)
        call = NestedCall(components, nested, prompts, may_write=True)  # blocks of the loop may
        placed = call.place(components, prompts)
        call.record(placed, state.get("prompt_embeds"), state.get("negative_prompt_embeds"))
        if state.get("timesteps") is not None:
            # the loop may take only some of the scheduler's steps; classic pipelines announce that
            announce_steps(components, len(state.get("timesteps")))
        with call.active():
            return watched(components, call, lambda: _telling(components, prompts, state, denoise))


def add_nested_subjects(blocks: ModularPipelineBlocks) -> ModularPipelineBlocks:
    """Copy SDXL's blocks, with every loop that calls the UNet enclosed so that it takes the nested keywords.

    Args:
        blocks: For example ``StableDiffusionXLAutoBlocks()``, one of its workflows, or ``pipe.blocks``.

    Raises:
        NestedAdapterError: There is no loop with a UNet among the blocks, or ``blocks`` are none.
    """
    if not isinstance(blocks, ModularPipelineBlocks):
        given = f"the class {blocks.__name__}" if isinstance(blocks, type) else f"a {type(blocks).__name__}"
        raise NestedAdapterError(
            f"add_nested_subjects takes blocks, such as StableDiffusionXLAutoBlocks() or pipe.blocks, got {given}. "
            "Make a pipeline of what it returns: add_nested_subjects(pipe.blocks).init_pipeline(...)."
        )
    enclosed = _enclose(deepcopy(blocks))
    if not set(KEYWORDS) <= set(enclosed.input_names):
        raise NestedAdapterError(
            f"{type(blocks).__name__} has no loop that calls a `unet`, so subjects cannot act in it. Pass SDXL's "
            "blocks, or replace the block that denoises by NestedDenoiseStep(block)."
        )
    return enclosed


def _telling(components: Any, prompts: Any, state: Any, denoise: Any) -> tuple[Any, Any]:
    tell_encoded(components, prompts, (state.get("prompt_embeds"), state.get("negative_prompt_embeds")))
    return denoise(components, state)


def _enclose(block: ModularPipelineBlocks) -> ModularPipelineBlocks:
    if isinstance(block, LoopSequentialPipelineBlocks):
        return NestedDenoiseStep(block) if "unet" in block.component_names else block
    for name, part in block.sub_blocks.items():
        block.sub_blocks[name] = _enclose(part)
    return block


def _prompts(components: Any, state: Any) -> dict[str, Any]:
    """The prompts as a classic pipeline's call has them."""
    embeds = state.get("prompt_embeds")
    # the rows of a prompt are already repeated for each of its images
    images = len(embeds) // (state.get("batch_size") or len(embeds))
    # a pipeline that denoises prompts encoded by another has no tokenizer to look up words
    backbone = require_state(components).backbone
    texts = backbone.prompts if backbone.tokenizers_of(components)[-1] is not None else ()
    return {"prompt": None, "prompt_2": None, "prompt_embeds": embeds[::images]} | {n: state.get(n) for n in texts}
