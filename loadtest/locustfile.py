"""For Locust: `locust -f loadtest/locustfile.py`, or `python -m loadtest`, which starts it without its page.

Each process keeps its own counts; workers send theirs to the master, which writes the report.
"""

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import Any

import gevent
from locust import events
from locust.env import Environment
from locust.html import get_html_report
from locust.runners import (
    STATE_MISSING,
    STATE_RUNNING,
    STATE_SPAWNING,
    LocalRunner,
    MasterRunner,
    WorkerRunner,
)

from loadtest import api
from loadtest.corpus import Photo, Queue, label, read_files
from loadtest.errors import LoadTestError
from loadtest.options import add_options, plan_of
from loadtest.report_folder import new_folder
from loadtest.run_report import RunReport, progress_line
from loadtest.status import FAILED, INTERRUPTED, UNUSABLE
from loadtest.summary import Summary, summarize
from loadtest.tally import Tally
from loadtest.users import App, Camera, EdgeClient, Inspector, Load

__all__ = ["App", "Camera", "Inspector"]

PROGRESS_SECONDS = 5
_KEY = "edgewise"
_CANT_BEGIN = "edgewise-cant-begin"
_FINISH, _LAST = "edgewise-finish", "edgewise-last"
# How long workers have to send their last counts: Locust alone would give them half a second.
_LAST_SECONDS = 10

logger = logging.getLogger("loadtest")
events.init_command_line_parser.add_listener(add_options)


class Test:
    """The load test in this process: started, counted and, unless this is a worker, reported."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.tally = Tally()
        self.started = self.ended = 0.0
        self.ending = False
        # The workers at the start of the test; of these, the ones that are gone at its end, the ones that
        # have sent their last counts, and the number that have not.
        self.workers: set[str] = set()
        self.missing: set[str] = set()
        self.finished: set[str] = set()
        self.lost = 0
        self.labelled: dict[str, list[Photo]] = {}
        self.options: argparse.Namespace = environment.parsed_options  # type: ignore[assignment]
        self.is_worker = isinstance(environment.runner, WorkerRunner)

    def begin(self, environment: Environment, **_: Any) -> None:
        """Reset the counts, read the photos and ask the service for its classes."""
        self.tally.forget()
        # From its page, Locust can start another test after one that could not start.
        environment.process_exit_code = None
        self.started, self.ended = time.time(), 0.0
        self.workers, self.lost = self._workers(), 0
        if environment.host:
            # Users append their paths, which begin with a slash.
            environment.host = environment.host.rstrip("/")
        try:
            self._prepare()
        except LoadTestError as error:
            # Not raised, because Locust would log it and go on.
            if isinstance(environment.runner, WorkerRunner):
                environment.runner.send_message(_CANT_BEGIN, {"why": str(error)})
            self._give_up(str(error))

    def end_without(self, msg: Any, **_: Any) -> None:
        """End the test if a worker can't start: its share of the load would be missing unnoticed."""
        self._give_up(f"a worker can't start: {msg.data['why']}")

    def _give_up(self, why: str) -> None:
        logger.error("%s", why)
        self.tally.errors[why] += 1
        self.environment.process_exit_code = UNUSABLE
        gevent.spawn(self._quit)

    def check(self) -> None:
        """Raise what would keep the test from starting, while one line can still say so."""
        if self.environment.host:
            self._photos()
        else:
            read_files(plan_of(self.options).photos)

    def _prepare(self) -> None:
        plan = plan_of(self.options)
        photos = Queue(self._photos(), plan.passes)
        EdgeClient.load = Load(plan, photos, self.tally, finish=lambda: gevent.spawn(self._quit))

    def _photos(self) -> list[Photo]:
        """The photos with the indices of the service's classes, for which each host is asked once."""
        host = str(self.environment.host)
        if host not in self.labelled:
            plan = plan_of(self.options)
            files = read_files(plan.photos)
            first = files[0][0]
            try:
                content = first.read_bytes()
            except OSError as error:
                raise LoadTestError(f"{first} can't be read: {error.strerror}") from None
            count = api.class_count(host, plan.headers, plan.model)
            try:
                classes = api.classes(host, content, plan.headers, plan.query, count)
            except LoadTestError as error:
                raise LoadTestError(f"{error} (asked about {first})") from None
            self.labelled[host] = label(files, classes)
        return self.labelled[host]

    def _quit(self) -> None:
        if self.environment.runner:
            self.environment.runner.quit()

    def _workers(self) -> set[str]:
        runner = self.environment.runner
        if not isinstance(runner, MasterRunner):
            return set()
        return {worker.id for worker in runner.clients.all if worker.state != STATE_MISSING}

    def note_missing(self, **_: Any) -> None:
        """Note which workers are gone, before the others are told to stop."""
        self.missing = self.workers - self._workers()

    def stop(self, environment: Environment, **_: Any) -> None:
        """Note the time, as Locust runs on while its page is open; then wait for the workers' last counts."""
        self.ended = time.time()
        runner = environment.runner
        if not isinstance(runner, MasterRunner) or environment.process_exit_code == UNUSABLE:
            return
        self.finished.clear()
        for _second in range(_LAST_SECONDS):
            # Repeated, since a worker that has just stopped is missing for a moment.
            for worker in self._unfinished() & self._workers():
                runner.send_message(_FINISH, client_id=worker)
            with gevent.Timeout(1, exception=False):
                while self._unfinished():
                    gevent.sleep(0.05)
        self.lost = len(self.workers - self.finished)

    def _unfinished(self) -> set[str]:
        return self.workers - self.missing - self.finished

    def finish(self, environment: Environment, **_: Any) -> None:
        """Stop a worker's users, and send the master their counts since the last message."""
        runner = environment.runner
        assert isinstance(runner, WorkerRunner)  # noqa: S101
        runner.stop()
        last = self.tally.message()
        self.tally.forget()
        runner.send_message(_LAST, last)

    def receive_last(self, msg: Any, **_: Any) -> None:
        """Add a worker's last counts."""
        self.tally.merge(msg.data)
        self.finished.add(msg.node_id)

    def send(self, client_id: str, data: dict[str, Any]) -> None:
        """Put the counts since the last message into a worker's message."""
        data[_KEY] = self.tally.message()
        self.tally.forget()

    def receive(self, client_id: str, data: dict[str, Any]) -> None:
        """Add the counts in a worker's message."""
        self.tally.merge(data[_KEY])

    def count_exception(self, exception: BaseException, **_: Any) -> None:
        """Count an unexpected exception: Locust would only log it, and no goal would notice."""
        self.tally.errors[f"unexpected {type(exception).__name__}"] += 1
        if self.options.passes:
            # The user's current photo will never be done, and the test would wait for it.
            gevent.spawn(self._quit)

    def summary(self) -> Summary:
        """Summarize the test so far."""
        ended = self.ended or time.time()
        return summarize(self.tally, ended - self.started if self.started else 0.0)

    def show_progress(self) -> None:
        """Write a line of progress to standard error at intervals."""
        while True:
            gevent.sleep(PROGRESS_SECONDS)
            if self.environment.runner and self.environment.runner.state == STATE_RUNNING:
                sys.stderr.write(progress_line(self.summary()) + "\n")

    def end(self, environment: Environment, **_: Any) -> None:
        """Write the report, print its tables and set the exit status."""
        if self.is_worker:
            environment.process_exit_code = 0  # Errors are for the master to judge.
            return
        if environment.process_exit_code == UNUSABLE or not self.started:
            return
        if self.ending:
            # When a signal's greenlet stops the users, the main greenlet gets here too; the signal's exits.
            gevent.get_hub().join()
        self.ending = True
        summary = self.summary()
        runner = environment.runner
        interrupted = runner is not None and runner.state in (STATE_RUNNING, STATE_SPAWNING)
        if interrupted and runner is not None:
            runner.quit()  # So that users count unanswered requests, and workers send their last counts.
            summary = summarize(self.tally, summary.seconds)
        report = RunReport(
            options=self.options,
            host=str(environment.host),
            plan=plan_of(self.options),
            started=self.started,
            tally=self.tally,
            summary=summary,
            interrupted=interrupted,
            workers=len(self.workers),
            lost=self.lost,
        )
        folder = Path(self.options.report) if self.options.report else new_folder("loadtest")
        report.write(folder, get_html_report(environment, show_download_link=False))
        failed = [verdict.line for verdict in report.verdicts if not verdict.held]
        if not self.options.quiet_report:
            sys.stdout.write(f"{report.text}\nThe whole report is in {folder}.\n")
            sys.stdout.flush()
            sys.stderr.write("".join(f"edgewise: {line}\n" for line in failed))
        environment.process_exit_code = INTERRUPTED if interrupted else FAILED if failed else 0


@events.init.add_listener
def begin(environment: Environment, **_: Any) -> None:
    """Connect the test to Locust's events."""
    test = Test(environment)
    if isinstance(environment.runner, LocalRunner | MasterRunner):
        try:
            test.check()
        except LoadTestError as error:
            sys.stderr.write(f"edgewise: {error}\n")
            sys.exit(UNUSABLE)
        if not test.options.quiet_report:
            gevent.spawn(test.show_progress)
    if isinstance(environment.runner, MasterRunner):
        # The workers of --processes are started by Locust itself.
        if test.options.headless and not test.options.processes and not test.options.quiet_report:
            number = test.options.expect_workers
            sys.stderr.write(f"waiting for {number} worker{'s' if number > 1 else ''}\n")
        environment.runner.register_message(_CANT_BEGIN, test.end_without)
        environment.runner.register_message(_LAST, test.receive_last)
    if isinstance(environment.runner, WorkerRunner):
        environment.runner.register_message(_FINISH, test.finish)
    environment.events.test_start.add_listener(test.begin)
    environment.events.test_stopping.add_listener(test.note_missing)
    environment.events.test_stop.add_listener(test.stop)
    environment.events.user_error.add_listener(test.count_exception)
    environment.events.report_to_master.add_listener(test.send)
    environment.events.worker_report.add_listener(test.receive)
    environment.events.quitting.add_listener(test.end)
