"""From image features to subject tokens: a Q-Former (arXiv 2501.01407, section 3.3)."""

import torch
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel


class SubjectEncoder(nn.Module):
    """Q-Former (as in BLIP-2) whose N learned queries read image features into N subject tokens."""

    def __init__(
        self,
        image_feature_dim: int,
        num_queries: int,
        token_dim: int,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        intermediate_size: int,
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

    def forward(self, image_features: Tensor) -> Tensor:
        """Image features (B, L, image_feature_dim) -> subject tokens (B, N, token_dim)."""
        queries = self.queries.expand(len(image_features), -1, -1)
        read = self.qformer(query_embeds=queries, encoder_hidden_states=image_features)
        return self.to_tokens(read.last_hidden_state)
