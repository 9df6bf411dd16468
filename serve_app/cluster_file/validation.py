"""Everything that can be known about a config file without a cluster."""

from pathlib import Path

from serve_app.cluster_file.applications import app_problems, apps_of
from serve_app.cluster_file.document import Document, FileError, read_document
from serve_app.cluster_file.engine_flags import flag_problems
from serve_app.cluster_file.problem import Problem
from serve_app.cluster_file.references import reference_problems
from serve_app.cluster_file.serve_part import serve_problems


def validated(path: Path, engines: bool = True) -> Document:
    """The file's content. Raises FileError with every problem that was found.

    With `engines` the flags of vLLM are held against vLLM's own parser, where it is installed.
    """
    document = read_document(path)
    problems = problems_of(document)
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
