"""Command line: ``maeseg COMMAND --option value``; the parameters of the commands are its options."""

import contextlib
import inspect
import itertools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import maeseg
from maeseg.commands.printing import print_result
from maeseg.commands.registry import COMMANDS
from maeseg.config import CONFIGS
from maeseg.errors import Terminated, UserError, in_one_line, nearest
from maeseg.runs.layout import CONFIG
from maeseg.types import CUSTOM_LOSS
from maeseg.utils.failures import failure_line
from maeseg.utils.parsing import add_options, check_values, make_option_parser, one_line, options_of, typed_options
from maeseg.utils.plain_yaml import read_yaml
from maeseg.utils.regular_files import NotRegularError, check_regular, read_text
from maeseg.utils.streams import (
    LineFormatter,
    OutputClosed,
    prepare_streams,
    print_line,
    printing,
    warnings_in_one_line,
)

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

EXIT_USER_ERROR, EXIT_INTERRUPTED, EXIT_TERMINATED = 2, 130, 143
AGAIN_SECONDS = 0.05


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Words after the program's name; those of the process if None.

    Returns:
        Exit code: 0, 2 for an error that the user can correct, and for one of memory, a disk or a path (one line on
        standard error names it), 130 for Ctrl-C, 143 for SIGTERM, 141 if the reader of the output has ended.
    """
    options: dict[str, Any] = {}
    prepare_streams()
    try:
        with warnings_in_one_line(), terminable():
            command, options = parse(list(sys.argv[1:] if argv is None else argv))
            run(command, options)
    except UserError as error:
        print_line(f"maeseg: {error}")
        return EXIT_USER_ERROR
    except OutputClosed as error:
        return int(str(error))
    except (KeyboardInterrupt, Terminated) as error:
        print_line(f"maeseg: stopped{'; go on with --resume' if 'resume' in options else ''}")
        return EXIT_TERMINATED if isinstance(error, Terminated) else EXIT_INTERRUPTED
    except Exception as error:  # a failure of the machine is one line; any other is a bug and keeps its traceback
        if not (line := failure_line(error, options)):
            raise
        print_line(f"maeseg: {line}")
        return EXIT_USER_ERROR
    return 0


def run(command: str, options: Mapping[str, Any]) -> None:
    """Run a command and print its result."""
    reports = os.environ.get("LOCAL_RANK", "0") == "0"  # one of several processes
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(handlers=[handler])
    # Of other libraries, warnings alone.
    logging.getLogger("maeseg").setLevel(logging.INFO if reports else logging.WARNING)
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # the reader of the file reports what matters
    tune_allocator()
    result = COMMANDS[command](**options)
    if reports:
        with printing():
            print_result(command, options, result)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM end the command by an exception, as Ctrl-C does; training saves its state first.

    Python drops an exception that a signal raises inside a destructor or a callback; then it is raised again.

    Raises:
        Terminated: SIGTERM was received, even if the command came to its end all the same.
    """
    asked = False

    def end(signum: int, frame: object) -> None:
        nonlocal asked
        asked = True
        raise Terminated

    def raise_again(dropped: "sys.UnraisableHookArgs") -> None:
        if isinstance(dropped.exc_value, Terminated) and hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, end)
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        else:
            hook(dropped)

    if threading.current_thread() is not threading.main_thread():  # where Python allows no handler
        yield
        return
    before, hook = signal.signal(signal.SIGTERM, end), sys.unraisablehook
    sys.unraisablehook = raise_again
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        sys.unraisablehook = hook
    if asked:
        raise Terminated


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
    check_config(own_words)
    words = [given, *resumed_config(given, own_words), *own_words]
    try:
        with printing():  # help and the version
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


def values_of(words: Sequence[str]) -> dict[str, str]:
    """Values of options by name, ``--out RUN`` or ``--out=RUN``, before they are parsed."""
    return dict(itertools.pairwise(words)) | dict(word.split("=", 1) for word in words if "=" in word)


def check_config(words: Sequence[str]) -> None:
    """Raise a UserError for a ``--config`` that is a pipe or device: the parser would wait for its end."""
    config = values_of(words).get("--config")
    try:
        if config is not None:
            check_regular(Path(config))
    except NotRegularError as error:
        raise UserError(f"--config {config} cannot be read: {error.strerror}; give a YAML file of options") from error
    except (OSError, ValueError):  # the parser's error says more
        return


def resumed_config(command: str, words: Sequence[str]) -> list[str]:
    """Words that read the options of a resumed run, so that ``--out RUN --resume`` is enough.

    Options that are given as well take precedence; the run refuses those that must not differ.

    Raises:
        UserError: There is no run, the run has a custom loss, or its config.yaml is damaged or of another command.
    """
    values = values_of(words)
    config = Path(values.get("--out", "")) / CONFIG
    if values.get("--resume") != "true" or "--out" not in values or "--config" in values:
        return []
    if not config.is_file():
        if command in CONFIGS and "--data" not in values:
            raise UserError(f"--resume: {config.parent} holds no run: correct --out, or give the options of a new run")
        return []
    try:
        options = read_yaml(read_text(config))
        custom = custom_loss(options)
        typed_options(COMMANDS[command], {**options, "loss": "dice"} if custom else options)
    except (OSError, ValueError, TypeError, AttributeError, UserError) as error:
        if "--data" in values:
            return []  # damaged, or of another command: the error comes from the run itself
        raise UserError(
            f"--resume: the options in {config} cannot be used ({in_one_line(error)}): restore it, or give the options "
            "of the run"
        ) from error
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
