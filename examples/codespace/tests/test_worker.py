"""Jobs go through the database to the worker, from there to a model, and back."""


def queue(api, model, inputs):
    status, answer = api.call("POST", "/jobs", {"model": model, "inputs": inputs})
    assert status == 202, answer
    return answer["id"]


def done(api, number):
    status, answer = api.call("GET", f"/jobs/{number}?wait=60")
    assert status == 200, answer
    return answer


def test_a_job_is_done_by_the_worker(api, model):
    name = model([2], 0)
    answer = done(api, queue(api, name, [21]))
    assert (answer["state"], answer["result"]) == ("done", {"output": 42})
    assert answer["worker"].startswith("worker-")


def test_each_of_many_jobs_is_done_once(api, model):
    name = model([1], 100)
    numbers = [queue(api, name, [value]) for value in range(20)]
    assert [done(api, number)["result"]["output"] for number in numbers] == list(range(100, 120))


def test_a_job_for_a_model_that_is_not_there_fails(api):
    answer = done(api, queue(api, "nobody", [1]))
    assert answer["state"] == "failed"
    assert "nobody cannot be reached" in answer["result"]["error"]


def test_a_job_that_was_never_queued(api):
    assert api.call("GET", "/jobs/999999")[0] == 404
