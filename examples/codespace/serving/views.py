"""The HTTP API. Every call but the health check needs a key: `Authorization: Bearer KEY`."""

import functools
import json

from django.db import connection, transaction
from django.http import JsonResponse

from . import cluster
from .invoke import ModelError, invoke
from .models import ApiKey, Job

LONGEST_WAIT = 60


def problem(status, message):
    return JsonResponse({"error": message}, status=status)


def api(*methods):
    """Lets a view be called with a key and one of `methods`; its answer is JSON, and so is what it reads."""

    def wrap(view):
        @functools.wraps(view)
        def call(request, **arguments):
            if request.method not in methods:
                return problem(405, f"{request.method} is not possible here")
            key = request.headers.get("authorization", "").removeprefix("Bearer ")
            found = ApiKey.objects.select_related("user").filter(digest=ApiKey.digest_of(key)).first()
            if found is None:
                return problem(401, "a valid API key is needed")
            request.user = found.user
            try:
                request.json = json.loads(request.body or b"null")
            except ValueError:
                return problem(400, "the body is not JSON")
            return view(request, **arguments)

        return call

    return wrap


def seconds(request):
    try:
        return max(0, min(int(request.GET.get("wait", "0")), LONGEST_WAIT))
    except ValueError:
        return 0


def fields(request, *names):
    if isinstance(request.json, dict) and set(request.json) == set(names):
        return [request.json[name] for name in names]
    return None


def health(_request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM serving_apikey LIMIT 1")
    return JsonResponse({"ok": True})


@api("POST")
def models(request):
    given = fields(request, "name", "weights", "bias")
    if given is None:
        return problem(400, "name, weights and bias are needed")
    name, weights, bias = given
    cluster.deploy(name, weights, bias)
    return JsonResponse({"name": name}, status=201)


@api("GET", "DELETE")
def model(request, name):
    delete = request.method == "DELETE"
    answer = cluster.delete(name, LONGEST_WAIT) if delete else cluster.ready(name, seconds(request))
    if answer is None:
        return problem(404, f"there is no model {name}")
    return JsonResponse({"name": name, "gone" if delete else "ready": answer})


@api("POST")
def predict(request, name):
    given = fields(request, "inputs")
    if given is None:
        return problem(400, "inputs are needed")
    try:
        return JsonResponse(invoke(name, given[0]))
    except ModelError as error:
        return problem(502, str(error))


@api("POST")
def jobs(request):
    given = fields(request, "model", "inputs")
    if given is None:
        return problem(400, "model and inputs are needed")
    with transaction.atomic(), connection.cursor() as cursor:
        job = Job.objects.create(user=request.user, model=given[0], inputs=given[1])
        cursor.execute("NOTIFY job_queued")
    return JsonResponse({"id": job.id}, status=202)


@api("GET")
def job(request, number):
    with connection.cursor() as cursor:
        cursor.execute("LISTEN job_done")
    found = Job.objects.filter(user=request.user, id=number).first()
    if found is None:
        return problem(404, f"there is no job {number}")
    if found.state == Job.State.QUEUED:
        for notice in connection.connection.notifies(timeout=seconds(request)):
            if notice.payload == str(number):
                break
        found.refresh_from_db()
    return JsonResponse(
        {"id": found.id, "state": found.state, "result": found.result, "worker": found.worker}
    )
