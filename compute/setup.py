"""What a job evaluates with: device, directions, tuning, groups of ranks, evaluator and estimator."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from paraloss.compute.directions.moving import still
from paraloss.compute.directions.random import Direction
from paraloss.compute.directions.sources import Source, as_tensors, share_sources
from paraloss.compute.evaluate.capped import CappedEvaluator
from paraloss.compute.evaluate.choose import make_evaluator
from paraloss.compute.evaluate.corrected import CorrectedEvaluator
from paraloss.compute.evaluate.correction import Correction
from paraloss.compute.evaluate.estimator import Estimator, check_sample_losses
from paraloss.compute.evaluate.exact import FullEstimator, SharedEstimator, TogetherEstimator
from paraloss.compute.evaluate.full import Evaluator
from paraloss.compute.evaluate.guarded import one_line_errors
from paraloss.compute.evaluate.home import is_large
from paraloss.compute.evaluate.point import PointEvaluator
from paraloss.compute.evaluate.regression import SampledEvaluator
from paraloss.compute.evaluate.report import Report
from paraloss.compute.evaluate.resuming import near_center
from paraloss.compute.evaluate.tuning import choose_batch_size, worth_compiling
from paraloss.compute.forward.batch_norm import normalizing_layers
from paraloss.compute.forward.precision import own_precision, rounding
from paraloss.compute.inputs.tensors import check_movable
from paraloss.compute.number_types import at_most, choose_number_types
from paraloss.compute.options.surface import Generator
from paraloss.compute.ranks.consistency import check_same_loss, check_same_problem
from paraloss.compute.ranks.devices import rank_device, who_is_where
from paraloss.compute.ranks.groups import Group
from paraloss.compute.ranks.world import World
from paraloss.compute.settings import Settings
from paraloss.compute.sharded import check_sharded
from paraloss.errors import InputError
from paraloss.height import OFFSET
from paraloss.log import logger
from paraloss.surface import check_fingerprint, read_directions, read_generator, read_provenance, read_recipes
from paraloss.surface.recipes import Recipe


class Setup:
    """All that evaluates the points of one surface. Collective: every rank makes one, with the same arguments.

    Args:
        settings: what to compute, the same on every rank.
        world: all ranks.
        resumed: surface file to finish, which holds directions and tuning; None begins a new one.

    Attributes:
        settings: as given; of a file that is resumed, with the generator that it was begun with.
        fingerprint: see ``Settings.fingerprint``.
        directions: one per axis, tensors or a recipe, on every rank.
        in_place: whether the model is moved itself; see ``Home``.
        tuning: precision, batch size and compilation: decided once, by rank 0, and kept when a file is resumed.
        device: this rank's.
        groups: number of points that are evaluated at the same time.
        group: the ranks that share each point; None where each rank evaluates points of its own.
        evaluator: evaluates samples on this rank.
        estimator: evaluates points.

    Raises:
        InputError: the device does not exist, an option does not fit the number of ranks, or ranks have different weights,
            data or losses.
        SurfaceFileError: ``resumed`` belongs to other settings.
    """

    def __init__(self, settings: Settings, world: World, resumed: Path | None) -> None:
        self.settings = settings = self._as_begun(settings, world, resumed)
        self._world, self._resumed = world, resumed
        self._options = settings.options
        self.device = rank_device(self._options.device, world)
        self._sharded = settings.home.is_sharded
        if settings.home.is_spread:
            self.device = settings.home.device
        if self._sharded:
            world.on_all(lambda: check_sharded(settings, world.size))
        places = who_is_where(world, self.device)
        if places and world.is_first:
            logger.info(places)
        if world.is_first and settings.bn_data is not None and not normalizing_layers(settings.model):
            logger.warning("the model has no batch norm with running statistics; there is nothing to recompute")
        world.on_all(lambda: check_movable(settings.model))
        self.fingerprint = settings.fingerprint()
        check_same_problem(world, self.fingerprint)
        self.directions = self._find_directions()
        self.in_place = self._moves_in_place()
        self._undivided: list[str] | None = None  # measured by the first evaluator
        self._probe: PointEvaluator | None = None  # rank 0's, so that data are not twice on its device
        # All ranks of a model that is spread over them run it together, and none may measure times alone.
        self.tuning: dict[str, Any] = world.bcast(world.on_all(self._tune)) if self._sharded else world.on_first(self._tune)
        self._undivided = self.tuning.get("undivided")
        self.groups = self._number_of_groups()
        self.group = Group(world, self.groups) if self.groups < world.size else None
        self.evaluator: PointEvaluator = world.on_all(self._make_evaluator)
        self._check_loss()
        if self.tuning["compiled"] and not self.evaluator.compiled:
            self.evaluator.compile()
        self.estimator: Estimator = world.on_all(self._make_estimator)

    @property
    def arithmetic(self) -> str:
        """The type that most evaluations are in: the fast one where it is corrected, else the precision of the results."""
        return str(self.tuning.get("fast") or self.tuning["precision"])

    @cached_property
    def facts(self) -> dict[str, Any]:
        """How the values come about, for the surface's provenance."""
        given, device = self.settings, self.device
        return {
            "weights_sha256": self.fingerprint["weights"],
            "samples": {name: len(split) for name, split in given.chosen.items()},
            "samples_of": dict(given.population),
            "criterion": self.fingerprint["criterion"],
            "directions": self.fingerprint["directions"],
            "still": still(given.model, self.directions),
            "precision": self.tuning["precision"],
            "evaluated": self._in_words(),
            "tuning": dict(self.tuning),
            "sampling": self.fingerprint["sampling"],
            "seed": self._options.seed,
            "in_place": self.in_place,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "ranks": self._world.size,
            "batch_norms_folded": self.evaluator.folded,
            "not_folded": self.evaluator.not_folded,
            "relus_fused": self.evaluator.fused,
            "torch_version": str(torch.__version__),
        }

    def _in_words(self) -> str:
        """What was evaluated at each point, and to what error."""
        options, precision, fast = self._options, self.tuning["precision"], self.tuning.get("fast")
        types = f"in {fast}, corrected by some in {precision}" if fast else f"in {precision}"
        if options.rtol is not None:
            return f"as many samples {types} as a standard error of {100 * options.rtol:g} % of the loss takes"
        if options.loss_cap is not None:
            return f"all samples {types}, fewer where the loss is above {options.loss_cap:g}"
        bound = f": standard error at most {100 * options.precision_bound:g} % of (loss + {OFFSET:g})" if fast else ""
        return f"all samples {types}{bound}"

    @staticmethod
    def _as_begun(settings: Settings, world: World, resumed: Path | None) -> Settings:
        """``settings`` with the generator that the file was begun with, where none is asked for."""
        if resumed is None or settings.options.generator != "auto":
            return settings
        generator: Generator = "philox" if world.on_first(lambda: read_generator(resumed)) == "philox" else "li2018"
        return replace(settings, plane=settings.plane.with_generator(generator))

    def _find_directions(self) -> list[Source]:
        """The directions in the file, else new ones: made by rank 0, or by all where the norms of shards are added up."""
        world, plane, model = self._world, self.settings.plane, self.settings.model
        kept = world.on_all(lambda: self._kept_directions() if world.is_first else [])
        makes = not world.bcast(bool(kept)) and (world.is_first or self._sharded)
        return share_sources(world, world.on_all(lambda: plane.make(model) if makes else kept))

    def _kept_directions(self) -> list[Source]:
        """What the file that is resumed holds; nothing where there is none, or a repair dropped them."""
        if self._resumed is not None:
            check_fingerprint(self._resumed, self.fingerprint)
            recipes = read_recipes(self._resumed)
            found = read_directions(self._resumed, beside_recipes=True)
            axes = [axis for axis in "xyz" if axis in recipes or axis in found]
            return [recipes.get(axis) or {n: torch.from_numpy(t) for n, t in found[axis].items()} for axis in axes]
        return []

    def _moves_in_place(self) -> bool:
        by_recipe = any(isinstance(direction, Recipe) for direction in self.directions)
        asked = self._options.in_place
        return self.settings.home.is_spread or ((by_recipe and is_large(self.settings.model)) if asked is None else asked)

    @cached_property
    def tensors(self) -> list[Direction]:
        """The directions, the numbers of recipes made."""
        return [as_tensors(direction, self.settings.model) for direction in self.directions]

    def _evaluator_in(
        self, precision: str, size: int | None = None, shard: tuple[int, int] = (0, 1), most: int | None = None
    ) -> PointEvaluator:
        given = self.settings
        evaluator = make_evaluator(
            given.home if self.in_place else given.model,
            given.criterion[1],
            given.chosen if most is None else {name: at_most(split, most) for name, split in given.chosen.items()},
            self.directions if self.in_place else self.tensors,
            self.device,
            batch_size=size or self._options.batch_size,
            precision=precision,
            report=Report(
                given.measures, given.user_metrics, given.accuracy, given.population, given.moving, self._options.train_mode
            ),
            bn_data=given.bn_data,
            shard=shard,
            undivided=self._undivided,
        )
        if most is None:
            self._undivided = sorted(evaluator.undivided)
        return evaluator

    def _tune(self) -> dict[str, Any]:
        given, options, points = self.settings, self._options, len(self.settings.grid)
        if self._resumed is not None:
            return dict(read_provenance(self._resumed)["tuning"])
        used: str = own_precision(given.model) if options.precision == "auto" else options.precision
        fast, differences = "", dict[str, float]()
        if not self.in_place:  # one model cannot be in two number types
            used, fast, differences = choose_number_types(given, self.device, self._world.size, self._evaluator_in)
        self._probe = self._evaluator_in(fast or used)
        size = options.batch_size or (self._probe.batch_size if self._sharded else choose_batch_size(self._probe, points))
        return {
            "precision": used,
            "fast": fast,
            "difference_from_fp32": differences,
            "batch_size": size,
            "overflow": "bf16"
            if used == "fp16" and options.precision == "auto" and own_precision(given.model) == "fp32"
            else "",
            "compiled": not (options.sampled or self._sharded) and worth_compiling(self._probe, points // self._world.size),
            **self._divisible(self._probe),
        }

    def _divisible(self, evaluator: PointEvaluator) -> dict[str, Any]:
        """What must not be cut into batches or shared by ranks, for the file and for all ranks."""
        for name in evaluator.undivided:
            if evaluator.samples[name] > evaluator.batch_size:
                logger.info(f"the loss of {name} is not the mean of its batches: it is computed from all outputs together")
        if evaluator.mixing:
            logger.info("the model's outputs of a sample depend on the others of its batch: all samples are one batch")
        return {"undivided": sorted(evaluator.undivided), "indivisible": evaluator.indivisible}

    def _number_of_groups(self) -> int:
        options, ranks = self._options, self._world.size
        if ranks == 1 or self._sharded:
            return 1
        wanted = options.split_data
        if wanted is not None and wanted > 1 and self.tuning.get("fast"):
            raise InputError(
                f"{{split_data}} {wanted}: ranks cannot share the corrections of {self.tuning['fast']} that the file was begun "
                "with; leave it out",
                arguments=("split_data",),
            )
        undivided = options.sampled or self.tuning.get("indivisible") or self.tuning.get("fast")
        if self.settings.measures or (wanted is None and undivided):
            wanted = 1
        if wanted is not None and wanted > ranks:
            raise InputError(f"{{split_data}} {wanted} requires as many ranks; there are {ranks}", arguments=("split_data",))
        groups = min(ranks, len(self.settings.grid)) if wanted is None else max(1, ranks // wanted)
        if groups < ranks and options.sampled:
            raise InputError(
                "{split_data} shares all samples of a point; it excludes {rtol} and {loss_cap}",
                arguments=("split_data", "rtol", "loss_cap"),
            )
        return groups

    def _make_evaluator(self) -> PointEvaluator:
        size = self._options.batch_size or self.tuning["batch_size"]
        shard = (0, 1) if self.group is None or self._sharded else (self.group.team.rank, self.group.team.size)
        if self._probe is not None and (self.group is None or self._sharded):
            evaluator = self._probe
        else:
            self._probe = None  # its data leave the device first
            evaluator = self._evaluator_in(self.arithmetic, size, shard)
        if wider := self.tuning.get("overflow"):
            evaluator.wider = partial(self._evaluator_in, wider, size, shard)
        return evaluator

    def _check_loss(self) -> None:
        """Check that all ranks find the same loss at one displaced point."""
        if self._world.size > 1:
            index = near_center(self.settings.grid)
            place = self.settings.place(index)

            def loss() -> float:
                with one_line_errors(place):
                    return self.evaluator.first_loss(self.settings.grid[index].tolist())

            check_same_loss(self._world, self._world.on_all(loss), place, rounding(self.arithmetic))

    def _make_estimator(self) -> Estimator:
        steps, shape, options, evaluator = self.settings.grid, self.settings.shape, self._options, self.evaluator
        if self._sharded:
            return TogetherEstimator(evaluator, steps)
        if self.group is not None:
            return SharedEstimator(evaluator, steps, self.group.team)
        correction = self._make_correction(evaluator)
        if not options.sampled and correction is None:
            return FullEstimator(evaluator, steps)
        check_sample_losses(evaluator)
        assert isinstance(evaluator, Evaluator)  # no other knows the losses of samples
        if options.rtol is not None:
            return SampledEvaluator(evaluator, shape, steps, options.rtol, options.seed, options.loss_cap, correction)
        if correction is not None:
            return CorrectedEvaluator(evaluator, correction, steps, options.precision_bound)
        assert options.loss_cap is not None
        return CappedEvaluator(evaluator, steps, options.loss_cap, options.seed)

    def _make_correction(self, fast: PointEvaluator) -> Correction | None:
        if not self.tuning.get("fast"):
            return None
        if self.in_place:
            raise InputError(
                f"{{in_place}}: the file was begun in {self.tuning['fast']} with corrections, which compare two models; "
                "leave it out",
                arguments=("in_place",),
            )
        wide = self._evaluator_in(self.tuning["precision"], fast.batch_size)
        assert isinstance(fast, Evaluator) and isinstance(wide, Evaluator)
        return Correction(fast, wide, self._options.seed)
