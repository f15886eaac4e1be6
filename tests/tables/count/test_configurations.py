import pytest
from hydra.errors import HydraException

from efficientconv.errors import UserError
from efficientconv.tables.count.configurations import composed_data, composed_network, composed_training


def test_network_is_the_table_s_and_the_row_s(small):
    network = composed_network(small, small.row("doconv"))
    assert network["model"]["_target_"].endswith("lenet_doconv_sample")
    assert network["conv"]["layer"]["_target_"] == "efficientconv.layers.DOConv2d"
    assert composed_network(small, small.row("plain"))["conv"]["layer"] is None


def test_training_is_the_table_s(small):
    training = composed_training(small)
    choices = {"data": "digits", "recipe": "doconv_sample", "trainer": "default", "callbacks": "default"}
    assert training["choices"] == choices
    assert (training["trainer"]["max_epochs"], training["data"]["batch_size"]) == (2, 32)


def test_training_with_further_overrides(small):
    training = composed_training(small, ["data=mnist", "trainer.max_epochs=7", "seed=3"])
    assert (training["choices"]["data"], training["choices"]["recipe"]) == ("mnist", "doconv_sample")
    assert (training["trainer"]["max_epochs"], training["data"]["seed"]) == (7, 3)


def test_data_alone(small):
    overrides = ["data=mnist", "model=lenet_doconv_sample", "model.in_channels=1", "recipe=doconv_sample"]
    data = composed_data(overrides)
    assert (data["channels"], data["batch_size"]) == (1, 32)
    with pytest.raises(HydraException):
        composed_data(["data.root=a,b"])


def test_a_row_that_does_not_compose_is_named_with_its_file(write):
    table = write(rows=[{"row": "typo", "overrides": ["conv=docomv"]}])
    message = (
        r"paper/small\.yaml: row 'typo': \[.*'conv=docomv'\] does not compose: conv=docomv: there is no such conv; "
    )
    with pytest.raises(UserError, match=message + "nearest first: doconv"):
        composed_network(table, table.rows[0])
    table = write(rows=[{"row": "typo", "overrides": ["conv=doconv", "conv.layer.dmul=9"]}])
    with pytest.raises(UserError, match=r"row 'typo': .* does not compose: conv\.layer\.dmul: there is no such key"):
        composed_network(table, table.rows[0])


def test_training_that_does_not_compose_is_named_with_its_file(write):
    table = write(overrides=["data=digit"])
    with pytest.raises(
        UserError, match=r"small\.yaml: overrides: \['data=digit'\] does not compose: data=digit: there is"
    ):
        composed_training(table)
