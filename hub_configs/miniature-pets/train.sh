#!/bin/sh
# The pets of the miniature world. The triplets are drawn on the way, so there is no folder of data; all settings are
# in the module, and all are our choice. On two cores this takes hours.
set -e

python -m recipes.miniature.bundled.autoencoder runs/miniature
python -m recipes.miniature.bundled.base runs/miniature
python -m recipes.miniature.bundled.vision runs/miniature
python -m recipes.miniature.bundled.adapters runs/miniature pets
