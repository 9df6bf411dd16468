"""Who may send a body, known from the head of the request: nobody else's body is read or held."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from serve_app.http.errors import ApiError
from serve_app.http.request import Request


@dataclass(frozen=True, slots=True)
class Admitted:
    """Whose body may come, and how large it may be; 0 for as large as any."""

    caller: str
    most_bytes: int = 0


Admit = Callable[[Request], Admitted]
Shape = Callable[[str, ApiError], bytes]


class Admission:
    """The ingress says, for all of its process, who is admitted. Without an ingress everybody is."""

    def __init__(self) -> None:
        self._admit: Admit | None = None
        self._shape: Shape | None = None

    def ask(self, admit: Admit, shape: Shape | None = None) -> None:
        """From now on as this says; it raises ApiError for who is not admitted. `shape` is that of errors."""
        self._admit, self._shape = admit, shape

    def error_body(self, path: str, error: ApiError) -> bytes:
        """An error in the shape of the API that the path belongs to."""
        return error.body() if self._shape is None else self._shape(path, error)

    def admitted(self, request: Request) -> Admitted:
        """Raises ApiError (401, 403, 404, 405, 429)."""
        return Admitted("") if self._admit is None else self._admit(request)


ADMISSION: Final = Admission()  # of this process: Serve makes the HTTP server's middleware by name
