#!/bin/sh
# The people of the miniature world. The triplets are drawn on the way, so there is no folder of data; all settings are
# in the module, and all are our choice. On two cores this takes hours.
set -e

python -m recipes.miniature.bundled.autoencoder runs/first
python -m recipes.miniature.bundled.base runs/first
python -m recipes.miniature.bundled.vision runs/first

mkdir -p runs/miniature
cp -r runs/first/pipeline runs/miniature/first
cp -r runs/first/image_encoder runs/first/feature_extractor runs/miniature
python -m recipes.miniature.words.encoders runs/miniature
python -m recipes.miniature.words.base runs/miniature alone --steps 4600 --whole
python -m recipes.miniature.words.base runs/miniature louder --steps 2200 --whole
ln -s louder/pipeline runs/miniature/pipeline
python -m recipes.miniature.bundled.adapters runs/miniature people
