"""The available encoders from image features to subject tokens, by the config's ``subject_encoder``.

Each maps features (B, L, image_feature_dim) to tokens (B, N, token_dim), and has ``from_config``, ``check_config`` and
``estimated_parameters`` like ``QFormer``.
"""

from .qformer import QFormer

DEFAULT_ENCODER = "qformer"
SUBJECT_ENCODERS = {DEFAULT_ENCODER: QFormer}
