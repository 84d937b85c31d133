"""Command line: ``maeseg COMMAND --option value``; the parameters of the commands are its options."""

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
from typing import TYPE_CHECKING, Any

import maeseg
from maeseg.commands.printing import print_result
from maeseg.commands.registry import COMMANDS
from maeseg.errors import Terminated, UserError, in_one_line, nearest
from maeseg.runs.layout import CONFIG
from maeseg.types import CUSTOM_LOSS
from maeseg.utils.parsing import add_options, check_values, make_option_parser, one_line, options_of, typed_options
from maeseg.utils.plain_yaml import read_yaml

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

EXIT_USER_ERROR, EXIT_INTERRUPTED, EXIT_TERMINATED = 2, 130, 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Words after the program's name; those of the process if None.

    Returns:
        Exit code: 0, 2 for an error that the user can correct (one line on standard error names it), 130 for Ctrl-C,
        143 for SIGTERM.
    """
    options: dict[str, Any] = {}
    print_anything()
    reports = os.environ.get("LOCAL_RANK", "0") == "0"  # one of several processes
    # One line for errors of the user; any other exception is a bug and keeps its traceback.
    try:
        with terminable():
            command, options = parse(list(sys.argv[1:] if argv is None else argv))
            logging.basicConfig(format="%(message)s", stream=sys.stderr)
            # Of other libraries, warnings alone.
            logging.getLogger("maeseg").setLevel(logging.INFO if reports else logging.WARNING)
            logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # the reader of the file reports what matters
            tune_allocator()
            result = COMMANDS[command](**options)
            if reports:
                print_result(command, options, result)
    except UserError as error:
        line = in_one_line(error)  # a file's name may have several
        print(f"maeseg: {line}", file=sys.stderr)
        return EXIT_USER_ERROR
    except (KeyboardInterrupt, Terminated) as error:
        print(f"maeseg: stopped{'; go on with --resume' if 'resume' in options else ''}", file=sys.stderr)
        return EXIT_TERMINATED if isinstance(error, Terminated) else EXIT_INTERRUPTED
    return 0


def print_anything() -> None:
    """Make standard streams escape characters that the terminal's encoding lacks, such as bytes that are not UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM end the command by an exception, as Ctrl-C does; training saves its state first."""

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
    """Parse words into a command and its options.

    Raises:
        UserError: A command or option does not exist, is missing, or has a value of the wrong kind.
        SystemExit: Help or the version was printed.
    """
    from jsonargparse import ArgumentError

    given = argv[0] if argv else "--help"
    if not given.startswith("-") and given not in COMMANDS:
        raise UserError(f"{given!r} is not a command{nearest(given, COMMANDS)} (all of them: maeseg --help)")
    parser = make_parser(given, version() if "--version" in argv else "")
    own_words = normalize(COMMANDS[given], argv[1:]) if given in COMMANDS else []
    words = [given, *resumed_config(given, own_words), *own_words]
    try:
        found = parser.parse_args(words)
    except ArgumentError as error:
        raise UserError(one_line(error, COMMANDS[given])) from error
    except (RecursionError, ValueError, TypeError, KeyError, AttributeError) as error:  # of a --config that is no text
        raise UserError(
            f"--config is not a YAML file of options, such as a run's config.yaml: {str(error) or error!r}"
        ) from error
    options = found.as_dict()[given]
    options.pop("config", None)
    check_values(COMMANDS[given], options)
    return given, options


def make_parser(given: str, version: str) -> "ArgumentParser":
    """Build the parser of the command line: every command, and the options of the given one."""
    parser = make_option_parser(prog="maeseg", description=maeseg.__doc__, version=version)
    commands = parser.add_subcommands(required=True, title="commands", dest="command")
    for name, function in COMMANDS.items():
        summary = (inspect.getdoc(function) or "").splitlines()[0]
        own = make_option_parser(description=summary)
        if name == given:
            add_options(own, function)
            own.add_argument("--config", action="config", help="YAML file of options, such as a run's config.yaml.")
        commands.add_subcommand(name, own, help=summary)
    return parser


def normalize(function: Callable[..., Any], words: Sequence[str]) -> list[str]:
    """Check option names, take dashes for underscores, and let a switch stand alone: ``--resume``.

    Raises:
        UserError: An option does not exist; the message names the nearest that does.
    """
    parameters = options_of(function)
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


def resumed_config(command: str, words: Sequence[str]) -> list[str]:
    """Words that read the options of a resumed run, so that ``--out RUN --resume`` is enough.

    Options that are given as well take precedence; the run refuses those that must not differ.

    Raises:
        UserError: The run has a custom loss.
    """
    values = dict(itertools.pairwise(words)) | dict(word.split("=", 1) for word in words if "=" in word)
    config = Path(values.get("--out", "")) / CONFIG
    if values.get("--resume") != "true" or "--out" not in values or "--config" in values or not config.is_file():
        return []
    try:
        options = read_yaml(config.read_text(encoding="utf-8"))
        custom = custom_loss(options)
        typed_options(COMMANDS[command], {**options, "loss": "dice"} if custom else options)
    except (OSError, ValueError, TypeError, UserError):
        return []  # damaged, or of another command: the error comes from the run itself
    if custom:
        raise UserError(
            f"--resume: {config.parent} was trained with the custom loss {custom}, which only Python can pass: "
            f"resume it with maeseg.{command}(..., loss={custom}, resume=True)"
        )
    return ["--config", str(config)]


def custom_loss(options: Any) -> str:
    """Name of the custom loss in the content of a config.yaml; empty without one."""
    loss = options.get("loss") if isinstance(options, dict) else None
    return loss.removeprefix(CUSTOM_LOSS) if isinstance(loss, str) and loss.startswith(CUSTOM_LOSS) else ""


def version() -> str:
    """Installed version."""
    from maeseg.utils.system import version_of

    return version_of("maeseg")


def tune_allocator() -> None:
    """Keep large blocks inside glibc's heap instead of returning each to the system.

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
