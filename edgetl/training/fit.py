"""What the stages that train share: a classifier fitted to the training photos and measured on the validation photos."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetl.backbones.models import Classifier, ModelSpec, save_model
from edgetl.core.progress import Progress
from edgetl.dataset.samples import SplitDataset
from edgetl.tasks.photos.batches import evaluation_batches, training_batches
from edgetl.tasks.photos.contract import View
from edgetl.training.head import HeadTraining, train_head
from edgetl.training.loop import Evaluator, History, Loss, Schedule, has_checkpoint, make_evaluator, train
from edgetl.training.losses import distil_and_label_loss
from edgetl.training.records import HistoryJson


@dataclass(frozen=True)
class FitOptions:
    """A stage's training options (recipe.TrainingOptions). augment: the strengths of the random views."""

    epochs: int
    batch_size: int
    learning_rate: float
    warmup_epochs: float
    patience: int
    augment: Mapping[str, float]

    @staticmethod
    def of(options: Mapping[str, Any]) -> FitOptions:
        """From a step's options."""
        return FitOptions(**{name: options[name] for name in FitOptions.__dataclass_fields__})


@dataclass(frozen=True)
class Fitting:
    """One stage's photos, and how it sees them. seed: of the order and the random views. scratch: survives a killed run."""

    data: SplitDataset
    view: View
    seed: int
    scratch: Path
    progress: Progress

    def evaluator(self, classifier: Classifier) -> Evaluator:
        """Measures a classifier on the validation photos."""
        return make_evaluator(
            classifier.model, lambda: evaluation_batches(self.data.validate, self.view), classifier.normalize
        )

    def fit_head(self, classifier: Classifier, *, epochs: int, smoothing: float) -> None:
        """Train the logits layer alone, unless a killed run is past that."""
        if not has_checkpoint(self.scratch):
            how = HeadTraining(epochs, smoothing, self.seed)
            train_head(classifier, self.data.train, self.view, how, scratch=self.scratch, progress=self.progress)

    def fit(
        self, classifier: Classifier, loss: Loss, options: FitOptions, *, evaluator: Evaluator | None = None
    ) -> History:
        """Train on augmented views, leave the weights of the best epoch in the model. evaluator: the classifier's own,
        where there is one already. Raises TrainingError when training diverges."""
        train_photos = self.data.train
        schedule = Schedule(
            options.epochs,
            max(1, len(train_photos) // options.batch_size),
            options.learning_rate,
            options.warmup_epochs,
            options.patience,
        )
        return train(
            classifier.model,
            loss=loss,
            batches=lambda epoch: training_batches(
                train_photos,
                self.view,
                n_classes=len(self.data.classes),
                batch_size=options.batch_size,
                augment=options.augment,
                seed=self.seed,
                epoch=epoch,
            ),
            schedule=schedule,
            validate=evaluator or self.evaluator(classifier),
            scratch=self.scratch,
            progress=self.progress,
        )


def guided_loss(teacher: Classifier, student: Classifier, *, temperature: float, label_weight: float) -> Loss:
    """The student's loss on the teacher's logits for the same view, and on the labels (losses.distil_and_label_loss)."""

    def loss(pixels: Any, labels: Any) -> Any:
        expected = teacher.logits(pixels, training=False)
        logits = student.logits(pixels, training=True)
        return distil_and_label_loss(expected, logits, labels, temperature=temperature, label_weight=label_weight)

    return loss


def save_fitted(folder: Path, spec: ModelSpec, classifier: Classifier, history: History) -> None:
    """Write model.json, weights.npz and history.json."""
    save_model(folder, spec, classifier.model)
    write_history(folder, history.to_json())


def write_history(folder: Path, history: HistoryJson) -> None:
    """Write history.json."""
    (folder / "history.json").write_text(json.dumps(history, indent=1))
