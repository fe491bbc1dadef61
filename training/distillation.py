"""Teachers of a distilled run: finished runs whose answers the student learns beside the labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np

from edge.core.durable import write_bytes
from edge.core.errors import UsageError
from edge.core.types import FloatArray
from edge.imaging.preprocess import Preprocessing
from training.checkpoint import CHOSEN, finished_config
from training.config import RunConfig
from training.data.sampling import Batch
from training.models import registry

TEACHERS: Final = "teachers.json"
"""The file of a distilled run that says who taught it."""


@dataclass(frozen=True, slots=True)
class Teachers:
    """Finished networks, in inference mode, and the preprocessing that each of them takes."""

    models: tuple[keras.Model, ...] = ()
    preprocessings: tuple[Preprocessing, ...] = ()

    def targets(self, batch: Batch) -> FloatArray:
        """Give a batch's targets, float32[N, 6]; with teachers the mean of their logits follows, float32[N, 12].

        Each teacher sees the same view of each cell as the student, at its own size.
        """
        if not self.models:
            return batch.targets
        answers = [
            np.asarray(model.predict_on_batch(batch.teacher_inputs[wanted]), dtype=np.float32)
            for model, wanted in zip(self.models, self.preprocessings, strict=True)
        ]
        return np.concatenate([batch.targets, np.mean(answers, axis=0, dtype=np.float32)], axis=1)


def require_honest(teacher: RunConfig, student: RunConfig, name: str) -> None:
    """Raise UsageError when a teacher knows what the student must not, or looks at another piece of the smear.

    `teacher-of-another-split`: what is held out from the student the teacher may have learnt. `teacher-saw-left-out`:
    it learnt a source that the student leaves out. `teacher-of-another-margin`: its crops are wider or narrower.
    """
    if teacher.split_seed != student.split_seed:
        raise UsageError(
            "teacher-of-another-split",
            f"{name} was trained on the split of seed {teacher.split_seed}, the student has {student.split_seed}.",
            "Give both the same --split-seed: else the teacher may pass on cells that are held out.",
        )
    missing = sorted(set(student.leave_out) - set(teacher.leave_out))
    if missing:
        raise UsageError(
            "teacher-saw-left-out",
            f"{name} learnt from {', '.join(missing)}, which the student leaves out.",
            "Train a teacher with the same --leave-out.",
        )
    if teacher.margin != student.margin:
        raise UsageError(
            "teacher-of-another-margin",
            f"{name} sees {teacher.margin:g} nucleus diameters, the student {student.margin:g}.",
            "Give both the same margin.",
        )


def load(folders: Sequence[Path], student: RunConfig) -> Teachers:
    """Load finished runs as teachers of a student.

    Raises what `checkpoint.finished_config` and `require_honest` raise.
    """
    models: list[Any] = []
    preprocessings = []
    for folder in folders:
        config = finished_config(folder)
        require_honest(config, student, str(folder))
        full = registry.build_untrained(config)
        full.load_weights(folder / CHOSEN)
        model = keras.Model(full.input, full.output["logits"])
        model.trainable = False
        models.append(model)
        preprocessings.append(config.preprocessing)
    return Teachers(tuple(models), tuple(preprocessings))


def required_size(folders: Sequence[Path], student: RunConfig) -> int:
    """Give the side, in pixels, of the largest input among student and teachers: crops are cut for it."""
    return max([student.size, *(finished_config(folder).size for folder in folders)])


def remember(folders: Sequence[Path], run: Path) -> None:
    """Write into a run's folder who teaches it. Raises UsageError `another-run` when it has had other teachers."""
    told = [
        {
            "run": folder.resolve().name,
            "model": finished_config(folder).model,
            "sha256": hashlib.sha256((folder / CHOSEN).read_bytes()).hexdigest(),
        }
        for folder in folders
    ]
    path = run / TEACHERS
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    if before is not None and [item["sha256"] for item in before] != [item["sha256"] for item in told]:
        raise UsageError("another-run", f"{run} holds a run with other teachers.", "Choose another --out.")
    if told:
        write_bytes(path, (json.dumps(told, indent=1) + "\n").encode())
