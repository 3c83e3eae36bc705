"""Tasks of QGIS's task manager: what they tell, and that they can be forgotten."""

import threading

from qgis.core import QgsApplication, QgsTask, QgsTaskManager

from qgis_mmearth import tasks
from qgis_mmearth.link.errors import LinkError


class Outcome:
    """Collects what a task hands over."""

    def __init__(self):
        self.done, self.failed, self.told = [], [], []

    def task(self, work):
        """Return a task that hands over to this."""
        return tasks.Task("Test", work, self.done.append, self.failed.append, progress=self.tell)

    def tell(self, *progress):
        """Keep progress, and in which thread it came."""
        self.told.append((*progress, threading.current_thread() is threading.main_thread()))


def test_words_get_through_at_unchanged_progress(wait):
    def work(task):
        for words in ("Looking", "Waiting for another QGIS window", "Going on"):
            task.report(0.0, words, 7.0)
        return 1

    outcome = Outcome()
    tasks.start(outcome.task(work))
    wait(lambda: outcome.done, 10)
    assert outcome.told == [
        (0.0, "Looking", 7.0, True),
        (0.0, "Waiting for another QGIS window", 7.0, True),
        (0.0, "Going on", 7.0, True),
    ]


def waits_for_cancel(task):
    """Work until the task is cancelled."""
    while not task.isCanceled():
        threading.Event().wait(0.01)
    return None


def test_cancelled_task_is_not_complete_for_qgis(wait):
    outcome = Outcome()
    task = outcome.task(waits_for_cancel)
    ends = []
    task.taskCompleted.connect(lambda: ends.append("completed"))
    task.taskTerminated.connect(lambda: ends.append("terminated"))
    tasks.start(task)
    wait(lambda: task.status() == QgsTask.TaskStatus.Running, 10)
    task.cancel()
    wait(lambda: ends, 10)
    assert ends == ["terminated"]
    assert [error.code for error in outcome.failed] == ["cancelled"]


def test_forgotten_task_is_cancelled_and_calls_nobody(wait):
    def work(task):
        waits_for_cancel(task)
        task.report(0.5, "Too late")
        raise LinkError("Too late.")

    outcome = Outcome()
    task = tasks.start(outcome.task(work))
    wait(lambda: task.status() == QgsTask.TaskStatus.Running, 10)
    task.forget()
    wait(lambda: task not in tasks._running, 10)
    assert (outcome.done, outcome.failed, outcome.told) == ([], [], [])


def test_forgetting_a_task_that_is_over_does_nothing(wait):
    outcome = Outcome()
    task = tasks.start(outcome.task(lambda task: 1))
    wait(lambda: outcome.done and not QgsApplication.taskManager().tasks(), 10)
    task.forget()


def test_qgis_does_not_see_hidden_tasks(wait):
    """Before QGIS 3.26 it tells of every task that has taken 5 s."""
    seen, outcome = [], Outcome()
    manager = QgsApplication.taskManager()
    manager.statusChanged.connect(seen.append)
    manager.taskAdded.connect(seen.append)
    for _ in range(2):
        tasks.start(tasks.Task("T", lambda _: 1, outcome.done.append, print, hidden=True))
    wait(lambda: len(outcome.done) == 2, 10)
    manager.statusChanged.disconnect(seen.append)
    manager.taskAdded.disconnect(seen.append)
    assert seen == [] and len(manager.findChildren(QgsTaskManager)) == 1
