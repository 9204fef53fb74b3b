"""Successive halving as a Ray Tune scheduler: at every rung the driver says who goes on.

Knows: Tune's words for going on and for ending a Ray trial. Does not know: the rule, the study. A candidate that does
not go on is not Tune's any more: it lies on the disk, and the searcher may hand it out again as a new Ray trial. So
Tune keeps no paused trials and no checkpoints, and a driver that dies takes nothing with it.
"""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from layersearch.search.searcher import LayerSearcher


class RungScheduler(FIFOScheduler):
    """Asks the driver, through its searcher, at every report of a worker."""

    def __init__(self, searcher: LayerSearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Tune's word for what becomes of the Ray trial; asked at a rung and never at the end."""
        return TrialScheduler.CONTINUE if self._searcher.goes_on(trial.trial_id, result) else TrialScheduler.STOP

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its scheduler into its folder; the study stays out of it."""
        return {}
