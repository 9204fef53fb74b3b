"""Which files of a search stay on the disk, and where those of a candidate go.

Knows: the rows of the study, and which checkpoints and paused states somebody may still ask for. Does not know: what is
in them, who trains, when.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from layersearch.search.files import checkpoint_of, drop_checkpoints, drop_states
from layersearch.search.study import Study
from layersearch.training.job import Job


@dataclass(frozen=True)
class Keeping:
    """What of a search's weights is kept: those of the front."""

    def tidy(self, study: Study) -> None:
        """Remove the checkpoints that the front leaves behind, and the states of candidates that will not go on."""
        running = {row.number for row in study.rows() if row.state == "RUNNING"}
        drop_states(study.folder, running)
        drop_checkpoints(study.folder, running.union(row.number for row in study.front()))

    def placed(self, study: Study, job: Job) -> Job:
        """The job with the place of its weights, and the front that they have to be on."""
        if job.checkpoint is not None:
            return job
        return replace(job, checkpoint=str(checkpoint_of(study.folder, job.number)), front=_points(study))


def _points(study: Study) -> tuple[tuple[float, ...], ...]:
    sign = 1.0 if study.purpose.direction == "maximize" else -1.0
    return tuple((sign * row.score, *row.sizes) for row in study.front() if row.score is not None)
