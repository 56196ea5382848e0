# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A photo becomes a word of the prompt
#
# Nested attention in the miniature world: a real SDXL pipeline that comes with the package and draws 32 × 32 pixels
# on a CPU. On SDXL, the calls are the same.

# %%
import torch
from PIL import Image

import diffusers_nested
from diffusers_nested import Subject, miniature

pipe = miniature.load_pipeline()
pipe.load_nested_adapter([miniature.path("people"), miniature.path("pets")])


def draw(prompt, seed=11, **subjects):
    """A picture, large enough to look at."""
    generator = torch.Generator().manual_seed(seed)
    picture = pipe(prompt, generator=generator, num_inference_steps=20, guidance_scale=4.0, **subjects).images[0]
    return picture.resize((160, 160), Image.Resampling.NEAREST)


def side_by_side(*pictures):
    """Pictures in a row."""
    row = Image.new("RGB", (168 * len(pictures) - 8, 160), "white")
    for number, picture in enumerate(pictures):
        row.paste(picture.convert("RGB").resize((160, 160), Image.Resampling.NEAREST), (168 * number, 0))
    return row


# %% [markdown]
# ## The same prompt, without and with a photo

# %%
mira = miniature.example("mira")
prompt = "a photo of a smiling person wearing a blue shirt in the snow"
side_by_side(mira, draw(prompt), draw(prompt, nested_adapter_image={"person": mira}))

# %% [markdown]
# ## The dial
#
# 0 is the plain picture, 1 the layer as it was trained; above 1, the word gets more of the attention (the paper's λ).

# %%
rows = []
for scale in (0.0, 1.0, 2.0, 3.0):
    pipe.set_nested_adapter_scale(scale)
    rows.append(draw(prompt, nested_adapter_image={"person": mira}))
pipe.set_nested_adapter_scale(2.0)
side_by_side(*rows)

# %% [markdown]
# ## Two subjects, a word each

# %%
miso = miniature.example("miso")
together = {"person": mira, "pet": miso}
side_by_side(mira, miso, draw("a photo of a person and a pet on the beach", nested_adapter_image=together))

# %% [markdown]
# ## A blend of two people

# %%
otto = miniature.example("otto")
blends = [Subject([mira, otto], token="person", image_weights=[share, 1 - share]) for share in (0.75, 0.5, 0.25)]
side_by_side(mira, *(draw(prompt, nested_adapter_image=blend) for blend in blends), otto)

# %% [markdown]
# ## A mistake is an error, not a wrong picture

# %%
try:
    draw("a photo of a smiling dog in the snow", nested_adapter_image={"person": mira})
except diffusers_nested.NestedAdapterError as error:
    print(error)

# %% [markdown]
# ## Nothing is left behind

# %%
pipe.unload_nested_adapter()
draw(prompt)
