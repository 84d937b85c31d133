"""The command line: ``maeseg VERB --option value``; the verbs' signatures are its options."""

import contextlib
import inspect
import io
import itertools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import maeseg
from maeseg.errors import Terminated, UserError, in_one_line, nearest
from maeseg.runs.layout import CONFIG
from maeseg.utils.parsing import one_line, refuse_null, typed_options

VERBS: dict[str, Callable[..., Any]] = {
    verb.__name__: verb
    for verb in (
        maeseg.check,
        maeseg.pretrain,
        maeseg.finetune,
        maeseg.evaluate,
        maeseg.predict,
        maeseg.suggest,
        maeseg.reconstruct,
        maeseg.export,
        maeseg.app,
        maeseg.compare,
        maeseg.report,
        maeseg.recipe,
        maeseg.demo,
        maeseg.encoders,
    )
}
EXIT_USER_ERROR, EXIT_INTERRUPTED, EXIT_TERMINATED = 2, 130, 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Words after the program's name; those of the process if None.

    Returns:
        Exit code: 0, 2 for something the user can put right (one line on standard error says what), 130 for Ctrl-C, 143
        for SIGTERM.
    """
    options: dict[str, Any] = {}
    print_anything()
    speaks = os.environ.get("LOCAL_RANK", "0") == "0"  # with several devices one process does
    # Lines, not tracebacks: whatever else goes wrong is a bug, and shows itself as one.
    try:
        with terminable():
            verb, options = parse(list(sys.argv[1:] if argv is None else argv))
            logging.basicConfig(format="%(message)s", stream=sys.stderr)
            # Of other libraries, warnings alone.
            logging.getLogger("maeseg").setLevel(logging.INFO if speaks else logging.WARNING)
            logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what matters is said by who reads the file
            tune_allocator()
            result = VERBS[verb](**options)
    except UserError as error:
        line = in_one_line(error)  # a file's name may have several
        print(f"maeseg: {line}", file=sys.stderr)
        return EXIT_USER_ERROR
    except (KeyboardInterrupt, Terminated) as error:
        print(f"maeseg: stopped{'; go on with --resume' if 'resume' in options else ''}", file=sys.stderr)
        return EXIT_TERMINATED if isinstance(error, Terminated) else EXIT_INTERRUPTED
    if speaks:
        show(verb, options, result)
    if verb == "check" and result.question:
        print(f"maeseg: {result.question}", file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


def print_anything() -> None:
    """Print an escape for what the terminal's encoding lacks, such as a byte of a name that is not UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Have SIGTERM end what is going on as Ctrl-C does, by an exception; training saves its state first."""

    def end(signum: int, frame: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # where Python allows no handler
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def parse(argv: list[str]) -> tuple[str, dict[str, Any]]:
    """Words to a verb and its options.

    Raises:
        UserError: If a verb or option does not exist, is missing, or has a value of the wrong kind.
        SystemExit: After printing help or the version.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(
        prog="maeseg",
        description=maeseg.__doc__,
        exit_on_error=False,
        version=version() if "--version" in argv else "",
    )
    verbs = parser.add_subcommands(required=True, title="verbs", dest="verb")
    given = argv[0] if argv else "--help"
    if not given.startswith("-") and given not in VERBS:
        raise UserError(f"{given!r} is not a verb{nearest(given, VERBS)} (all of them: maeseg --help)")
    for name, function in VERBS.items():
        summary = (inspect.getdoc(function) or "").splitlines()[0]
        own = ArgumentParser(description=summary, exit_on_error=False)
        if name == given:
            own.add_function_arguments(function, as_group=False)
            own.add_argument("--config", action="config", help="YAML file of options, such as a run's config.yaml.")
        verbs.add_subcommand(name, own, help=summary)
    own_words = normalize(VERBS[given], argv[1:]) if given in VERBS else []
    words = [given, *resumed_config(given, own_words), *own_words]
    try:
        found = parser.parse_args(words)
    except ArgumentError as error:
        raise UserError(one_line(error, VERBS[given])) from error
    except (RecursionError, ValueError, TypeError, KeyError, AttributeError) as error:  # of a --config that is no text
        raise UserError(
            f"--config is not a YAML file of options, such as a run's config.yaml: {str(error) or error!r}"
        ) from error
    options = found.as_dict()[given]
    options.pop("config", None)
    refuse_null(VERBS[given], options)
    for name, value in options.items():
        if "\0" in str(value):
            raise UserError(f"--{name} {value!r} holds a zero character, which no file's name may have")
    return given, options


def normalize(function: Callable[..., Any], words: Sequence[str]) -> list[str]:
    """Check option names, take dashes for underscores, and let a switch stand alone: ``--resume``.

    Raises:
        UserError: Naming an option that does not exist, and the nearest that does.
    """
    parameters = inspect.signature(function).parameters
    switches = {name for name, parameter in parameters.items() if isinstance(parameter.default, bool)}
    known = {*parameters, "config", "help", "print_config"}
    result: list[str] = []
    if words and not words[0].startswith("--") and next(iter(parameters)) == "data":  # maeseg check DATA
        words = ["--data", *words]
    for number, word in enumerate(words):
        if not word.startswith("--"):
            result.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if name not in known:
            raise UserError(
                f"{function.__name__} has no option --{name}{nearest(f'--{name}', [f'--{each}' for each in known])} "
                f"(all of them: maeseg {function.__name__} --help)"
            )
        alone = not equals and (number + 1 == len(words) or words[number + 1].startswith("--"))
        result.append(f"--{name}=true" if name in switches and alone else f"--{name}{equals}{value}")
    return result


def resumed_config(verb: str, words: Sequence[str]) -> list[str]:
    """Words that read the options of the run that is resumed: ``--out RUN --resume`` then repeats them.

    Options that are given too count, and the run refuses those that may not be others.
    """
    import yaml

    values = dict(itertools.pairwise(words)) | dict(word.split("=", 1) for word in words if "=" in word)
    config = Path(values.get("--out", "")) / CONFIG
    if values.get("--resume") != "true" or "--out" not in values or "--config" in values or not config.is_file():
        return []
    try:
        typed_options(VERBS[verb], yaml.safe_load(config.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError, UserError):
        return []  # damaged, or of another verb: the run itself says what is wrong with the folder
    return ["--config", str(config)]


def version() -> str:
    """The installed version."""
    from maeseg.utils.system import version_of

    return version_of("maeseg")


def tune_allocator() -> None:
    """Keep large blocks inside glibc's heap instead of giving each back to the system.

    A training step allocates and frees the same large blocks again and again; fresh memory costs a page fault per
    4 KB, which took 15 to 35 % of a step on two cores.
    """
    if sys.platform != "linux" or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    import ctypes

    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return
    trim_threshold, mmap_threshold = -1, -3
    mallopt(mmap_threshold, 2**30)
    mallopt(trim_threshold, 2**31 - 1)


def show(verb: str, options: dict[str, Any], result: Any) -> None:
    """Print what a verb found."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if verb in ("evaluate", "finetune"):
        which = f": {result['measured']}" if "measured" in result else ""
        console.print(f"{verb} {options.get('run') or options.get('out')}{which}", soft_wrap=True, markup=False)
        table = Table()
        table.add_column("figure")
        table.add_column("value", justify="right")
        of_classes = result.get("classes", {})
        for name, value in result.items():
            if name not in ("classes", "measured"):
                table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
        for name, figures in of_classes.items():
            value = figures["iou"]
            table.add_row(f"iou of {name}", "not there" if value is None else f"{value:.4f}")
        console.print(table)
    elif verb == "check":
        table = Table(title=Text(f"check {options['data']}"), show_header=False)
        for heading, line in result.lines.items():
            table.add_row(heading, Text(line))
        console.print(table)
        for fault in result.faults:
            console.print(fault, soft_wrap=True, markup=False, highlight=False)
    elif verb == "compare":
        from maeseg.comparison.summary import print_summary

        print_summary(Path(options["out"]), console)
    elif verb == "demo":
        from maeseg.comparison.summary import print_summary

        print_summary(result.parent, console)
        console.print(f"report: {result}", soft_wrap=True)
    elif verb == "report":
        console.print(f"report: {result}", soft_wrap=True)
    elif verb == "recipe":
        for path in result:
            console.print(f"report: {path}", soft_wrap=True)
        if options["dry_run"]:
            console.print(f"{options['file']}: every step can be run")
    elif verb == "encoders":
        for each in result:
            size = f"stride {each.stride or '?'}, {(each.parameters or 0) / 1e6:.1f} M parameters"
            console.print(
                f"{each.name}: {each.refusal or 'works'} ({size})", soft_wrap=True, markup=False, highlight=False
            )
        works = sum(not each.refusal for each in result)
        console.print(f"{works} of {len(result)} work, {len(result) - works} are refused")
    elif verb == "export":
        console.print(f"written: {result['out']}, and its card {result['card']}", soft_wrap=True)
        if "largest_difference" in result:
            console.print(f"largest difference from PyTorch: {result['largest_difference']:.1e} of a probability")
    elif verb == "suggest":
        sheet = Path(options["out"]) / "contact_sheet.png"
        console.print(f"{len(result)} images to label next: {sheet}", soft_wrap=True)
    elif verb in ("predict", "reconstruct"):
        console.print(f"{result} images written to {options['out']}", soft_wrap=True)
    elif "out" in options:
        console.print(f"run folder: {options['out']}", soft_wrap=True)
