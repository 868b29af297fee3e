"""What `layer`'s exit statuses mean."""

from collections.abc import Mapping

DONE = 0
REFUSED = 1
USAGE = 2
UNREACHABLE = 3
INTERRUPTED = 130

MEANINGS: Mapping[int, str] = {
    DONE: "done",
    REFUSED: "the server refused, a job failed, or a document that was asked for is not there",
    USAGE: "the command line, the environment or a file cannot be used; nothing was sent",
    UNREACHABLE: "no answer: the server cannot be reached, or not in time",
    INTERRUPTED: "interrupted, or a question was answered with no",
}
