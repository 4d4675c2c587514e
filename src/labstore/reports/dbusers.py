"""What may be said about database accounts."""

from __future__ import annotations

from labstore.reports.report import Override, Report, Severity


def _names(names: tuple[str, ...], count: int) -> str:
    shown = ", ".join(names)
    return f"{shown} and {count - len(names)} more" if count > len(names) else shown


def _accounts(count: int) -> str:
    return "1 account" if count == 1 else f"{count} accounts"


def _have(count: int) -> str:
    return "1 account has" if count == 1 else f"{count} accounts have"


# --- the directory ---------------------------------------------------------------------------------------------------


class ListingShrunk(Report):
    kind: str
    count: int
    before: int

    code = "listing-shrunk"
    severity = Severity.ERROR
    override = Override.ALLOW_MASS_REMOVAL

    def message(self) -> str:
        return f"the directory lists {self.count} {self.kind} accounts, last time {self.before}: taken for cut short"


class DirectoryDisagrees(Report):
    kind: str
    doubt: str

    code = "directory-disagrees"

    def message(self) -> str:
        return f"nobody counts as absent among {self.kind} accounts: {self.doubt}"

    def remedy(self) -> str:
        return "new accounts are made all the same; see to the directory server that lacks, or does not answer"


class EntriesRejected(Report):
    kind: str
    count: int
    examples: tuple[str, ...]

    code = "entries-rejected"

    def message(self) -> str:
        return f"{self.count} {self.kind} entries of the directory cannot be taken: {'; '.join(self.examples)}"

    def remedy(self) -> str:
        return "put them right in the directory; who has an account already keeps it until then"


# --- guards ----------------------------------------------------------------------------------------------------------


class MassSuspension(Report):
    proof: str
    count: int
    accounts: int
    limit: int
    examples: tuple[str, ...]

    code = "mass-suspension"
    severity = Severity.ERROR
    override = Override.ALLOW_MASS_REMOVAL

    def message(self) -> str:
        return (
            f"{self.count} of {self.accounts} accounts would lose their access at once ({self.proof}; at most "
            f"{self.limit}): {_names(self.examples, self.count)}"
        )


class MassReissue(Report):
    count: int
    limit: int
    examples: tuple[str, ...]

    code = "mass-reissue"
    severity = Severity.ERROR
    override = Override.ALLOW_MASS_REMOVAL

    def message(self) -> str:
        return (
            f"{_accounts(self.count)} would get a new password because their files are gone (at most {self.limit} at "
            f"once): {_names(self.examples, self.count)}"
        )

    def remedy(self) -> str:
        return f"see that the homes are the right ones; if the files are really lost: --{self.override}"


class LedgerLost(Report):
    count: int
    limit: int
    examples: tuple[str, ...]

    code = "ledger-lost"
    severity = Severity.ERROR
    override = Override.ALLOW_MASS_REMOVAL

    def message(self) -> str:
        return (
            f"{_accounts(self.count)} of the directory exist on servers, but not in the ledger nor as a trusted file, "
            f"and would get a new password (at most {self.limit} at once): {_names(self.examples, self.count)}"
        )

    def remedy(self) -> str:
        return f"restore the ledger, or `labstore dbusers harvest`; if they are to start anew: --{self.override}"


class RemovalInDoubt(Report):
    kind: str
    count: int

    code = "removal-in-doubt"

    def message(self) -> str:
        return (
            f"{self.count} removals of {self.kind} accounts wait: the directory does not say again that it lacks them"
        )

    def remedy(self) -> str:
        return "they go on by themselves when a complete listing is had"


class IdentityChanged(Report):
    account: str
    before: str
    now: str
    why: str

    code = "account-identity-changed"
    severity = Severity.ERROR
    override = Override.ALLOW_ACCOUNT_IDENTITY

    def message(self) -> str:
        return f"{self.account} was {self.before} and is now {self.now}: {self.why}"

    def remedy(self) -> str:
        return (
            f"whoever has the number inherits the databases {self.account}__*; if it is the same owner: "
            f"--{self.override}"
        )


class NameTaken(Report):
    account: str
    name: str
    holder: str

    code = "account-name-taken"

    def message(self) -> str:
        return f"{self.account} cannot be made for {self.name}: that name's file is still {self.holder}'s"

    def remedy(self) -> str:
        return f"it is made when {self.holder} is removed; at once: labstore dbusers remove {self.holder} --now"


class RotationGap(Report):
    count: int
    hosts: tuple[str, ...]

    code = "rotation-gap"
    override = Override.ALLOW_ROTATION_GAP

    def message(self) -> str:
        return f"the rotation of {_accounts(self.count)} waits: {', '.join(self.hosts)} do not answer"

    def remedy(self) -> str:
        return f"new passwords would be refused there at first; if they cannot wait: --{self.override}"


# --- what was found --------------------------------------------------------------------------------------------------


class HomesMissing(Report):
    count: int
    examples: tuple[str, ...]
    oldest: int
    """Seconds."""

    code = "homes-missing"
    severity = Severity.NOTICE

    def message(self) -> str:
        age = f"; the longest for {self.oldest // 3600} h" if self.oldest >= 3600 else ""
        return f"{_have(self.count)} no home yet{age}: {_names(self.examples, self.count)}"

    def remedy(self) -> str:
        return "their files follow when the homes are there"


class HomesLate(HomesMissing):
    code = "homes-late"
    severity = Severity.WARNING

    def remedy(self) -> str:
        return "see to whatever makes homes"


class FilesInTheWay(Report):
    count: int
    examples: tuple[str, ...]

    code = "files-in-the-way"

    def message(self) -> str:
        return (
            f"{_have(self.count)} something at the name of their file that we did not put there: "
            f"{_names(self.examples, self.count)}"
        )

    def remedy(self) -> str:
        return "look at it (labstore dbusers why NAME); remove it, or replace it: labstore dbusers rotate NAME"


class ProtectedAccounts(Report):
    host: str
    count: int
    examples: tuple[str, ...]

    code = "accounts-protected"

    def message(self) -> str:
        return (
            f"{self.host}: {_accounts(self.count)} named like ours are roles, have global privileges or cannot be "
            f"read, and are never touched: {_names(self.examples, self.count)}"
        )


class SurplusRights(Report):
    host: str
    count: int
    examples: tuple[str, ...]

    code = "surplus-rights"
    severity = Severity.NOTICE

    def message(self) -> str:
        return f"{self.host}: {_have(self.count)} more rights than ours: {_names(self.examples, self.count)}"

    def remedy(self) -> str:
        return "labstore dbusers why NAME shows them; they are taken away where the server says `surplus: revoke`"


class RowsUnreadable(Report):
    count: int
    examples: tuple[str, ...]

    code = "ledger-rows-unreadable"

    def message(self) -> str:
        return f"{self.count} rows of the ledger are no account of ours: {_names(self.examples, self.count)}"


# --- what went wrong -------------------------------------------------------------------------------------------------


class HostLost(Report):
    host: str
    reason: str

    code = "host-lost"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.host}: {self.reason}"

    def remedy(self) -> str:
        return (
            "what it lacks is made up for when it is back; where labstore's login is refused: look at dbusers.login, "
            f"or labstore dbusers host-setup {self.host}"
        )


class NotSetUp(HostLost):
    """`host-setup` failed."""

    code = "host-not-set-up"

    def remedy(self) -> str:
        return "put that right, then run it again: each statement may be repeated"


class HostReadOnly(HostLost):
    code = "host-read-only"

    def remedy(self) -> str:
        return "make it writable, or let labstore's login write there: labstore dbusers host-setup"


class HostSlow(HostLost):
    code = "host-slow"
    severity = Severity.WARNING


class HostDefect(HostLost):
    """An exception that nobody foresaw. The traceback is in the log."""

    code = "host-defect"

    def message(self) -> str:
        return f"{self.host}: a defect of labstore ended the work there: {self.reason}"

    def remedy(self) -> str:
        return "the other servers are served; report it with: journalctl -u labstore-dbusersd -p err"


class HostRefused(Report):
    account: str
    host: str
    number: int
    reason: str

    code = "host-refused"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.host}: {self.account}: {self.reason} ({self.number})"

    def remedy(self) -> str:
        return "it is tried again by itself, less and less often"


class NotAsWanted(Report):
    account: str
    host: str
    found: str

    code = "account-not-as-wanted"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.host}: {self.account} was changed, yet is found otherwise: {self.found}"


class FileRefused(Report):
    account: str
    reason: str

    code = "file-refused"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"the file of {self.account}: {self.reason}"

    def remedy(self) -> str:
        return "it is tried again in the next cycle"


class WaitsFor(Report):
    account: str
    what: str

    code = "waits-for"
    severity = Severity.WARNING

    def message(self) -> str:
        return f"{self.account}: not done, because of {self.what}"


class LedgerDown(Report):
    reason: str

    code = "ledger-down"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"the ledger does not work: {self.reason}"

    def remedy(self) -> str:
        return (
            "nothing is changed without it; bring it back, or restore it from a backup; a damaged file is moved away, "
            "and then: labstore dbusers harvest"
        )


class OtherLeader(Report):
    holder: str

    code = "other-leader"
    severity = Severity.NOTICE

    def message(self) -> str:
        return f"{self.holder} leads"


class StatementsEnded(Report):
    account: str
    host: str
    count: int
    seconds: float
    """Of the longest."""
    budget: int

    code = "statements-ended"
    severity = Severity.NOTICE

    def message(self) -> str:
        what = "a statement" if self.count == 1 else f"{self.count} statements"
        ran = f"{self.host}: {what} of {self.account} ended after {self.seconds:.0f} s"
        return f"{ran}; one may take {self.budget} s"

    def remedy(self) -> str:
        return f"if it is to have more time: labstore dbusers limit {self.account} --statement-time TIME"


class SessionsEnded(Report):
    account: str
    host: str
    count: int
    limit: int

    code = "sessions-ended"
    severity = Severity.NOTICE

    def message(self) -> str:
        what = "a session" if self.count == 1 else f"{self.count} sessions"
        return f"{self.host}: {what} of {self.account} ended; it may have {self.limit} at a time"

    def remedy(self) -> str:
        return f"if it is to have more: labstore dbusers limit {self.account} --connections N"
