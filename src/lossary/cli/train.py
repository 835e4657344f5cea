"""`lossary train`: the runs of a study."""

from pathlib import Path

from lossary.cli.common import JobsOption, RunsOption, StudyArgument, open_study

__all__ = ["train"]


def train(study: StudyArgument = Path(), runs: RunsOption = None, jobs: JobsOption = None) -> None:
    """Train the runs of a prepared study; each goes on from its last checkpoint."""
    from lossary import pipeline
    from lossary.cli.progress import TerminalListener

    opened = open_study(study)
    with TerminalListener() as listener:
        pipeline.train(opened.study, opened.folder, runs=runs, jobs=jobs, listener=listener)
