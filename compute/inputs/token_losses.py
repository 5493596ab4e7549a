"""The step for models of Hugging Face: ``model(**batch)``, and the loss per token that counts.

Their loss is the mean over the tokens of one batch, so that means of batches with unequal padding are not the mean. The sum
is taken from the logits and the labels, with the shift of the labels that the model itself makes: of both ways the one that
gives the model's own loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraloss.compute.inputs.criterion import IGNORED
from paraloss.compute.inputs.losses import Losses
from paraloss.compute.inputs.steps import Step
from paraloss.compute.inputs.user_code import one_line
from paraloss.errors import InputError

_SAME = 1e-4  # relative difference between the model's own loss and the mean over tokens: both come from the same logits


class HuggingFaceStep(Step):
    """``model(**batch)``; labels of -100 and padding (where ``attention_mask`` is 0) count nowhere."""

    def __init__(self) -> None:
        self.name = "huggingface"
        self._shifted: bool | None = None  # found on the first batch

    def to(self, device: torch.device) -> HuggingFaceStep:
        """The step itself, which holds no tensors."""
        return self

    def batch_losses(self, model: nn.Module, batch: Any) -> Losses:
        """Sum and count of one batch, of tokens where the labels are one per token, else of samples.

        Raises:
            InputError: the model cannot take the batch, gives no loss, or one that is not the mean over tokens.
        """
        if not isinstance(batch, Mapping):
            raise InputError(f"step huggingface calls model(**batch), but a batch is {type(batch).__name__}, not a dict")
        inputs = _with_labels(model, dict(batch))
        try:
            outputs = model(**inputs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise InputError(f"model(**batch) failed: {type(error).__name__}: {one_line(error)[:200]}") from error
        loss, logits = getattr(outputs, "loss", None), getattr(outputs, "logits", None)
        labels = inputs.get("labels")
        if not isinstance(loss, Tensor):
            raise InputError(f"the model gives no loss for a batch with {', '.join(inputs)}; the batch needs labels")
        if isinstance(labels, Tensor) and isinstance(logits, Tensor) and labels.ndim == 2 and logits.ndim == 3:
            return self._of_tokens(loss, logits, labels)
        samples = float(len(next(part for part in inputs.values() if isinstance(part, Tensor))))
        return Losses(loss.double() * samples, samples, is_mean=True)

    def _of_tokens(self, loss: Tensor, logits: Tensor, labels: Tensor) -> Losses:
        ways = [True, False] if self._shifted is None else [self._shifted]
        found = {shifted: _token_losses(logits, labels, shifted) for shifted in ways}
        apart = {shifted: float((losses.mean - loss).detach().abs()) for shifted, losses in found.items() if losses.count}
        if not apart:
            return next(iter(found.values()))  # no token counts
        shifted = min(apart, key=lambda way: apart[way])
        if apart[shifted] > _SAME * abs(float(loss.detach())):
            raise InputError(
                "the model's own loss is not the mean over its tokens (an auxiliary loss?); give a step of your own, which "
                "returns (sum, count)"
            )
        self._shifted = shifted
        return found[shifted]


def _with_labels(model: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
    """The batch with labels: -100 where ``attention_mask`` is 0, the inputs themselves where there are none."""
    mask, labels = inputs.get("attention_mask"), inputs.get("labels")
    one_sequence = not getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    if labels is None and one_sequence and "start_positions" not in inputs and isinstance(inputs.get("input_ids"), Tensor):
        labels = inputs["input_ids"]
    if isinstance(labels, Tensor):
        if one_sequence and isinstance(mask, Tensor) and mask.shape == labels.shape:
            labels = labels.masked_fill(mask.eq(0), IGNORED)
        inputs["labels"] = labels
    return inputs


def _token_losses(logits: Tensor, labels: Tensor, shifted: bool) -> Losses:
    if shifted:
        logits, labels = logits[:, :-1], labels[:, 1:]
    elif logits.shape[1] != labels.shape[1]:
        return Losses(logits.new_zeros((), dtype=torch.float64), 0.0)
    total = F.cross_entropy(logits.double().transpose(1, 2), labels, ignore_index=IGNORED, reduction="sum")
    return Losses(total, float((labels != IGNORED).sum()))
