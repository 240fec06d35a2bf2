"""For Locust: `locust -f loadtest/locustfile.py`, or `python -m loadtest`, which starts it without a page.

Every process counts for itself; workers send what they counted to the master, which reports.
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
# What workers get to tell the last that they counted: Locust gives them half a second.
_LAST_SECONDS = 10

logger = logging.getLogger("loadtest")
events.init_command_line_parser.add_listener(add_options)


class Test:
    """The load test in this process: begun, counted and, but in a worker, reported."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.tally = Tally()
        self.started = self.ended = 0.0
        self.ending = False
        # Those that the test began with; of them, those that are not there at its end, those that have
        # told the last that they counted, and how many have not.
        self.workers: set[str] = set()
        self.missing: set[str] = set()
        self.finished: set[str] = set()
        self.lost = 0
        self.labelled: dict[str, list[Photo]] = {}
        self.options: argparse.Namespace = environment.parsed_options  # type: ignore[assignment]
        self.is_worker = isinstance(environment.runner, WorkerRunner)

    def begin(self, environment: Environment, **_: Any) -> None:
        """Read the photos and ask the service for its classes, then count from nothing."""
        self.tally.forget()
        self.started, self.ended = time.time(), 0.0
        self.workers, self.lost = self._workers(), 0
        if environment.host:
            # Its users put their paths, which begin with one, behind it as it is.
            environment.host = environment.host.rstrip("/")
        try:
            self._prepare()
        except LoadTestError as error:
            # Not raised: Locust would log it and go on.
            if isinstance(environment.runner, WorkerRunner):
                environment.runner.send_message(_CANT_BEGIN, {"why": str(error)})
            self._give_up(str(error))

    def end_without(self, msg: Any, **_: Any) -> None:
        """End where a worker can't begin: its share of the load would be missing unseen."""
        self._give_up(f"a worker can't begin: {msg.data['why']}")

    def _give_up(self, why: str) -> None:
        logger.error("%s", why)
        self.tally.errors[why] += 1
        self.environment.process_exit_code = UNUSABLE
        gevent.spawn(self._quit)

    def check(self) -> None:
        """Raise what would keep it from beginning, while that can still be said in one line."""
        if self.environment.host:
            self._photos()
        else:
            read_files(plan_of(self.options).photos)

    def _prepare(self) -> None:
        plan = plan_of(self.options)
        photos = Queue(self._photos(), plan.passes)
        EdgeClient.load = Load(plan, photos, self.tally, finish=lambda: gevent.spawn(self._quit))

    def _photos(self) -> list[Photo]:
        """Those with the labels of the service's classes, for which each service is asked once."""
        host = str(self.environment.host)
        if host not in self.labelled:
            plan = plan_of(self.options)
            files = read_files(plan.photos)
            first = files[0][0]
            try:
                content = first.read_bytes()
            except OSError as error:
                raise LoadTestError(f"{first} can't be read: {error.strerror}") from None
            try:
                classes = api.classes(host, content, plan.headers, plan.query, plan.model)
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
        """Note the workers that are gone, before those that are there are told to go."""
        self.missing = self.workers - self._workers()

    def stop(self, environment: Environment, **_: Any) -> None:
        """Take the time, since Locust may go on for long with its page open; then wait for all counts."""
        self.ended = time.time()
        runner = environment.runner
        if not isinstance(runner, MasterRunner) or environment.process_exit_code == UNUSABLE:
            return
        self.finished.clear()
        for _second in range(_LAST_SECONDS):
            # Once more, since a worker that has just stopped is not there for a moment.
            for worker in self._unfinished() & self._workers():
                runner.send_message(_FINISH, client_id=worker)
            with gevent.Timeout(1, exception=False):
                while self._unfinished():
                    gevent.sleep(0.05)
        self.lost = len(self.workers - self.finished)

    def _unfinished(self) -> set[str]:
        return self.workers - self.missing - self.finished

    def finish(self, environment: Environment, **_: Any) -> None:
        """End the users of a worker, and tell the master what they have counted since the last time."""
        runner = environment.runner
        assert isinstance(runner, WorkerRunner)  # noqa: S101
        runner.stop()
        last = self.tally.message()
        self.tally.forget()
        runner.send_message(_LAST, last)

    def receive_last(self, msg: Any, **_: Any) -> None:
        """Count what a worker has counted at its end."""
        self.tally.merge(msg.data)
        self.finished.add(msg.node_id)

    def send(self, client_id: str, data: dict[str, Any]) -> None:
        """Put what was counted since the last time into a worker's message."""
        data[_KEY] = self.tally.message()
        self.tally.forget()

    def receive(self, client_id: str, data: dict[str, Any]) -> None:
        """Count what a worker counted."""
        self.tally.merge(data[_KEY])

    def count_exception(self, exception: BaseException, **_: Any) -> None:
        """Count what nobody foresaw: Locust would log it, have the user go on, and tell no goal of it."""
        self.tally.errors[f"{type(exception).__name__}, which no user foresaw"] += 1
        if self.options.passes:
            # The photo that it had in hand is never done, which the test would wait for.
            gevent.spawn(self._quit)

    def summary(self) -> Summary:
        """So far."""
        ended = self.ended or time.time()
        return summarize(self.tally, ended - self.started if self.started else 0.0)

    def show_progress(self) -> None:
        """A line now and then, on standard error."""
        while True:
            gevent.sleep(PROGRESS_SECONDS)
            if self.environment.runner and self.environment.runner.state == STATE_RUNNING:
                sys.stderr.write(progress_line(self.summary()) + "\n")

    def end(self, environment: Environment, **_: Any) -> None:
        """Write the report, print its tables and set the exit status."""
        if self.is_worker:
            environment.process_exit_code = 0  # The errors are the master's to judge.
            return
        if environment.process_exit_code == UNUSABLE or not self.started:
            return
        if self.ending:
            # Locust comes here again by its main greenlet when a signal's ends the users; that one exits.
            gevent.get_hub().join()
        self.ending = True
        summary = self.summary()
        runner = environment.runner
        interrupted = runner is not None and runner.state in (STATE_RUNNING, STATE_SPAWNING)
        if interrupted and runner is not None:
            runner.quit()  # So that users count what has no answer, and workers send the last of theirs.
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
    """Wire the test to Locust's events."""
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
        # Those of --processes come by themselves, and at once.
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
