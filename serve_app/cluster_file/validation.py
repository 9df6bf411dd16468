"""Everything that can be known about a config file without a cluster."""

from pathlib import Path

from serve_app.access.prices import keys_in, unpriced_in
from serve_app.cluster_file.applications import MODEL, app_problems, apps_of
from serve_app.cluster_file.document import Document, FileError, read_document
from serve_app.cluster_file.engine_flags import flag_problems
from serve_app.cluster_file.problem import Problem
from serve_app.cluster_file.references import reference_problems
from serve_app.cluster_file.serve_part import serve_problems


def validated(path: Path, engines: bool = True, keys: Path | None = None) -> Document:
    """The file's content. Raises FileError with every problem that was found.

    With `engines` the flags of vLLM are held against vLLM's own parser, where it is installed. `keys` is a
    file of keys whose limits are to hold too.
    """
    document = read_document(path)
    problems = problems_of(document) or price_problems(document, keys)
    if not problems and engines:
        problems = flag_problems(document, apps_of(document))
    if problems:
        raise FileError(problems)
    return document


def problems_of(document: Document) -> list[Problem]:
    """What is wrong, in order of lines, each once."""
    apps = apps_of(document)
    found = [*serve_problems(document, apps), *reference_problems(document, apps)]
    for app in apps:
        found += app_problems(document, app)
    return sorted(set(found))


def price_problems(document: Document, keys: Path | None = None) -> list[Problem]:
    """Models without a price under a limit in dollars, in a file whose parts are valid."""
    try:
        known = keys_in(keys) if keys is not None else ()
    except (OSError, ValueError) as error:
        return [Problem(0, "", f"the keys' limits cannot be read: {error}")]
    apps = {str(app.args.get("id")): app for app in apps_of(document) if app.builder == MODEL}
    return [
        document.problem(apps[model].settings("Model")[0], sentence)
        for model, sentence in unpriced_in(document.values, known)
    ]
