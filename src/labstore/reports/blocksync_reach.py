"""What block sync has to say when the other end does not begin, or does not let what the caller asked for."""

from __future__ import annotations

from labstore.reports.blocksync import Fault, Refusal


class NotReached(Fault):
    where: str
    what: str

    code = "blocksync-not-reached"
    passing = True

    def message(self) -> str:
        return f"{self.where} is not reached: {self.what}"

    def remedy(self) -> str:
        return "run again when it is"


class CannotReach(Fault):
    """No other try will do."""

    where: str
    what: str

    code = "blocksync-cannot-reach"

    def message(self) -> str:
        return f"{self.where} cannot be reached: {self.what}"

    def remedy(self) -> str:
        return "mend what ssh says: name, key, known host or configuration (--identity, --port, --ssh-config)"


class NoAnswer(Fault):
    """A command was run over there, and it was no block sync."""

    where: str
    status: int
    what: str

    code = "blocksync-no-answer"

    def message(self) -> str:
        said = f" ({self.what})" if self.what else ""
        return f"no block sync answers on {self.where}: its command ended with status {self.status}{said}"

    def remedy(self) -> str:
        return "install labstore there or name its command (--remote); of a forced one, see its line of authorized_keys"


class Chatter(Fault):
    where: str
    printed: str

    code = "blocksync-chatter"

    def message(self) -> str:
        return f"{self.where} prints where block sync should speak: {self.printed!r}"

    def remedy(self) -> str:
        return "the shell profile or the command over there prints something: silence it"


class PermitWithheld(Refusal):
    """The caller gave the permit, and the forced command of its key does not let it."""

    refused: str
    withheld: str

    code = "blocksync-permit-withheld"

    def message(self) -> str:
        return self.refused

    def remedy(self) -> str:
        return f"the key does not give it: put `--permit {self.withheld}` in its line of authorized_keys over there"
