"""The README's example of a new convolution, as it stands there, in an empty directory."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_example_of_a_new_convolution_trains(tmp_path):
    files = re.findall(r"`([\w./]+\.(?:py|yaml))`:\n\n```\w+\n(.*?)```", README, flags=re.DOTALL)
    assert [name for name, _ in files] == ["separable.py", "conf/conv/separable.yaml"]
    assert sum(text.count("\n") for _, text in files) < 30
    for name, text in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    line = re.search(r"^python train\.py (.*conv=separable.*)$", README, flags=re.MULTILINE)[1]
    words = [*line.split(), "data.train_fraction=0.05", "recipe.batch_size=16", "trainer.accelerator=cpu"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "SeparableConv2d" in done.stdout


def test_every_model_conv_and_data_set_is_listed():
    for group in ("conv", "data"):
        for file in (ROOT / "configs" / group).glob("*.yaml"):
            assert f"`{file.stem}" in README, f"{group}={file.stem} is not in the README"
