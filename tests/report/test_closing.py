"""What ends a sweep: a report where there is something to compare."""

from efficientconv.report.closing import print_report


def test_a_sweep_of_several_configurations_ends_with_its_report(sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    print_report(sweep.root)
    told = capsys.readouterr().out
    assert "bsconv_u" in told
    assert "±" in told
    assert told.splitlines()[-1] == "efficientconv report sweep format=html"


def test_seeds_alone_and_nothing_finished_print_nothing(runs, capsys):
    print_report(runs.root.parent)
    runs.add_seeds("conv=standard", top1=(0.9, 0.91))
    print_report(runs.root)
    assert capsys.readouterr().out == ""
