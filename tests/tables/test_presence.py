from efficientconv.tables.presence import absence

MNIST = ["data=mnist", "data.download=false", "conv=doconv", "seed=0,1", "sweep=x"]


def test_data_that_is_there(tiny_mnist):
    assert absence([*MNIST, f"data.root={tiny_mnist}"]) is None
    assert absence(["data=digits"]) is None


def test_data_that_is_not_there(tmp_path):
    reason = absence([*MNIST, f"data.root={tmp_path}"])
    assert reason is not None
    assert reason.startswith(f"data=mnist: looked in {tmp_path}/MNIST/raw (missing: ")
    assert "\n" not in reason


def test_what_makes_no_single_data_set_is_left_to_training(tmp_path):
    assert absence([*MNIST, f"data.root={tmp_path},elsewhere"]) is None
    assert absence([*MNIST, f"data.root={tmp_path}", "data.val_split=2"]) is None
    assert absence([*MNIST, f"data.root={tmp_path}", "data.vall_split=0"]) is None
