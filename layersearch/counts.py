"""How many of what, in words: `1 trial`, `2 trials`, `10,000 trials`.

Knows: the plural with an s, commas between thousands. Does not know: what is counted.
"""


def count(number: int, what: str) -> str:
    """`number` of `what`, whose last word takes an s for any number but 1."""
    return f"{number:,} {what}{'s' * (number != 1)}"
