"""Takes an API key back."""

import sys

from django.core.management.base import BaseCommand, CommandError

from serving.models import ApiKey


class Command(BaseCommand):
    help = "Takes back the API key on the standard input."
    requires_system_checks = []

    def handle(self, **_options):
        deleted, _ = ApiKey.objects.filter(digest=ApiKey.digest_of(sys.stdin.read().strip())).delete()
        if not deleted:
            raise CommandError("there is no such key")
