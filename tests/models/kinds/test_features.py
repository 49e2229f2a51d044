"""Features of texts: TF-IDF as scikit-learn has it, to the rounding of float32."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from scipy.special import log_softmax as log_softmax_of_scipy
from sklearn.feature_extraction.text import TfidfVectorizer

from stratos.models.kinds.base import log_softmax
from stratos.models.kinds.features import Tfidf

ROWS = [
    f"card {number % 7} was lost in town {number % 5}, is the fee {number}?" for number in range(60)
]
TEXTS = [*ROWS[:20], "", "   ", "Ω ü ß", "lost lost lost CARD", "zzzz", "a\x00b", "é" * 300]


@pytest.mark.parametrize("is_read", [False, True])
def test_tfidf_is_that_of_scikit_learn(is_read: bool) -> None:
    words = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+", dtype=np.float32
    )
    letters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, dtype=np.float32
    )
    expected = sparse.hstack([part.fit(ROWS).transform(TEXTS) for part in (words, letters)])
    block = Tfidf().fitted(ROWS)
    if is_read:
        block = Tfidf.of_state(*block.state(), folder=Path())
    rows = sparse.csr_matrix(block.transform(TEXTS))
    assert rows.dtype == np.float32 and rows.has_sorted_indices
    np.testing.assert_allclose(rows.toarray(), expected.toarray() / np.sqrt(2), rtol=0, atol=1e-6)
    alone = sparse.vstack([block.transform([text]) for text in TEXTS])
    assert (alone != rows).nnz == 0
    assert block.transform([]).shape == (0, rows.shape[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_softmax_is_that_of_scipy(dtype: type) -> None:
    logits: np.ndarray = (np.random.default_rng(0).normal(size=(50, 77)) * 100).astype(dtype)
    assert np.array_equal(log_softmax(logits), log_softmax_of_scipy(logits, axis=1))
