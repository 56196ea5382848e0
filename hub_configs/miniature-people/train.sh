#!/bin/sh
# The people of the miniature world. The triplets are drawn on the way, so there is no folder of data; all settings are
# in the module, and all are our choice. On two cores this takes hours.
set -e

python -m recipes.miniature.making.autoencoder runs/miniature
python -m recipes.miniature.making.base runs/miniature
python -m recipes.miniature.making.vision runs/miniature
python -m recipes.miniature.making.adapters runs/miniature people
