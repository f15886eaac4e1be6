import csv
import io

from rich.console import Console

from efficientconv.report.formats import as_csv, as_markdown, as_plain_text, as_rich


def test_text_names_the_options_and_parts_models(sweep):
    text = as_plain_text(sweep.report())
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines[0].split()[:3] == ["model", "·", "conv"]
    assert lines[0].endswith("vs standard    95% interval      p  params, M  MACs, M  images/s")
    assert lines[2].split()[:4] == ["resnet20", "·", "standard", "91.00"]
    assert lines[4] == ""  # between two models
    assert lines[5].split()[:3] == ["resnet32", "·", "standard"]
    assert lines[-3].startswith("top-1 accuracy after the last epoch")


def test_the_best_is_bold_on_a_terminal(sweep):
    screen = Console(width=120, force_terminal=True, file=io.StringIO(), legacy_windows=False)
    with screen.capture() as captured:
        screen.print(as_rich(sweep.report(), 120), crop=False)
    assert "\x1b[1m91.00 ± 1.00\x1b[0m" in captured.get()
    assert "\x1b[4m89.00 ± 1.00\x1b[0m" in captured.get()


def test_markdown(sweep):
    lines = as_markdown(sweep.report()).splitlines()
    assert lines[1] == "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert lines[2].startswith("| resnet20 | standard | **91.00 ± 1.00** | 3 | baseline |  |")
    assert lines[-1].startswith("- 95% interval: of each difference alone")


def test_csv_has_seven_digits(sweep):
    rows = list(csv.DictReader(io.StringIO(as_csv(sweep.report()))))
    assert len(rows) == 4
    other = rows[3]
    assert (other["model"], other["conv"], other["setting"], other["metric"]) == ("resnet32", "bsconv_u", "1", "last")
    assert (other["n"], other["seeds"], other["common_seeds"]) == ("3", "0 1 2", "3")
    assert other["difference"] == "1.333333"
    assert float(other["low"]) < 4 / 3 < float(other["high"])
    assert float(other["p_holm"]) >= float(other["p"]) > 0
    assert (other["params"], other["macs"]) == ("40720", "7250560")
    assert rows[2]["difference"] == ""
