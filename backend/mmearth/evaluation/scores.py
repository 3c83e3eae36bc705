"""Scores of what was told of images and pixels, by the kind of their labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score

from mmearth.evaluation.tiles import Kind
from mmearth.pretraining.modality import UNKNOWN
from mmearth.training.metrics import agreement, confusion, f1, intersection_over_union

# Kind of labels -> score that encoders are compared by.
MAIN: dict[Kind, str] = {"single": "accuracy", "multi": "mAP", "pixel": "mIoU"}


def scores_of(kind: Kind, labels: NDArray[Any], told: NDArray[Any]) -> dict[str, float]:
    """Return the scores of what was told, from 0 to 1.

    Single labels: ``accuracy`` and ``F1``, its mean over classes. Several labels: ``mAP``, average
    precision averaged over the classes that occur, and ``F1`` over all labels at once (micro), of
    those told with a probability above one half. Pixels: ``mIoU``, averaged over classes that
    either has, and ``accuracy``.

    Args:
        kind: of the labels.
        labels: see ``Part``.
        told: (N, K) probabilities of labels; of pixels (N, s, s) int64, class numbers.
    """
    if kind == "multi":
        borne = labels > 0.5
        occurs = borne.any(axis=0)
        return {
            "mAP": float(average_precision_score(borne[:, occurs], told[:, occurs])),
            "F1": float(f1_score(borne, told > 0.5, average="micro", zero_division=0.0)),
        }
    if kind == "single":
        count = told.shape[1]
        matrix = confusion(labels, told.argmax(axis=1), count)
        return {"accuracy": agreement(matrix), "F1": float(np.nanmean(f1(matrix)))}
    known = labels != UNKNOWN
    mapped = told[known].astype(np.int64)
    count = int(max(labels.max(), mapped.max(initial=0))) + 1
    matrix = confusion(labels[known], mapped, count)
    return {
        "mIoU": float(np.nanmean(intersection_over_union(matrix))),
        "accuracy": agreement(matrix),
    }
