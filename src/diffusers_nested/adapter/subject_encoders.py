"""The encoders from image features to subject tokens; an adapter's ``subject_encoder`` says which it has.

Each is a module from features (B, L, image_feature_dim) to tokens (B, N, token_dim), with ``from_config``,
``check_config`` and ``estimated_parameters`` as ``QFormer`` has them.
"""

from .qformer import QFormer

DEFAULT_ENCODER = "qformer"
SUBJECT_ENCODERS = {DEFAULT_ENCODER: QFormer}
