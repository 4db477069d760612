"""Replaces the part of a document that a generator writes, between two marker lines."""


def replaced(text: str, begin: str, end: str, content: str) -> str:
    """Return the text with this content between its markers.

    Args:
        text: The document.
        begin: The marker before the content, with its line break.
        end: The marker after the content.
        content: What stands between the two.

    Raises:
        ValueError: If the document lacks a marker.
    """
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"the document has no lines {begin.strip()} and {end}")
    return f"{before}{begin}{content}{end}{after}"
