"""What can go wrong through a user's input or surroundings, as one line each.

Knows: the names of the errors. Does not know: who raises them; only `cli.py` and `entry.py` turn them into exits.
Every message says what was given, what is allowed and what to do. A trace is for bugs.
"""

EXIT_STOPPED = 130  # the exit code of a process that Ctrl-C or SIGTERM stopped


class LayersearchError(Exception):
    """A problem that the user can mend; its text is one line."""


class WordsError(LayersearchError):
    """Words that cannot be meant: an unknown name, a value out of range, options that do not go together; exit 2."""


class PatternError(WordsError):
    """A pattern or strategy that cannot be spelled or does not fit the model."""


class SpaceError(LayersearchError):
    """A file of a search space that is missing, malformed or empty."""


class ModelError(LayersearchError):
    """A base model that cannot be found, opened or taken apart."""


class DataError(LayersearchError):
    """Data that is missing or broken."""


class StudyError(LayersearchError):
    """A study that cannot be opened, is driven by somebody else, or was made for something else."""


class ExportError(LayersearchError):
    """An export that is refused or did not pass its proof."""


class TrainingError(LayersearchError):
    """A candidate whose training or scoring gave no usable number."""


class StoppedError(LayersearchError):
    """The user asked to stop (Ctrl-C or SIGTERM); what was finished is in the study."""
