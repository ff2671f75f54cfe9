"""Takes jobs from the database until it is stopped. Any number of workers share the queue."""

import signal
import socket
from pathlib import Path

from django.core.management.base import BaseCommand
from django.db import connection, transaction

from serving.invoke import ModelError, invoke
from serving.models import Job


class Command(BaseCommand):
    help = "Takes jobs from the database."

    def add_arguments(self, parser):
        parser.add_argument("--ready-file", type=Path, help="made once jobs are listened for")

    def handle(self, *, ready_file, **_options):
        signal.signal(signal.SIGTERM, lambda *_: exit())
        with connection.cursor() as cursor:
            cursor.execute("LISTEN job_queued")
        if ready_file:
            ready_file.touch()
        while True:
            while self.work():
                pass
            for _ in connection.connection.notifies(stop_after=1):
                pass

    def work(self):
        """One job; `False` if there is none. A worker that dies in the middle leaves its job to the next."""
        with transaction.atomic(), connection.cursor() as cursor:
            waiting = Job.objects.select_for_update(skip_locked=True).filter(state=Job.State.QUEUED)
            job = waiting.order_by("id").first()
            if job is None:
                return False
            try:
                job.result, job.state = invoke(job.model, job.inputs), Job.State.DONE
            except ModelError as error:
                job.result, job.state = {"error": str(error)}, Job.State.FAILED
            job.worker = socket.gethostname()
            job.save()
            cursor.execute("SELECT pg_notify('job_done', %s)", [str(job.id)])
        self.stdout.write(f"job {job.id}: {job.state}")
        return True
