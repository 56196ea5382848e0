"""The mathematics of Nested Attention (arXiv 2501.01407, sections 3.1, 3.2 and 5.1); torch only.

In a cross-attention layer every query q reads the prompt's values V with weights A = softmax(q Kᵀ / √d).
A subject replaces the value of its prompt token s* by one that depends on the query:

    v*_q   = softmax(q K̆ᵀ / √d + log w) V̆          attention over the subject's own tokens   (3.2)
    v*_q  ←  α ‖V[s*]‖ v*_q / ‖v*_q‖                 the word's own norm, times α              (3.2)
    V_q[s] = v*_q if s = s*, else V[s]
    out_q  = A V_q

with every key left as it is. V_q differs from query to query, so it is never built. As all that changes
is the row s*, and the direction u_q = v*_q / ‖v*_q‖ is the same for all tokens of a subject,

    out_q = A (V with its rows s* set to zero) + u_q · Σ_s* A[q, s*] α ‖V[s*]‖.

The dial (``scale``) is one number: from 0 to 1 the value is blended, V_q[s*] = (1 − β) V[s*] + β v*_q with
β = scale (our extension; 1 is the paper's layer); above 1 it is the paper's λ, which raises the attention
that the word gets, logits[s*] ← max(logits[s*], λ logits[s*]) (5.1).

A mask m (our extension) says at which queries a subject acts: β and λ − 1 are multiplied by m_q there, so that
m_q = 0 leaves the word as it is. Several masked subjects may share a word; their values are then added,
V_q[s*] = (1 − Σᵢ βᵢ mᵢ_q) V[s*] + Σᵢ βᵢ mᵢ_q v*ᵢ_q.

There are two forms of the same layer. ``nested_attention`` is the plain one, for every scale, mask and gradient: it
computes A. ``nested_terms`` is the fast one, for scales up to 1 without masks, when nothing is learnt: as

    Σ_s* A[q, s*] α ‖V[s*]‖ = (A C)_q,    C[s] = α ‖V[s]‖ at s*, 0 elsewhere,

is plain attention over other values, A itself is not needed, and fused attention computes both A V' and A C.

Letters in shapes: B rows, H heads, S queries, T prompt tokens, N subject tokens, d head width.
"""

from .fast import Term, nested_terms, terms_with_values
from .inner import nested_values
from .norms import accurate, length
from .plain import attention_with_values, nested_attention, outer_weights
from .values import Doses, SubjectValues, doses_of

__all__ = [
    "Doses",
    "SubjectValues",
    "Term",
    "accurate",
    "attention_with_values",
    "doses_of",
    "length",
    "nested_attention",
    "nested_terms",
    "nested_values",
    "outer_weights",
    "terms_with_values",
]
