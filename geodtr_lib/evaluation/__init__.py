"""Evaluation: embeddings, exact ranking, the data sets' protocols."""

from geodtr_lib.evaluation.embeddings import (
    Embeddings,
    embed,
    embed_dataset,
    embed_view,
    evaluate,
    nearest_references,
    own_similarity,
    rank_of,
    score,
)
from geodtr_lib.evaluation.nearest import top_k
from geodtr_lib.evaluation.protocols import recall_interval, recall_within, retrieval_metrics
from geodtr_lib.evaluation.ranking import ranks

__all__ = [
    "Embeddings",
    "embed",
    "embed_dataset",
    "embed_view",
    "evaluate",
    "nearest_references",
    "own_similarity",
    "rank_of",
    "ranks",
    "recall_interval",
    "recall_within",
    "retrieval_metrics",
    "score",
    "top_k",
]
