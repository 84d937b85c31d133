"""The command ``encoders``."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maeseg.models.encoder_support import Support


def encoders(
    *, names: str = "*", family: str | None = None, out: str | None = None, overwrite: bool = False
) -> "list[Support]":
    """List timm's encoders: those that run on visible patches alone, and the reason why each of the others does not.

    Each is tried for real, without computing: all of them take some minutes, a family takes seconds.

    Args:
        names: Wildcard for the names of models, such as ``convnext*``.
        family: Wildcard for timm's families, such as ``efficientnet``.
        out: Markdown file to write: a table with the smallest member of each family, and totals.
        overwrite: Write the file even if it exists.

    Returns:
        Support of each model.

    Raises:
        UserError: No model has such a name, or the file exists.
    """
    from pathlib import Path

    from maeseg.errors import UserError, reason
    from maeseg.models.encoder_support import check_encoder, find_encoders, markdown
    from maeseg.prediction.output_files import check_new_file
    from maeseg.utils.atomic_io import WriteError, write_text
    from maeseg.utils.progress import show_progress

    if out:
        check_new_file(Path(out), overwrite)
    found = find_encoders(names, family)
    checked = [check_encoder(name, module) for name, module in show_progress(found, "trying encoders")]
    if out:
        command = "maeseg encoders" + (f" --names '{names}'" if names != "*" else "")
        command += f" --family '{family}'" if family else ""
        title = f"# Encoders\n\nMade by `{command} --out FILE`; each model was tried, none is assumed.\n\n"
        try:
            write_text(Path(out), title + markdown(checked))
        except WriteError as error:
            raise UserError(f"--out {out} cannot be written ({reason(error)}): give another file") from error
    return checked
