"""Issues an API key: the only thing on its output."""

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

from serving.models import ApiKey


class Command(BaseCommand):
    help = "Issues an API key for a user and prints it."
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("--user", required=True)

    def handle(self, *, user, **_options):
        account = get_user_model().objects.filter(username=user).first()
        if account is None:
            raise CommandError(f"there is no user {user}")
        self.stdout.write(ApiKey.issue(account))
