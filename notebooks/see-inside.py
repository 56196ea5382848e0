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
# # See inside
#
# Where does a picture look for a word, what does it read there, and which part of the photo does it come from? The
# paper answers by Figures 4 to 6; `trace` draws them for any call. Here it is one in the miniature world, which runs
# on a CPU.

# %%
import torch

import diffusers_nested
from diffusers_nested import miniature

pipe = miniature.load_pipeline()
pipe.load_nested_adapter(miniature.path("people"))
prompt = "a photo of a person wearing a red shirt on the beach"

with diffusers_nested.trace(pipe) as inside:
    pipe(
        prompt,
        nested_adapter_image=miniature.example("mira"),
        generator=torch.Generator().manual_seed(3),
        num_inference_steps=20,
        guidance_scale=4.0,
    )

# %% [markdown]
# ## Where the picture looks for "person", and for "beach"

# %%
inside.word_map("person").overlay()

# %%
inside.word_map("beach").overlay()

# %% [markdown]
# ## What each place reads at the word
#
# Every query of the picture reads a value of its own. Equal colours mean equal values: parts of the person that have
# colours of their own are told apart.

# %%
inside.values().image()

# %% [markdown]
# ## From the hair to the photo

# %%
inside.follow((16, 5)).sheet()

# %% [markdown]
# ## Where the encoder's queries look

# %%
inside.queries().sheet()

# %% [markdown]
# ## Numbers
#
# How much of all attention each token of the prompt gets; the first is the start token.

# %%
[(one["token"], round(one["share"], 3)) for one in inside.numbers()["attention_of_the_prompt"]]
