"""Makes a user account, or gives the one that is there this password."""

import os

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Makes a user account. The password is read from ACCOUNT_PASSWORD."

    def add_arguments(self, parser):
        parser.add_argument("--user", required=True)

    def handle(self, *, user, **_options):
        account, created = get_user_model().objects.get_or_create(username=user)
        account.set_password(os.environ["ACCOUNT_PASSWORD"])
        account.save()
        self.stdout.write(f"{user} is {'created' if created else 'updated'}")
