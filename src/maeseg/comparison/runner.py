"""A comparison from its options to its folder: settle, choose images, plan, fine-tune every cell, write."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from maeseg.comparison.contrast_pictures import write_contrasts
from maeseg.comparison.convergence import has_converged, validation_ious
from maeseg.comparison.plan import (
    LENGTHENS,
    Cell,
    Init,
    adds_seeds,
    may_grow,
    name_inits,
    plan_cells,
    planned_before,
    refuse_fewer,
    refuse_shorter,
    unlabeled_options,
)
from maeseg.comparison.reader import read_interim_counts, teachers_left_out, trace_pretraining
from maeseg.comparison.results import (
    EQUAL_STEPS,
    RESULT_COLUMNS,
    STILL_RISING,
    TRAINED_OUT,
    ResultRow,
    Stage,
    append_result,
    at_equal_steps,
    read_results,
)
from maeseg.comparison.wording import plan_sentence
from maeseg.config import CompareConfig
from maeseg.data.bad_images import refuse_labels
from maeseg.data.data_option import describe_options
from maeseg.data.part import Part
from maeseg.data.sources.base import Source
from maeseg.data.splits import label_subset
from maeseg.errors import UserError
from maeseg.metrics.volumes import require_monai
from maeseg.models.trial_pass import trial_pass
from maeseg.runs.inputs import INIT, Input
from maeseg.runs.layout import RESULTS
from maeseg.runs.lengthen import planned_epochs
from maeseg.runs.reader import is_finished, read_finished
from maeseg.runs.validation import keep_validation
from maeseg.runs.writer import Run, begin_run
from maeseg.training.batch_check import check_batch_statistics
from maeseg.training.cached_images import CachedImages, plan_cache, remove_cache
from maeseg.training.devices import join, open_fabric
from maeseg.training.finetuning import run_finetuning
from maeseg.training.held_out import check_held_out
from maeseg.training.initialization import Start, read_start, start_unet, weights_input
from maeseg.training.run_images import RunImages, choose_images
from maeseg.training.setup import Setup, classes_input, open_labeled, settle, settle_volumes
from maeseg.training.unlabeled_images import Unlabeled, check_enough, choose_shared_unlabeled
from maeseg.training.volume_setup import Volumes, check_axes, reads_volumes, settle_volumes_of
from maeseg.utils.distributed import first_process, from_first, others_wait
from maeseg.utils.plain_values import integer, number

log = logging.getLogger(__name__)

MOST_STEPS = 2**53
"""Largest number of steps that a run's run.json may have."""


@dataclass(frozen=True)
class Plan:
    """Runs of a comparison.

    Attributes:
        inits: Initializations.
        cells: The runs, in order.
        label_counts: Number of labeled images for each entry of ``labels``.
    """

    inits: Sequence[Init]
    cells: Sequence[Cell]
    label_counts: Mapping[int | float, int]


def run_comparison(config: CompareConfig) -> list[ResultRow]:
    """Fine-tune from every initialization, with all label counts and seeds, and write the comparison's folder.

    Returns:
        The rows of results.csv.

    Raises:
        UserError: An option, a file or a folder cannot be used; checked for every run before the first begins.
    """
    fabric = open_fabric(config.accelerator, config.devices, config.precision)
    inits = name_inits(config.inits)
    weighted = {init.name: (init.weights, init.transfer) for init in inits if init.weights}
    origins = list(dict.fromkeys(weighted.values()))  # with and without unlabeled images they are the same
    setup, images = settle_with_images(config, [read_start(*origin) for origin in origins])
    plan = plan_runs(config, inits, images)
    unlabeled = choose_unlabeled_images(config, plan, images)
    config = replace(config, **setup.options(images.source))
    join(fabric)  # from here on the first of several processes writes
    weights = {
        f"{INIT}{name}": weights_input(origin[0], setup.starts[origins.index(origin)], "inits")
        for name, origin in weighted.items()
    }
    cached = plan_cache(config, read_parts(plan, images, unlabeled))
    run = open_run(config, plan, images, unlabeled, weights)
    train_for_equal_steps(config, run, plan, cached)
    if config.until == "converged":
        train_out(config, run, plan, cached)
    remove_cache(run, cached)
    with run.writing(), others_wait():
        if first_process():
            write_contrasts(run.path, images.source, images.split.measured)
            run.finish({"runs": len(plan.cells)})
    return read_results(run.path / RESULTS)


def settle_with_images(config: CompareConfig, starts: Sequence[Start]) -> tuple[Setup, RunImages]:
    """Resolve the network and its input, check it, and choose the images that all runs share.

    Raises:
        UserError: Options, initial weights or images cannot be used.
    """
    if not reads_volumes(config, starts):
        setup = settle(config, starts)
        source = open_labeled(config, setup.starts)
        check_network(config, setup, source)
        return setup, choose_shared(config, setup.starts, source)[0]
    check_axes(config, volumes=True)
    require_monai()  # which measures the runs at their end
    images, volumes = choose_shared(config, starts, open_labeled(config, starts))
    assert volumes is not None
    setup = settle_volumes(config, starts, volumes)
    check_network(config, setup, images.source)
    return setup, images


def check_network(config: CompareConfig, setup: Setup, source: Source) -> None:
    """Check that all weights fit the network, and that it takes images of the size and batches that are asked for.

    Raises:
        UserError: Weights or an option do not fit; the message names them.
    """
    for start in setup.starts:
        start_unet(setup.build(source), start, source.classes)
    unet = setup.build(source)
    trial_pass(unet, setup.image_size, option=setup.sized_by)
    one_image = torch.zeros(1, source.channels, *setup.image_size)
    check_batch_statistics(config.batch_size, unet, one_image, option=setup.sized_by)


def choose_shared(config: CompareConfig, starts: Sequence[Start], source: Source) -> tuple[RunImages, Volumes | None]:
    """Choose the images that all runs share; of volumes also the spacing.

    Raises:
        UserError: Options or images cannot be used, or weights have seen images that are held out.
    """
    chosen = choose_images(
        source, config.out, val=config.val, test=config.test, on_bad_image=config.on_bad_image, resume=config.resume
    )
    for start in starts:
        check_held_out(start, chosen)
    volumes = settle_volumes_of(config, starts, chosen)
    refuse_labels(chosen.source, chosen.split, config.border)
    return chosen, volumes


def plan_runs(config: CompareConfig, inits: Sequence[Init], images: RunImages) -> Plan:
    """Plan the runs.

    Raises:
        UserError: Labels or seeds cannot be used.
    """
    cells = list(plan_cells(inits, config.labels, config.seeds, config.unlabeled))
    refuse_empty(config, inits, cells)
    train, contents = images.split.train, images.contents
    counts = {share: len(label_subset(train, contents, share, seed=0)) for share in config.labels}
    return Plan(inits, cells, counts)


def refuse_empty(config: CompareConfig, inits: Sequence[Init], cells: Sequence[Cell]) -> None:
    """Refuse an initialization without a run, and log numbers of labels at which one has none.

    Raises:
        UserError: An initialization learns from ``rest`` alone, and all labels are used.
    """
    ran = {(cell.init, cell.labels) for cell in cells}
    for init in inits:
        without = [each for each in config.labels if (init, each) not in ran]
        if len(without) == len(config.labels):
            raise UserError(
                f"--inits: {init.name} has no image left that is used without its label, with --labels "
                f"{list(config.labels)} and --unlabeled {config.unlabeled}: give fewer --labels, or other images"
            )
        if without:
            log.info("%s: no run with labels %s, as no image is left without its label", init.name, *without)


def choose_unlabeled_images(config: CompareConfig, plan: Plan, images: RunImages) -> Unlabeled | None:
    """Choose the unlabeled images that the runs share; each leaves out those that it has the labels of.

    Raises:
        UserError: They cannot be used, or are too few for one of the runs.
    """
    subsets = {(cell.labels, cell.seed) for cell in plan.cells if cell.init.unlabeled}
    if not subsets:
        return None
    found = choose_shared_unlabeled(config, images)
    for labels, seed in sorted(subsets):
        check_enough(config, found, images, label_subset(images.split.train, images.contents, labels, seed))
    return found


def read_parts(plan: Plan, images: RunImages, unlabeled: Unlabeled | None) -> list[Part]:
    """Images that training reads in at least one of the runs."""
    subsets = {(cell.labels, cell.seed) for cell in plan.cells}
    train = {
        index for labels, seed in subsets for index in label_subset(images.split.train, images.contents, labels, seed)
    }
    labeled = Part(images.source, (*sorted(train), *images.split.val), images.facts)
    return [labeled, *(unlabeled.parts(images) if unlabeled else ())]


def open_run(
    config: CompareConfig, plan: Plan, images: RunImages, unlabeled: Unlabeled | None, weights: Mapping[str, Input]
) -> Run:
    """Open the comparison's folder and write the facts that are known before its runs.

    Args:
        config: Options of the comparison, as they were settled.
        plan: Its runs.
        images: Images that they share.
        unlabeled: Unlabeled images of those that learn from some.
        weights: Weights that they start from, as inputs.

    Raises:
        UserError: It is taken, or it has other options or inputs, or more runs.
    """
    options = describe_options(config.as_dict())
    inputs = images.inputs({**options, "labels": None}, {**weights, "classes": classes_input(config, images.source)})
    cells_before: list[Cell] = []

    def may_differ(before: Mapping[str, Any]) -> tuple[str, ...]:
        cells_before.extend(planned_before(before))
        refuse_fewer(cells_before, plan.cells)
        refuse_shorter(before, config)
        return (*may_grow(cells_before), *LENGTHENS)

    run = from_first(lambda: begin_run("compare", options, may_differ, inputs))
    interim_looks, table = read_interim_counts(run.before), run.path / RESULTS
    if adds_seeds(cells_before, plan.cells) and table.exists():
        interim_looks = [*interim_looks, len(at_equal_steps(read_results(table)))]
    named = {init.name: init.weights for init in plan.inits}
    with run.writing(), others_wait():
        rows, skipped = (unlabeled.rows, unlabeled.skipped) if unlabeled else ((), None)
        images.write(run.path, images.listed(images.split.train, unlabeled=rows), skipped)
        run.write_facts(
            **images.source.classes.facts,
            inits=named,
            pretraining=trace_pretraining(named),
            planned=len(plan.cells),
            interim_looks=interim_looks,
            split=images.counts,
        )
    for name, teacher in teachers_left_out(named):
        log.info(
            "%s learned from the features of %s: fine-tune that too, as one of --inits or, if it has another encoder, "
            "in a comparison of its own", name, teacher,
        )  # fmt: skip
    if len(plan.inits) > 1:
        log.info("%s", plan_sentence({plan.label_counts[cell.labels]: cell.seed + 1 for cell in plan.cells}))
    return run


def train_for_equal_steps(config: CompareConfig, run: Run, plan: Plan, cached: CachedImages) -> None:
    """Fine-tune every run for the same number of epochs, and append its figures to results.csv.

    Raises:
        UserError: A run was lengthened, and its figures at equal steps are gone.
    """
    for order, cell in enumerate(plan.cells, start=1):
        if from_first(partial(keeps_equal_steps, run, cell, config.epochs)):
            continue
        folder = run.path / cell.folder
        if not (config.resume and is_finished(folder)):
            finetune_cell(config, run, cell, f"run {order} of {len(plan.cells)}", config.epochs, cached)
        if first_process():  # of several processes the first one writes
            append_row(run, cell, plan, config.epochs, EQUAL_STEPS)


def keeps_equal_steps(run: Run, cell: Cell, epochs: int) -> bool:
    """Test for a run that is lengthened already: results.csv has its figures at equal steps, its folder no longer.

    Raises:
        UserError: results.csv does not have them.
    """
    folder, table = run.path / cell.folder, run.path / RESULTS
    if planned_epochs(folder) <= epochs:
        return False
    rows = read_results(table) if table.exists() else []
    if not any(row.run == cell.folder for row in at_equal_steps(rows)):
        raise UserError(
            f"{folder} was trained for more than {epochs} epochs, and {table} does not have its figures after "
            f"{epochs}: remove that folder and continue with --resume"
        )
    return True


def train_out(config: CompareConfig, run: Run, plan: Plan, cached: CachedImages) -> None:
    """Lengthen every run until it converges, and append its figures to results.csv.

    All runs are at equal steps before the first is lengthened, so that their table is complete early.
    """
    for order, cell in enumerate(plan.cells, start=1):
        folder = run.path / cell.folder
        while epochs := from_first(partial(next_length, folder, config)):
            if first_process() and planned_epochs(folder) == config.epochs:
                with run.writing():
                    keep_validation(folder)
            place = f"run {order} of {len(plan.cells)}, lengthened to {epochs} epochs"
            finetune_cell(config, run, cell, place, epochs, cached)
        if first_process():
            epochs = planned_epochs(folder)
            stage = TRAINED_OUT if has_converged(validation_ious(folder, epochs)) else STILL_RISING
            append_row(run, cell, plan, epochs, stage)


def next_length(folder: Path, config: CompareConfig) -> int:
    """Number of epochs up to which a run is to be trained next; 0 where it has converged or reached the limit.

    At least one doubling is made: the second half of a run that was not lengthened is no doubling, as its first half
    ended with a high learning rate.
    """
    epochs = planned_epochs(folder)
    if not is_finished(folder):  # interrupted
        return epochs
    if epochs >= config.longest or (epochs > config.epochs and has_converged(validation_ious(folder, epochs))):
        return 0
    return min(2 * epochs, config.longest)


def finetune_cell(config: CompareConfig, run: Run, cell: Cell, place: str, epochs: int, cached: CachedImages) -> None:
    """Fine-tune one run, or continue it if it has begun.

    Args:
        config: Options of the comparison, as they were settled.
        run: Folder of the comparison.
        cell: Weights, labels and seed of the run.
        place: Number of the run among the others, in words.
        epochs: Number of epochs, those before included.
        cached: Decoded images of the comparison.
    """
    folder = run.path / cell.folder
    log.info("%s: %s, labels %s, seed %d", place, cell.init.name, cell.labels, cell.seed)
    own = config.finetune(
        out=str(folder),
        weights=cell.init.weights,
        transfer=cell.init.transfer,
        labels=cell.labels,
        seed=cell.seed,
        epochs=epochs,
        resume=config.resume or epochs > config.epochs,
        download=False,
        overwrite=False,
        **unlabeled_options(config, cell.init),
    )
    run_finetuning(own, cached)


def append_row(run: Run, cell: Cell, plan: Plan, epochs: int, stage: Stage) -> None:
    """Append the figures of a finished run to results.csv."""
    figures, facts = read_finished(run.path / cell.folder)
    measured: dict[str, Any] = {
        name: math.nan if value is None else value for name, value in figures.items() if name in RESULT_COLUMNS
    }
    if None in figures.values():
        log.warning("%s has no figures, as no pixel of its labels counts: it enters no mean", cell.folder)
    try:
        row = ResultRow(
            init=cell.init.name,
            labels=cell.labels,
            label_count=plan.label_counts[cell.labels],
            seed=cell.seed,
            stage=stage,
            epochs=epochs,
            steps=integer(facts, "steps", MOST_STEPS),
            seconds=number(facts, "seconds"),
            run=cell.folder,
            **measured,
        )
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{run.path / cell.folder} is finished, but its figures are not complete ({error}): remove that folder and "
            "continue with --resume"
        ) from error
    with run.writing():
        append_result(run.path / RESULTS, row)
