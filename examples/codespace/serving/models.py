"""What is kept in the database."""

import hashlib
import secrets

from django.conf import settings
from django.db import models


class ApiKey(models.Model):
    """A user's credential; only its digest is kept."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    digest = models.CharField(max_length=64, unique=True)
    created = models.DateTimeField(auto_now_add=True)

    @classmethod
    def issue(cls, user):
        """Makes a key for `user` and returns it; it cannot be shown again."""
        key = secrets.token_urlsafe(32)
        cls.objects.create(user=user, digest=cls.digest_of(key))
        return key

    @classmethod
    def digest_of(cls, key):
        return hashlib.sha256(key.encode()).hexdigest()


class Job(models.Model):
    """A prediction that a worker makes."""

    class State(models.TextChoices):
        QUEUED = "queued"
        DONE = "done"
        FAILED = "failed"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    model = models.CharField(max_length=63)
    inputs = models.JSONField()
    state = models.CharField(max_length=16, choices=State.choices, default=State.QUEUED)
    result = models.JSONField(null=True)
    worker = models.CharField(max_length=253, blank=True)
