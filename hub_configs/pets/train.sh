#!/bin/sh
# Pets, as in the paper: 66,000 pictures in data/pets, input and target being the same file. 100 epochs are
# 66,000 · 100 / 128 = 51,563 steps, then 66,000 · 100 / 32 = 206,250.
# Our choice, as the paper does not say: learning rate and its schedule, warm-up, weight decay, clipping, precision,
# the running average, seed, and the sizes of the Q-Former (which are the defaults).
set -e

# Phase 1: 512 pixels, 8 GPUs with 16 examples each
accelerate launch --num_processes 8 -m diffusers_nested.cli train \
    --pretrained_model_name_or_path stabilityai/stable-diffusion-xl-base-1.0 \
    --image_encoder_name_or_path h94/IP-Adapter/models/image_encoder \
    --train_data_dir data/pets \
    --subject_token pet \
    --num_queries 256 \
    --alpha 2.0 \
    --resolution 512 \
    --train_batch_size 16 \
    --max_train_steps 51563 \
    --learning_rate 1e-4 \
    --lr_scheduler constant \
    --lr_warmup_steps 1000 \
    --adam_weight_decay 0.01 \
    --max_grad_norm 1.0 \
    --mixed_precision bf16 \
    --gradient_checkpointing \
    --use_ema \
    --ema_decay 0.9999 \
    --dataloader_num_workers 4 \
    --checkpointing_steps 5000 \
    --checkpoints_total_limit 2 \
    --validation_steps 5000 \
    --validation_images data/unseen/1.png data/unseen/2.png \
    --validation_prompts "a watercolor of a pet" "a pet sleeping in the snow" \
    --seed 0 \
    --resume_from_checkpoint latest \
    --output_dir runs/pets-512

# Phase 2: 1024 pixels, 8 GPUs with 4 examples each, from what phase 1 has learned
accelerate launch --num_processes 8 -m diffusers_nested.cli train \
    --pretrained_model_name_or_path stabilityai/stable-diffusion-xl-base-1.0 \
    --image_encoder_name_or_path h94/IP-Adapter/models/image_encoder \
    --train_data_dir data/pets \
    --subject_token pet \
    --num_queries 256 \
    --alpha 2.0 \
    --resolution 1024 \
    --train_batch_size 4 \
    --max_train_steps 206250 \
    --learning_rate 1e-4 \
    --lr_scheduler constant \
    --lr_warmup_steps 1000 \
    --adam_weight_decay 0.01 \
    --max_grad_norm 1.0 \
    --mixed_precision bf16 \
    --gradient_checkpointing \
    --use_ema \
    --ema_decay 0.9999 \
    --dataloader_num_workers 4 \
    --checkpointing_steps 5000 \
    --checkpoints_total_limit 2 \
    --validation_steps 5000 \
    --validation_images data/unseen/1.png data/unseen/2.png \
    --validation_prompts "a watercolor of a pet" "a pet sleeping in the snow" \
    --seed 0 \
    --resume_from_checkpoint latest \
    --pretrained_adapter_name_or_path runs/pets-512 \
    --output_dir runs/pets-1024
