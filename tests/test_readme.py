"""What the README's examples print is what it shows. `make golden` brings it up to date."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.readme_examples import README, Example, examples, lay_out, printed_by
from tests.service.process import ServiceProcess

EXAMPLES = examples(README.read_text())


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess([]) as running:
        yield running.wait_ready()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(tmp_path_factory.mktemp("readme"))


def test_the_readme_shows_curl_the_command_line_and_python() -> None:
    commands = "".join(example.command[-1] for example in EXAMPLES)
    assert all(word in commands for word in ("curl ", "vqtok encode", "Tokenizer.connect"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"line-{example.span[0]}")
def test_an_example_prints_what_the_readme_shows(
    example: Example, service: ServiceProcess, folder: Path
) -> None:
    assert printed_by(example, service, folder) == example.shown
