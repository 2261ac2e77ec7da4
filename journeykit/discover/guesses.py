"""What a guess is: a key of journey.toml, its value, why, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from journeykit.discover.samples import Sample

Confidence = Literal["sure", "likely", "check"]
"""How far a guess can be trusted; `check` is marked "please check" in journey.toml."""


@dataclass(frozen=True)
class Guess:
    """One guess: the key of a source in journey.toml, its value there, what speaks for it."""

    key: str
    value: Any
    why: str
    confidence: Confidence = "likely"


@dataclass
class SourceGuess:
    """What was guessed of the files of one shape."""

    name: str
    samples: list[Sample]
    preset: str = ""
    path: str = ""
    guesses: list[Guess] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # what a source needs and this one has not
    notes: list[str] = field(default_factory=list)

    @property
    def sample(self) -> Sample:
        """The sample that the others were compared with."""
        return self.samples[0]

    def get(self, key: str) -> Any:
        """Return the value of a guess, or None."""
        return next((guess.value for guess in self.guesses if guess.key == key), None)

    def starting(self, prefix: str) -> dict[str, Any]:
        """Return the guesses of a table of the source, such as `identifiers.`, by the rest of their keys."""
        return {guess.key.removeprefix(prefix): guess.value for guess in self.guesses if guess.key.startswith(prefix)}

    def put(self, guess: Guess) -> None:
        """Add a guess, in place of one of the same key."""
        self.guesses = [other for other in self.guesses if other.key != guess.key]
        self.guesses.append(guess)

    def drop(self, key: str) -> None:
        """Take a guess back."""
        self.guesses = [guess for guess in self.guesses if guess.key != key]


def percent(share: float) -> str:
    """Return a share as text that never rounds up to all.

    >>> percent(1), percent(0.996), percent(0.42)
    ('100 %', '99 %', '42 %')
    """
    return f"{int(100 * share)} %"
