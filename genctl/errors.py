"""The errors a user can cause or meet, each with its exit code.

Raise one of these for anything outside the program (input, options, models, the machine); its text is the one line
the user sees: what is wrong, with which file or option, and what to do. All else that escapes is a fault of genctl.
"""


class GenctlError(Exception):
    """Base of all expected errors; `exit_code` is what the process ends with."""

    exit_code = 1


class UsageError(GenctlError):
    """Wrong option, value or combination; a condition that the model does not take."""

    exit_code = 2


class InputError(GenctlError):
    """Bad input: not an image, an empty folder, a broken code file."""

    exit_code = 3


class ModelError(GenctlError):
    """A model that cannot be used: unknown name, wrong or damaged file, newer format."""

    exit_code = 4


class WorldError(GenctlError):
    """The world: disk full, no permission, no network, out of memory."""

    exit_code = 5


class DivergedError(GenctlError):
    """Training diverged; the last good state is kept and named."""

    exit_code = 6


class PipeClosedError(GenctlError):
    """The reader of our stdout has had enough (`| head -1`): an end, not an error."""

    exit_code = 0


OUT_OF_MEMORY = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")  # of torch on CPU, MPS and CUDA, of cuBLAS


def out_of_memory(error: BaseException) -> bool:
    """Whether this is Python's or torch's way of saying that memory ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and any(mark in said for mark in OUT_OF_MEMORY)


def nearest(word: str, known: list[str]) -> str:
    """`' (did you mean "x"?)'` when a known word is close to `word`, else an empty string."""
    import difflib

    match = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f' (did you mean "{match[0]}"?)' if match else ""
