"""langchain-openai by the ChatModelIntegrationTests of langchain-tests, and an abandoned stream."""

import os
import sys
from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

from scripts.benchmarks.clients.child import HELLO, KEY, MODEL, SLOW, URL, begin, run, tell


class TestEndpoint(ChatModelIntegrationTests):  # type: ignore[misc]
    """What LangChain asks of every chat model."""

    @property
    def chat_model_class(self) -> Any:
        """The class under test."""
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """Where the endpoint is."""
        where = {"base_url": f"{URL}/v1", "api_key": KEY, "max_retries": 0}
        return {"model": MODEL, "stream_usage": True, **where}  # asked of OpenAI's own address only

    @property
    def supports_json_mode(self) -> bool:
        """`response_format: json_object`."""
        return True

    @property
    def has_tool_choice(self) -> bool:
        """`tool_choice` by name and `required`."""
        return True


class Telling:
    """Tells each test's result to the parent."""

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: Any) -> None:
        """A test has ended, or could not begin."""
        name = report.nodeid.rpartition("::")[2]
        if report.failed:
            lines = str(report.longrepr).strip().splitlines()
            tell(name, lines[-1] if lines else "failed")
            print(report.longrepr, file=sys.stderr)
        elif report.when == "call" and report.passed:
            tell(name)


def abandoned() -> None:
    """Left after a few pieces."""
    pieces = ChatOpenAI(model=SLOW, base_url=f"{URL}/v1", api_key=KEY, max_retries=0).stream(HELLO)
    begin(pieces)
    pieces.close()


if __name__ == "__main__":
    options = ["asyncio_mode=auto", "asyncio_default_test_loop_scope=session", "python_files=*.py"]
    words = [word for option in options for word in ("-o", option)]
    pytest.main(
        [__file__, "-p", "no:cacheprovider", "-p", "no:terminal", "-c", os.devnull, *words],
        plugins=[Telling()],
    )
    run(abandoned)
