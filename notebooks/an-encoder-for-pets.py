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
# # An encoder of pets, from an encoder of people
#
# Training in the miniature world, on a CPU: 300 steps take a few minutes. On SDXL, the calls are the same, and a GPU is
# needed. The page "Your own encoder" does it without Python.

# %%
import torch
from PIL import Image

from diffusers_nested import NestedAdapter, miniature
from diffusers_nested.miniature.triplets import draw_triplets
from diffusers_nested.training import TrainingConfig, read_log, train_adapter
from diffusers_nested.vision import load_vision_tower

triplets = draw_triplets("pets", 1000, seed=1)
held_out = draw_triplets("pets", 32, seed=2, held_out=True)


def side_by_side(*pictures):
    """Pictures in a row."""
    row = Image.new("RGB", (168 * len(pictures) - 8, 160), "white")
    for number, picture in enumerate(pictures):
        if not isinstance(picture, Image.Image):
            picture = Image.fromarray(picture)
        row.paste(picture.convert("RGB").resize((160, 160), Image.Resampling.NEAREST), (168 * number, 0))
    return row


# %% [markdown]
# A triplet is a photo, a caption with the subject's word, and the picture that the two should give.

# %%
print(triplets[0].text)
side_by_side(triplets[0].input_image, triplets[0].target_image)

# %% [markdown]
# ## Train
#
# The pipeline and the vision tower stay frozen. The adapter begins as the bundled one of people, with another word.

# %%
pipe = miniature.load_pipeline()
tower = load_vision_tower(str(miniature.path("people") / "image_encoder"))
adapter = NestedAdapter.from_unet(
    pipe.unet, start_from=miniature.path("people"), subject_token="pet", image_encoder=None
)
config = TrainingConfig(
    "pets",
    resolution=32,
    train_batch_size=16,
    max_train_steps=300,
    learning_rate=5e-4,
    use_ema=True,
    ema_decay=0.98,
    logging_steps=50,
    cache_features=True,
    resume_from_checkpoint="latest",
)
train_adapter(pipe, tower, adapter, triplets, config, validation_dataset=held_out)

# %% [markdown]
# `gain_over_wrong` is what the right photo is worth over another one, for pets that no model has seen. It must be well
# above zero.

# %%
[(row["step"], round(row["gain_over_wrong"], 4)) for row in read_log("pets/log.jsonl")]

# %% [markdown]
# ## Use it
#
# A pet that nothing was trained on; 0 is the picture without the photo.

# %%
tower.model.save_pretrained("pets/image_encoder")
tower.processor.save_pretrained("pets/feature_extractor")
pipe.load_nested_adapter("pets")
miso = miniature.example("miso")
rows = [miso]
for scale in (0.0, 1.0):
    pipe.set_nested_adapter_scale(scale)
    generator = torch.Generator().manual_seed(7)
    settings = {"generator": generator, "num_inference_steps": 20, "guidance_scale": 4.0}
    rows.append(pipe("a photo of a pet on the beach", nested_adapter_image={"pet": miso}, **settings).images[0])
side_by_side(*rows)
