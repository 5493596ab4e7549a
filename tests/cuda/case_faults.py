"""Faults that were there once, or that a GPU would show first: each is put back, and the test that is there for it fails."""

from __future__ import annotations
import __future__

import inspect
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import case_backward
import case_jobs
import case_points
import pytest
from case_backward import tf32_wanted  # noqa: F401  a fixture

sys.path.append(str(Path(__file__).parents[1] / "compute"))
import test_devices
import test_memory_and_range
from test_devices import no_gpu  # noqa: F401

from paraloss.compute import recipes, summary, training
from paraloss.compute.directions import moving_weights, plane
from paraloss.compute.evaluate import estimator, full, measures, on_samples, point, regression, sample_losses, stepping, tuning
from paraloss.compute.forward import batch_norm, batches, compiling, folding, precision
from paraloss.compute.inputs import checkpoints, placing
from paraloss.compute.ranks import devices


class Fault(NamedTuple):
    """A text in a function, what stood there, the test that fails with it, and the arguments of that test."""

    function: Any
    right: str
    wrong: str
    test: Any
    given: Mapping[str, Any] = MappingProxyType({})


FAULTS = {
    # within a point: waits, kernels, layouts
    "mean-and-deviation-copied-for-each-batch": Fault(
        batches.Batches._normalized, "replace(self._split, scale=self._scale)", "self._split",
        case_points.test_streamed_data_do_not_wait_either),
    "momentum-read-back-for-each-batch": Fault(
        batch_norm._Average.__call__, "layer.momentum = self.size / self._seen[layer]", "layer.momentum = None",
        case_points.test_recomputed_statistics_are_in_fp32_and_do_not_wait),
    "each-batch-norm-folded-alone": Fault(
        folding.FoldedModel.__init__, 'tensors[0].device.type == "cuda"', "False",
        case_points.test_moving_and_folding_takes_few_kernels_however_deep_the_model),
    "tensors-of-the-buffer-not-padded": Fault(
        moving_weights._Part.__init__, "_ALIGNED // first.dtype.itemsize", "1", case_points.test_odd_linear_layers_are_aligned),
    "weights-in-rows": Fault(
        point.PointEvaluator.__init__, "weights_in_channels_last(named)", "[]",
        case_points.test_images_and_weights_are_in_channels_last_and_aligned, {"precision": "fp32"}),
    "own-tensors-of-a-criterion-stay": Fault(
        placing.on_device, "copy.deepcopy(function).to(device).eval()", "function",
        case_points.test_a_criterions_own_tensors_move_along, {"loss": case_points.Scaled()}),
    "a-step-reads-each-batch-back": Fault(
        stepping.StepEvaluator.sums, "self.step.batch_losses(self.model, batch).detach()",
        "self.step.batch_losses(self.model, batch).detach(); float(losses.total)",
        case_jobs.test_a_step_at_a_point_waits_for_nothing_and_half_the_batch_copies_no_data),
    "the-gradients-count-read-back-for-each-batch": Fault(
        measures._summed_gradient, "count + losses.detach().count", "count + float(losses.count)",
        case_backward.test_the_norm_of_the_gradient_is_that_of_the_cpu_and_read_back_once, {"precision": "fp32"}),
    "augmentation-waits-at-each-step": Fault(
        recipes.crop_and_flip, ", non_blocking=True", "",
        case_backward.test_training_on_auto_goes_where_the_cpu_goes_in_fp32_and_no_step_waits,
        {"recipe": "cifar", "precision": "bf16"}),
    # fp32 is fp32
    "statistics-recomputed-in-tf32": Fault(
        full.Evaluator._follow, "torch.no_grad(), self.exactly()", "torch.no_grad()",
        case_points.test_recomputed_statistics_are_in_fp32_and_do_not_wait),
    "measures-in-tf32": Fault(
        point.PointEvaluator.__call__, "with self.exactly():", "if True:",
        case_backward.test_the_norm_of_the_gradient_is_that_of_the_cpu_and_read_back_once, {"precision": "bf16"}),
    "spectrum-in-tf32": Fault(
        point.PointEvaluator.exactly, '"fp32" if self._autocast else self.precision', '"tf32"',
        case_backward.test_the_spectrum_is_in_fp32),
    "training-in-tf32": Fault(
        training.train, 'with arithmetic(device, "fp32", False):', "if True:",
        case_backward.test_training_on_auto_goes_where_the_cpu_goes_in_fp32_and_no_step_waits,
        {"recipe": "li2018", "precision": "fp32"}),
    "switches-not-put-back": Fault(
        precision.arithmetic, "stack.callback(setattr, owner, name, getattr(owner, name))", "pass",
        case_backward.test_the_users_switches_are_put_back),
    "old-switches-where-the-user-has-set-the-new-ones": Fault(
        precision._switches, 'if hasattr(products, "fp32_precision")', "if False",
        case_backward.test_the_users_switches_are_put_back),
    # memory and range
    "half-the-batch-copies-the-data": Fault(
        on_samples.SampleEvaluator.use_batch_size, "if self.batches:", "if False:",
        case_points.test_halving_the_batch_copies_no_data),
    "half-the-batch-of-a-step-copies-the-data": Fault(
        stepping.StepEvaluator.use_batch_size, "self.batch_size = size", "self.batch_size = size; self._place_data()",
        case_jobs.test_a_step_at_a_point_waits_for_nothing_and_half_the_batch_copies_no_data),
    "retry-within-the-handler": Fault(
        estimator.with_smaller_batches, "with suppress(torch.OutOfMemoryError):\n            return work()",
        "try:\n            return work()\n        except torch.OutOfMemoryError:\n"
        "            return evaluator.halve_batch() and with_smaller_batches(evaluator, work, place)",
        case_jobs.test_a_job_goes_on_in_smaller_batches_wherever_memory_runs_out, {"options": {}, "room": 64}),
    "no-memory-while-timing": Fault(
        tuning.choose_batch_size, "with_smaller_batches(evaluator, ", "(lambda evaluator, work: work())(evaluator, ",
        case_jobs.test_a_job_goes_on_in_smaller_batches_wherever_memory_runs_out, {"options": {}, "room": 64}),
    "no-memory-for-a-larger-batch": Fault(
        tuning.find_batch_size, "except torch.OutOfMemoryError:", "except ZeroDivisionError:",
        case_jobs.test_tuning_passes_over_sizes_that_memory_does_not_have),
    "no-memory-at-an-anchor": Fault(
        regression.SampledEvaluator._whole, 'with_smaller_batches(self.evaluator, whole, "an anchor")', "whole()",
        case_jobs.test_memory_that_runs_out_at_an_anchor),
    "no-memory-for-the-look-at-single-losses": Fault(
        estimator.check_sample_losses, "with_smaller_batches(evaluator, evaluator.no_sample_losses)",
        "evaluator.no_sample_losses()",
        case_jobs.test_a_job_goes_on_in_smaller_batches_wherever_memory_runs_out,
        {"options": {"rtol": 0.01, "batch_size": 100}, "room": 64}),
    "as-many-sizes-as-counts": Fault(
        sample_losses.few_sizes, "1 << (rest.bit_length() - 1)", "rest",
        case_jobs.test_sampled_points_come_in_few_sizes_and_keep_few_probabilities),
    "probabilities-kept-without-bound": Fault(
        regression.SampledEvaluator._inclusion, "while len(self._probabilities) >= _KEPT", "while False",
        case_jobs.test_sampled_points_come_in_few_sizes_and_keep_few_probabilities),
    "bf16-before-fp16": Fault(
        precision.faster_precisions, '["fp16", "bf16", "tf32"]', '["bf16", "fp16", "tf32"]',
        case_jobs.test_auto_takes_fp16_and_points_that_overflow_are_evaluated_again_in_bf16),
    "overflow-stays": Fault(
        point.PointEvaluator.overflowed, "self.wider is not None", "False",
        case_jobs.test_auto_takes_fp16_and_points_that_overflow_are_evaluated_again_in_bf16),
    # devices and what is said
    "no-gpu-set-for-a-rank": Fault(
        devices.rank_device, "torch.cuda.set_device(device)", "pass",
        test_devices.test_each_rank_sets_its_own_gpu_and_more_ranks_than_gpus_are_said_once),
    "more-ranks-than-gpus-not-said": Fault(
        devices.rank_device, "local_size > gpus", "False",
        test_devices.test_each_rank_sets_its_own_gpu_and_more_ranks_than_gpus_are_said_once),
    "no-reason-why-there-is-no-gpu": Fault(
        devices.describe_device, "why_no_gpu()", '""',
        test_devices.test_the_reason_why_there_is_no_gpu_is_in_the_line_and_in_the_refusal,
        {"version": test_devices.CUDA13, "error": test_devices.TOO_OLD, "driver": True,
         "expected": "driver (for CUDA 12.4) is too old"}),
    "auto-is-the-cpu": Fault(
        devices.rank_device, '"cuda" if torch.cuda.is_available() else "cpu"', '"cpu"',
        case_backward.test_training_on_auto_goes_where_the_cpu_goes_in_fp32_and_no_step_waits,
        {"recipe": "li2018", "precision": "fp32"}),
    "first-lines-without-how": Fault(
        summary.opening_lines, "setup.evaluator.how(facts['evaluated'])", "setup.device",
        case_jobs.test_a_surface_with_directions_that_are_on_the_gpu_and_a_metric_of_ones_own),
    "directions-left-on-the-gpu": Fault(
        plane._storable, ".cpu()", "", case_jobs.test_a_surface_with_directions_that_are_on_the_gpu_and_a_metric_of_ones_own),
    "checkpoints-of-the-gpu": Fault(
        checkpoints.save_checkpoint, "part.cpu()", "part",
        case_backward.test_training_on_auto_goes_where_the_cpu_goes_in_fp32_and_no_step_waits,
        {"recipe": "li2018", "precision": "fp32"}),
    # compilation
    "compiled-checked-only-where-it-was-compiled": Fault(
        compiling.compiled, "move()\n", "pass\n",
        case_points.test_a_compiler_that_freezes_the_weights_is_found_out_at_moved_points, {"freezes": True}),
    "a-compiler-fails-in-silence": Fault(
        compiling.compiled, "logger.warning(f", "str(f", case_points.test_a_compiler_that_fails_is_named_and_done_without),
    "order-of-types": Fault(
        precision.faster_precisions, '["fp16", "bf16", "tf32"]', '["tf32", "fp16", "bf16"]',
        test_memory_and_range.test_on_a_gpu_the_type_of_smaller_rounding_comes_first),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_put_back_is_found(name, request, monkeypatch):
    fault = FAULTS[name]
    put_back(fault, monkeypatch)
    wanted = inspect.signature(fault.test).parameters.keys() - fault.given.keys()
    fixtures = {name: request.getfixturevalue(name) for name in wanted}
    with pytest.raises(BaseException) as found:
        fault.test(**fault.given, **fixtures)
    of_the_text = (TypeError, NameError, AttributeError, SyntaxError, pytest.skip.Exception)
    assert not issubclass(found.type, of_the_text), found.value


def put_back(fault, monkeypatch):
    """Give the function, whoever holds it, the code with the fault's text."""
    original = inspect.unwrap(fault.function)
    source = textwrap.dedent(inspect.getsource(original))
    assert fault.right in source, f"{original.__qualname__} does not say: {fault.right}"
    code = compile(source.replace(fault.right, fault.wrong), "<fault>", "exec", __future__.annotations.compiler_flag)
    names: dict[str, Any] = {}
    exec(code, original.__globals__, names)
    (changed,) = names.values()
    monkeypatch.setattr(original, "__code__", inspect.unwrap(changed).__code__)
