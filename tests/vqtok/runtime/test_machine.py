"""What a machine is called: alike for alike ones, and different where arithmetic may be."""

import platform
from pathlib import Path

from vqtok.runtime.machine import graphics_card, processor, runtime_text

X86 = """processor\t: 0
model name\t: Some CPU @ 2.00GHz
flags\t\t: fpu {sets} sse4_2 smep fma lm avx2 avx

processor\t: 1
model name\t: Another
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"


def at(root: Path, text: str) -> str:
    (root / "proc").mkdir(parents=True, exist_ok=True)
    (root / "proc/cpuinfo").write_text(text)
    return processor(root)


def test_the_first_core_and_what_it_computes_by(tmp_path: Path) -> None:
    system = f"{platform.system()} {platform.machine()}"
    plain = at(tmp_path, X86.format(sets=""))
    assert plain == f"{system}, Some CPU @ 2.00GHz, avx avx2 fma sse4_2"
    assert at(tmp_path, X86.format(sets="avx512f")) != plain
    assert at(tmp_path, X86.format(sets="constant_tsc")) == plain
    assert at(tmp_path, ARM) == f"{system}, 0x41 0xd40, asimd bf16"


def test_a_system_that_says_nothing_has_a_name_all_the_same(tmp_path: Path) -> None:
    assert processor(tmp_path / "nowhere").startswith(f"{platform.system()} {platform.machine()}, ")
    assert graphics_card().startswith(f"{platform.system()} ")


def test_the_text_says_version_provider_rows_and_device() -> None:
    assert runtime_text("1.31.0", "CPUExecutionProvider", 1, "Linux, a CPU") == (
        "onnxruntime 1.31.0, CPUExecutionProvider by 1, Linux, a CPU"
    )
