"""A model's life: deployed, waited for, invoked, deleted."""


def test_a_deployed_model_answers_and_a_deleted_one_is_gone(api, model):
    name = model([2, 3], 1)
    assert api.call("POST", f"/models/{name}/predict", {"inputs": [1, 2]}) == (200, {"output": 9})
    assert api.call("DELETE", f"/models/{name}") == (200, {"name": name, "gone": True})
    assert api.call("GET", f"/models/{name}") == (404, {"error": f"there is no model {name}"})
    assert api.call("POST", f"/models/{name}/predict", {"inputs": [1, 2]})[0] == 502


def test_models_are_apart(api, model):
    first, second = model([1], 0), model([10], 5)
    assert api.call("POST", f"/models/{first}/predict", {"inputs": [4]}) == (200, {"output": 4})
    assert api.call("POST", f"/models/{second}/predict", {"inputs": [4]}) == (200, {"output": 45})


def test_what_the_model_refuses_reaches_the_caller(api, model):
    name = model([1, 1], 0)
    status, answer = api.call("POST", f"/models/{name}/predict", {"inputs": [1]})
    assert status == 502
    assert "2 numbers expected" in answer["error"]


def test_a_model_that_was_never_deployed(api):
    assert api.call("GET", "/models/nobody") == (404, {"error": "there is no model nobody"})
    assert api.call("DELETE", "/models/nobody")[0] == 404
    assert api.call("POST", "/models/nobody/predict", {"inputs": [1]})[0] == 502


def test_without_a_valid_key_nothing_is_told(stranger):
    assert stranger.call("GET", "/models/nobody")[0] == 401
    assert stranger.call("POST", "/jobs", {"model": "nobody", "inputs": [1]})[0] == 401
