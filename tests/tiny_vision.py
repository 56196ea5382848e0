"""A segmentation model and a captioner of transformers, real classes at tiny size, in folders."""

from pathlib import Path

import torch
from transformers import (
    BertTokenizer,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    GitVisionConfig,
    SegformerConfig,
    SegformerForSemanticSegmentation,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def save_segmenter(folder: Path, labels: tuple[str, ...] = ("background", "dog"), seed: int = 0) -> Path:
    """A Segformer with random weights, which gives each class a part of a picture."""
    torch.manual_seed(seed)
    config = SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 8],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 1],
        mlp_ratios=[1, 1],
        decoder_hidden_size=8,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )
    SegformerForSemanticSegmentation(config).eval().save_pretrained(folder)
    SegformerImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def save_captioner(folder: Path, caption: str) -> Path:
    """A GIT that says the same of every picture: each word only leads to the next one."""
    words = caption.split()
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *words])}
    size = len(vocabulary)
    vision = {"hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = GitConfig(
        vision_config=GitVisionConfig(**vision, image_size=8, patch_size=8).to_dict(),
        vocab_size=size,
        hidden_size=size,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=128,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    model = GitForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "LayerNorm.weight" not in name:
                parameter.zero_()
        model.git.embeddings.word_embeddings.weight.copy_(torch.eye(size))
        for before, after in zip(["[CLS]", *words], [*words, "[SEP]"], strict=True):
            model.output.weight[vocabulary[after], vocabulary[before]] = 1
    model.save_pretrained(folder)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})
    GitProcessor(processor, BertTokenizer(vocab=vocabulary)).save_pretrained(folder)
    return folder
