"""Asks a model for a prediction, by the name of its service."""

import json
import urllib.error
import urllib.request

from .cluster import PORT


class ModelError(Exception):
    """The model did not answer with a prediction."""


def invoke(name, inputs):
    body = json.dumps({"inputs": inputs}).encode()
    request = urllib.request.Request(
        f"http://{name}:{PORT}/predict", data=body, headers={"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise ModelError(f"{name} answered {error.code}: {error.read().decode(errors='replace')}") from error
    except OSError as error:
        raise ModelError(f"{name} cannot be reached: {error}") from error
