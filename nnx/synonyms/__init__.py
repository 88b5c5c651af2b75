"""Names of other libraries: errors say what an argument, a method or a class is called here."""

from nnx.synonyms.arguments import check_call, named, not_called, of_argument, remedy
from nnx.synonyms.attributes import UNKNOWN, advice, asked, meant
from nnx.synonyms.tables import ALIASES, CALLBACKS, CLASSES, ELSEWHERE, METHODS

__all__ = [
    "ALIASES",
    "CALLBACKS",
    "CLASSES",
    "ELSEWHERE",
    "METHODS",
    "UNKNOWN",
    "advice",
    "asked",
    "check_call",
    "meant",
    "named",
    "not_called",
    "of_argument",
    "remedy",
]
