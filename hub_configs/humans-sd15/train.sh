#!/bin/sh
# People for Stable Diffusion 1.5, on one consumer GPU: FFHQ-Wild in data/ffhq, a metadata.jsonl with 70,000 lines.
# 20 epochs are 70,000 · 20 / (4 · 8) = 43,750 steps. All values are our choice, as the paper trains on SDXL.
set -e

# 512 pixels, 1 GPU with 4 examples at a time; 8 forward passes for each step
accelerate launch --num_processes 1 -m diffusers_nested.cli train \
    --pretrained_model_name_or_path stable-diffusion-v1-5/stable-diffusion-v1-5 \
    --image_encoder_name_or_path h94/IP-Adapter/models/image_encoder \
    --train_data_dir data/ffhq \
    --subject_token person \
    --num_queries 256 \
    --alpha 2.0 \
    --resolution 512 \
    --train_batch_size 4 \
    --gradient_accumulation_steps 8 \
    --max_train_steps 43750 \
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
    --checkpointing_steps 2500 \
    --checkpoints_total_limit 2 \
    --validation_steps 2500 \
    --validation_images data/unseen/1.png data/unseen/2.png \
    --validation_prompts "a watercolor of a person" "a person laughing in the snow" \
    --seed 0 \
    --resume_from_checkpoint latest \
    --output_dir runs/humans-sd15
