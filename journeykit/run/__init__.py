"""Runs: the chapters of a study, executed in processes of their own, into a folder that appears when it is whole.

`runner` orders them, `plan` decides what will run before anything does, `pool` and `worker` execute a notebook and
judge it, `record` writes what happened, `refresh` re-executes the committed notebooks.
"""

from __future__ import annotations

from journeykit.run.runner import Progress, RunResult, Silent, Stopped, run

__all__ = ["Progress", "RunResult", "Silent", "Stopped", "run"]
