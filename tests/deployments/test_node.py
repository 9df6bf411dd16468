"""Beyond loopback Ray has to ask for its token, or nothing starts."""

import pytest

from deployments.node import require_authentication


@pytest.mark.parametrize(
    ("address", "environ"),
    [
        ("127.0.0.1", {}),
        ("127.0.0.2", {"RAY_AUTH_MODE": "disabled"}),
        ("::1", {}),
        ("10.0.0.7", {"RAY_AUTH_MODE": "token"}),
    ],
)
def test_loopback_and_a_token_are_let_through(address: str, environ: dict[str, str]) -> None:
    require_authentication(address, environ)


@pytest.mark.parametrize("environ", [{}, {"RAY_AUTH_MODE": "disabled"}])
@pytest.mark.parametrize("address", ["10.0.0.7", "fd00::7"])
def test_without_a_token_a_node_that_others_reach_is_refused(address: str, environ: dict[str, str]) -> None:
    with pytest.raises(RuntimeError, match=f"Ray runs on '{address}' without its token"):
        require_authentication(address, environ)
