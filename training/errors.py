"""The errors of the bake, and how other errors are quoted in it."""


class BakeError(Exception):
    """The model cannot be baked as asked; the message is one sentence that says what to do."""


def one_line(error: BaseException) -> str:
    """Return an error's message as one line that ends a sentence."""
    text = " ".join(str(error).split())[:500] or "no message"
    return text if text.endswith((".", "!", "?")) else text + "."


class UnsupportedError(Exception):
    """An engine cannot give this estimator's answers; the message is one sentence that says why."""
