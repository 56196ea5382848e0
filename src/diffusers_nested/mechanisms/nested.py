"""Nested attention, the paper's mechanism (arXiv 2501.01407, section 3.2).

W_K̆ and W_V̆ are trained for every layer. The dial: from 0 to 1 the word's own value and the subject's are blended, 1
is the paper's layer, and above 1 it is the paper's λ (5.1).
"""

from ..attention import nested_attention, nested_terms
from .base import FastForm, KeyValueProjection, Mechanism, is_blended, raised_weights

NESTED = Mechanism(
    name="nested",
    attend=nested_attention,
    projection=KeyValueProjection,
    has_norm=True,
    scales=(1.0, 1.5, 2.0, 2.5, 3.0, 4.0),
    fast=FastForm(nested_terms, lowers=True, fits=is_blended),
    weights=raised_weights,
)
