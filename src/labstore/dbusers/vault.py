"""Clear passwords, for as long as nobody has read them: in memory, and nowhere else."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass, field

from labstore.model.accounts import DbUser
from labstore.model.secret import Secret

LENGTH = 16
ALPHABET = string.ascii_letters + string.digits


def random_password() -> Secret:
    """Sixteen letters and digits, as the original's."""
    return Secret("".join(secrets.choice(ALPHABET) for _ in range(LENGTH)))


@dataclass
class Vault:
    """The minted passwords that are in no file yet: at most one per account, with its generation."""

    make: Callable[[], Secret] = random_password
    _held: dict[DbUser, tuple[int, Secret]] = field(default_factory=dict)

    def mint(self, user: DbUser, generation: int) -> Secret:
        """A new password; an earlier one of the account is forgotten."""
        self._held[user] = generation, self.make()
        return self._held[user][1]

    def password(self, user: DbUser, generation: int) -> Secret:
        """Raises KeyError."""
        held, password = self._held[user]
        if held != generation:
            raise KeyError(user)
        return password

    def forget(self, user: DbUser) -> None:
        self._held.pop(user, None)

    @property
    def held(self) -> frozenset[tuple[DbUser, int]]:
        return frozenset((user, generation) for user, (generation, _) in self._held.items())
