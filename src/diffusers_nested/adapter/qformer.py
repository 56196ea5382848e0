"""From image features to subject tokens: a Q-Former (arXiv 2501.01407, section 3.3)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from ..errors import NestedAdapterError
from ..files.limits import MAX_ATTENTION, MAX_BLOCKS, MAX_HEADS, MAX_WIDTH
from ..files.rules import Rule, whole
from ..vision.kinds import LAST
from .tower_join import TowerJoin


class QFormer(nn.Module):
    """Q-Former (as in BLIP-2) whose N learned queries read image features into N subject tokens."""

    settings: ClassVar[Mapping[str, Rule]] = {
        "qformer_hidden_size": whole(1, MAX_WIDTH),
        "qformer_num_layers": whole(1, MAX_BLOCKS),
        "qformer_num_heads": whole(1, MAX_HEADS),
        "qformer_intermediate_size": whole(1, MAX_WIDTH),
    }
    features: ClassVar[str] = LAST
    reads_empty_image: ClassVar[bool] = False

    def __init__(
        self,
        image_feature_dim: int,
        num_queries: int,
        token_dim: int,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        intermediate_size: int,
        towers: TowerJoin | None = None,
    ) -> None:
        super().__init__()
        config = Blip2QFormerConfig(
            hidden_size=hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            intermediate_size=intermediate_size,
            encoder_hidden_size=image_feature_dim,
            cross_attention_frequency=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.queries = nn.Parameter(torch.randn(1, num_queries, hidden_size) * 0.02)
        self.qformer = Blip2QFormerModel(config)
        self.to_tokens = nn.Sequential(nn.Linear(hidden_size, token_dim), nn.LayerNorm(token_dim))
        self.towers = towers

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "QFormer":
        """Build the encoder for an adapter's configuration."""
        own = {name.removeprefix("qformer_"): value for name, value in config.items() if name.startswith("qformer_")}
        width, towers = config["image_feature_dim"], None
        if isinstance(width, list):
            towers = TowerJoin(width, config["image_feature_count"], own["hidden_size"])
            width = own["hidden_size"]
        return cls(width, config["num_queries"], config["token_dim"], **own, towers=towers)

    @staticmethod
    def check_config(config: Mapping[str, Any]) -> None:
        """Raise unless the settings, each of them in range, fit together.

        Raises:
            NestedAdapterError: Names the settings.
        """
        width, heads, queries = config["qformer_hidden_size"], config["qformer_num_heads"], config["num_queries"]
        if width % heads:
            raise NestedAdapterError(f"qformer_hidden_size {width} must be a multiple of qformer_num_heads {heads}.")
        if heads * queries**2 > MAX_ATTENTION:
            raise NestedAdapterError(
                f"num_queries {queries} with qformer_num_heads {heads} needs {heads * queries**2:.1e} attention "
                f"weights in each block (heads · num_queries²), more than {MAX_ATTENTION:.1e}. Reduce one of them."
            )

    @staticmethod
    def estimated_parameters(config: Mapping[str, Any]) -> int:
        """Estimate the parameters without building the encoder: an upper bound that is close for large ones."""
        hidden, inner = config["qformer_hidden_size"], config["qformer_intermediate_size"]
        width, joins = config["image_feature_dim"], 0
        if isinstance(width, list):
            width, joins = hidden, TowerJoin.parameters_of(width, hidden)
        # in each block: self-attention 4 h², attention to the image 2 h² + 2 h f, two linear layers 2 h i, or twice two
        block = 6 * hidden**2 + 2 * hidden * width + 4 * hidden * inner + 32 * (hidden + inner)
        tokens = hidden * (config["num_queries"] + config["token_dim"]) + 4 * config["token_dim"]
        return config["qformer_num_layers"] * block + tokens + joins

    def forward(self, image_features: Tensor) -> Tensor:
        """Image features (B, L, image_feature_dim), or those of several towers -> subject tokens (B, N, token_dim)."""
        if self.towers is not None:
            image_features = self.towers(image_features)
        queries = self.queries.expand(len(image_features), -1, -1)
        read = self.qformer(query_embeds=queries, encoder_hidden_states=image_features)
        return self.to_tokens(read.last_hidden_state)
