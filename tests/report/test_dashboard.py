"""A sweep's dashboard: what W&B's own library makes of it, and what happens without W&B."""

import json

import pytest

from efficientconv.errors import UserError
from efficientconv.report import dashboard
from tests.report.conftest import Runs

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")  # of W&B's own library

WANDB = ("logger=wandb", "logger.wandb.entity=me")


def config(root, **settings):
    given = {"sweep": "first", "outputs": str(root), "project": None, "entity": None, "offline": True}
    return given | settings


@pytest.fixture
def outputs(tmp_path):
    runs = Runs(tmp_path / "sweeps" / "first")
    for seed in (0, 1):
        runs.add("conv=standard", f"seed={seed}", *WANDB)
        runs.add("conv=bsconv_u", "recipe.optimizer.lr=0.1", f"seed={seed}", *WANDB)
    return tmp_path


def panels(view):
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    return [panel for section in sections for panel in section["panels"]]


def test_without_a_connection_it_is_a_file(outputs, capsys):
    dashboard.run(config(outputs))
    file = outputs / "sweeps/first/dashboard.json"
    assert capsys.readouterr().out == f"{file}\nthe same line saves it in W&B once there is a connection\n"
    view = json.loads(file.read_text())
    assert (view["entity"], view["project"], view["displayName"]) == ("me", "efficientconv", "sweep first")
    costs, more, curves, _, parallel, _ = (panel["config"] for panel in panels(view))
    assert [(each["xAxis"], each["yAxis"]) for each in (costs, more)] == [
        ("summary:macs", "summary:best/top1"),
        ("summary:params", "summary:best/top1"),
    ]
    assert (curves["metrics"], curves["groupBy"]) == (["val/top1"], "choices.value.conv")
    axes = [column["accessor"] for column in parallel["columns"]]
    assert axes[0] == "config:choices.value.conv"
    assert {"config:recipe.value.optimizer.lr", "config:seed.value", "summary:macs", "summary:best/top1"} <= set(axes)
    (runset,) = view["spec"]["section"]["runSets"]
    assert runset["filters"]["filters"][0] | {"op": "="} == runset["filters"]["filters"][0]
    assert runset["filters"]["filters"][0]["value"] == "first"
    assert "summary:best/top1" in runset["runFeed"]["columnOrder"]


def test_a_sweep_may_be_given_as_its_directory(outputs):
    dashboard.run(config("elsewhere", sweep=str(outputs / "sweeps/first")))
    assert json.loads((outputs / "sweeps/first/dashboard.json").read_text())["displayName"] == "sweep first"


def test_where_wandb_refuses_it_is_a_file_too(outputs, monkeypatch, caplog):
    from wandb_workspaces.workspaces import Workspace

    def refuse(self):
        raise ConnectionError("nobody there\nat all")

    monkeypatch.setattr(Workspace, "save", refuse)
    dashboard.run(config(outputs, offline=False))
    assert "W&B: nobody there" in caplog.text
    assert (outputs / "sweeps/first/dashboard.json").is_file()


def test_where_wandb_takes_it_its_address_is_printed(outputs, monkeypatch, capsys):
    from wandb_workspaces.workspaces import Workspace

    saved = []
    monkeypatch.setattr(Workspace, "save", lambda self: saved.append(self))
    monkeypatch.setattr(Workspace, "url", "https://wandb.example/me/theirs?nw=1")
    dashboard.run(config(outputs, offline=False, project="theirs"))
    assert capsys.readouterr().out == "https://wandb.example/me/theirs?nw=1\n"
    assert [workspace.project for workspace in saved] == ["theirs"]
    assert not (outputs / "sweeps/first/dashboard.json").exists()


def test_bad_input_is_one_line(outputs, monkeypatch):
    with pytest.raises(UserError, match=r"sweep=frist: there is no such sweep in .*; nearest first: first"):
        dashboard.run(config(outputs, sweep="frist"))
    Runs(outputs / "sweeps" / "plain").add("conv=standard")
    with pytest.raises(UserError, match=r"plain: no run has logger=wandb; with it, W&B has something to show"):
        dashboard.run(config(outputs, sweep="plain"))
    monkeypatch.setattr(dashboard, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'wandb-workspaces is missing; pip install "efficientconv\[dashboard\]"'):
        dashboard.run(config(outputs))
