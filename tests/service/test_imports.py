"""What the serving side must never load."""

import subprocess
import sys

from tests.service.process import ROOT


def test_the_service_never_loads_torch_nor_the_training_side() -> None:
    code = (
        "import sys, service.run, service.__main__, vqtok.runtime.onnx;"
        "print(sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'torch', 'models', 'training', 'lightning_fabric'}))"
    )
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
