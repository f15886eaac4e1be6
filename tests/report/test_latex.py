import shutil
from subprocess import run

import pytest

from efficientconv.report.latex import as_latex, escaped

DOCUMENT = r"\documentclass{article}\usepackage{booktabs}\begin{document}%s\end{document}"


def test_a_table_to_paste(sweep):
    lines = as_latex(sweep.report()).splitlines()
    table = lines[lines.index(r"\begin{tabular}{llrrrrrrrr}") :]
    assert table[1] == r"  \toprule"
    assert table[2].startswith(r"  model & conv & top-1, \% & n & vs standard & 95\% interval & $p$ & ")
    assert table[4].startswith(r"  resnet20 & standard & \textbf{91.00 $\pm$ 1.00} & 3 & baseline &  &  & 0.272")
    assert table[5].startswith(r"  resnet20 & bsconv\_u & \underline{89.00 $\pm$ 1.00} & 3 & $-$2.00 & {[}$-$4.48")
    assert table[6] == r"  \midrule"
    assert table[-2:] == [r"  \bottomrule", r"\end{tabular}"]
    assert lines[0] == "% top-1 accuracy after the last epoch, on test images (mean ± standard deviation over n seeds)."


def test_a_row_that_begins_with_a_bracket_is_not_taken_for_an_argument(runs):
    """Behind ``\\\\`` TeX reads ``[`` as the beginning of a length."""
    for sizes in ("[3]", "[5]"):
        runs.add("conv=bsconv_u", f"conv.where.kernel_sizes={sizes}")
    body = [line for line in as_latex(runs.report()).splitlines() if line.startswith("  ") and "3" in line]
    assert not any(line.strip().startswith("[") for line in body)


def test_every_special_letter_is_escaped():
    assert escaped(r"a_b&c%d$e#f{g}h~i^j\k") == (
        r"a\_b\&c\%d\$e\#f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k"
    )
    assert escaped("<0.001") == "$<$0.001"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no TeX here")
def test_it_compiles(sweep, runs, tmp_path):
    runs.add("conv=bsconv_u", "conv.where.kernel_sizes=[3]", "conv.where.exclude=[a_b*]")
    (tmp_path / "report.tex").write_text(DOCUMENT % as_latex(sweep.report()))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    done = run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "report.pdf").stat().st_size > 10_000
