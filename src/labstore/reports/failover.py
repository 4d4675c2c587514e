"""What may be said about a pair of nodes and about moving the service between them."""

from __future__ import annotations

from labstore.reports.report import Override, Report, Severity

STATUS = "labstore failover status"


class NotKnown(Report):
    """Something that a decision needs could not be found out."""

    node: str
    what: str
    reason: str

    code = "failover-not-known"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.node}: {self.what} cannot be found out: {self.reason}"

    def remedy(self) -> str:
        return f"put that right first; nothing is moved on a guess ({STATUS})"


class NodeUnreachable(Report):
    node: str
    reason: str

    code = "failover-node-unreachable"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.node} cannot be asked: {self.reason}"

    def remedy(self) -> str:
        return f"look at that machine and at the network; then {STATUS}"


class StepNotDone(Report):
    """A step was carried out or tried, and what it should bring did not come about."""

    node: str
    step: str
    reason: str

    code = "failover-step-not-done"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.node}: {self.step}: {self.reason}"

    def remedy(self) -> str:
        return f"what depends on it was not begun. {STATUS} says what to do; `labstore failover abort` goes back"


class PartnerServes(Report):
    node: str
    found: str

    code = "partner-serves"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.node} has the service: {self.found}"

    def remedy(self) -> str:
        return f"`labstore failover switchover` moves it, or run `labstore failover down` on {self.node} first"


class PartnerSilent(Report):
    """Nobody knows whether the partner still writes (upstream #26)."""

    node: str
    reason: str

    code = "partner-silent"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.node} may still be serving, nobody can say: {self.reason}"

    def remedy(self) -> str:
        return (
            f"make sure that it is off, then say so: --partner-is-off {self.node} (or set a fence command, which "
            "proves it)"
        )


class FenceFailed(Report):
    node: str
    reason: str

    code = "fence-failed"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"the fence command did not prove that {self.node} is off: {self.reason}"

    def remedy(self) -> str:
        return f"switch it off by hand and say so: --partner-is-off {self.node}"


class PartnerNotReady(Report):
    node: str
    resource: str
    found: str

    code = "partner-not-ready"
    severity = Severity.ERROR
    override = Override.ALLOW_OUTAGE

    def message(self) -> str:
        return f"{self.node} could not take over resource {self.resource}: {self.found}"

    def remedy(self) -> str:
        return f"wait for it or repair it ({STATUS}); to stop the service all the same: --{self.override}"


class DataUnfit(Report):
    """This node's data must not be served. There is no override: it is no file system, or not there."""

    node: str
    resource: str
    found: str
    advice: str

    code = "data-unfit"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.node}: resource {self.resource} cannot be served from here: {self.found}"

    def remedy(self) -> str:
        return self.advice


class DataStale(Report):
    """This node's data is whole, but the partner has newer."""

    node: str
    resource: str
    found: str

    code = "data-stale"
    severity = Severity.ERROR
    override = Override.ACCEPT_DATA_LOSS

    def message(self) -> str:
        return f"{self.node}: resource {self.resource}: {self.found}; what the partner has written since would be lost"

    def remedy(self) -> str:
        return f"bring the partner back and let it serve or resync; to lose what it has: --{self.override}"


class SplitBrain(Report):
    resource: str
    found: str

    code = "split-brain"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"resource {self.resource}: both nodes have been written since they parted ({self.found})"

    def remedy(self) -> str:
        return "`labstore failover resolve` shows what each choice would lose, and carries one out"


class StandsAlone(Report):
    node: str
    resource: str

    code = "stands-alone"
    severity = Severity.WARNING

    def message(self) -> str:
        return f"{self.node}: resource {self.resource} does not try to connect (StandAlone)"

    def remedy(self) -> str:
        return "`labstore failover resolve` finds out whether both sides were written, and reconnects"


class Resyncing(Report):
    node: str
    resource: str
    progress: str

    code = "resyncing"
    severity = Severity.WARNING

    def message(self) -> str:
        return f"{self.node}: resource {self.resource} is being resynced: {self.progress}"

    def remedy(self) -> str:
        return "nothing to do but wait; until then there is one good copy"


class WithoutRedundancy(Report):
    node: str
    resource: str
    found: str

    code = "without-redundancy"
    severity = Severity.WARNING

    def message(self) -> str:
        return f"{self.node}: resource {self.resource} has one good copy: {self.found}"

    def remedy(self) -> str:
        return f"bring the partner back ({STATUS})"


class IoSuspended(Report):
    node: str
    resource: str
    why: str

    code = "io-suspended"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.node}: DRBD holds all writes to resource {self.resource}: {self.why}"

    def remedy(self) -> str:
        return "`journalctl -k -g fence-peer` says how the handler ended; mend that, then `drbdadm resume-io RESOURCE`"


class TwoPrimaries(Report):
    resource: str

    code = "two-primaries"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"resource {self.resource} is Primary on both nodes: two machines may be writing different data"

    def remedy(self) -> str:
        return "run `labstore failover down --allow-outage` on the node that clients do not use, at once"


class TwoAddresses(Report):
    address: str

    code = "two-addresses"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"service address {self.address} is on both nodes"

    def remedy(self) -> str:
        return "run `labstore failover down` on the node that is not Primary, at once"


class AddressTaken(Report):
    address: str
    by: str

    code = "address-taken"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"service address {self.address} is answered for by {self.by}, which is not this machine"

    def remedy(self) -> str:
        return "find that machine and take the address from it; two owners of an address serve nobody"


class AddressWithoutService(Report):
    """The state that must never be."""

    node: str
    address: str
    lacks: str

    code = "address-without-service"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.node} has service address {self.address}, yet {self.lacks}"

    def remedy(self) -> str:
        return f"on {self.node}: `labstore failover up` if it shall serve, `labstore failover down` if not"


class MountBusy(Report):
    """Somebody would keep `down` from its end; found before a single client is cut off (upstream #20, #22)."""

    node: str
    volume: str
    holder: str

    code = "mount-busy"
    severity = Severity.ERROR
    override = Override.EVICT

    def message(self) -> str:
        return f"{self.node}: volume {self.volume} is held by {self.holder}"

    def remedy(self) -> str:
        return f"end it; or let labstore do it (TERM, then KILL, unmount what is mounted): --{self.override}"


class MountForeign(Report):
    node: str
    volume: str
    found: str

    code = "mount-foreign"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.node}: at the mount point of volume {self.volume}: {self.found}"

    def remedy(self) -> str:
        return "unmount what does not belong there"


class FilesDiffer(Report):
    node: str
    what: str

    code = "failover-files-differ"
    severity = Severity.WARNING

    def message(self) -> str:
        return f"{self.node}: {self.what}"

    def remedy(self) -> str:
        return "`labstore failover adjust` shows and applies what follows from the site file"


class NodesDiffer(Report):
    """The two nodes would not serve the same thing."""

    what: str
    here: str
    there: str

    code = "failover-nodes-differ"
    severity = Severity.ERROR
    override = Override.ALLOW_CONFIG_DRIFT

    def message(self) -> str:
        return f"the nodes differ in {self.what}: {self.here} here, {self.there} there"

    def remedy(self) -> str:
        return f"give both the same site file and version, then `labstore failover adjust`; or once: --{self.override}"


class RunUnfinished(Report):
    node: str
    verb: str
    step: str
    began: str

    code = "run-unfinished"
    severity = Severity.WARNING

    def message(self) -> str:
        return f"{self.node}: `{self.verb}` of {self.began} did not come to its end (last step: {self.step or 'none'})"

    def remedy(self) -> str:
        return f"run it again, or `labstore failover abort` on {self.node}; either goes on from what is found"


class LeftBlocked(Report):
    node: str
    addresses: str

    code = "left-blocked"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.node} serves, and its clients are kept out at {self.addresses}"

    def remedy(self) -> str:
        return f"on {self.node}: `labstore failover up` finishes what was begun"


class ScopeWrong(Report):
    node: str
    found: str
    wanted: str

    code = "scope-wrong"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.node}: the NFS server calls itself {self.found}, not {self.wanted}: locks would not survive"

    def remedy(self) -> str:
        return "`labstore failover adjust`, then restart the server in a quiet hour: every lock is lost by it once"


class RecoveryMisplaced(Report):
    node: str

    code = "recovery-misplaced"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.node}: nfsdcld does not keep its records on the state volume: locks would not survive a move"

    def remedy(self) -> str:
        return "`labstore failover adjust` on that node, then `labstore failover up`"


class LocksNotCarried(Report):
    node: str
    why: str

    code = "locks-not-carried"
    severity = Severity.WARNING

    def message(self) -> str:
        return f"{self.node}: {self.why}; clients may have lost locks"

    def remedy(self) -> str:
        return "see the certificate: labstore failover certificate"


class UnitFailed(Report):
    node: str
    unit: str
    reason: str

    code = "failover-unit-failed"
    severity = Severity.WARNING

    def message(self) -> str:
        return f"{self.node}: {self.unit} did not start: {self.reason}"

    def remedy(self) -> str:
        return f"clients are served all the same; see `journalctl -u {self.unit}`"


class UnitAbsent(Report):
    node: str
    unit: str
    cluster: str

    code = "failover-unit-absent"
    severity = Severity.NOTICE

    def message(self) -> str:
        return f"{self.node}: systemd has no {self.unit}, or it is masked: it does not run where the service is"

    def remedy(self) -> str:
        return f"install or unmask it; or take it out of failover.{self.cluster}.units"


class Evicted(Report):
    node: str
    holder: str

    code = "evicted"
    severity = Severity.NOTICE

    def message(self) -> str:
        return f"{self.node}: ended {self.holder}"


class NotJournaled(Report):
    node: str
    reason: str

    code = "not-journaled"
    severity = Severity.WARNING

    def message(self) -> str:
        return f"{self.node}: the journal could not be written: {self.reason}; the run goes on without"

    def remedy(self) -> str:
        return "make room on that file system; what was done is in this output alone"


class HoldsData(Report):
    """`init` never writes over anything."""

    node: str
    device: str
    found: str

    code = "holds-data"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.node}: {self.device} cannot be taken: {self.found}"

    def remedy(self) -> str:
        return (
            "make it if it is not there, release it if it is in use; what it holds and may be destroyed you empty "
            "yourself (wipefs, blkdiscard or dd); then run init again"
        )


class SnapshotHere(Report):
    node: str
    snapshot: str
    origin: str
    full: str

    code = "failover-snapshot"
    severity = Severity.NOTICE

    def message(self) -> str:
        return (
            f"{self.node}: {self.snapshot} is a snapshot of {self.origin} below DRBD ({self.full}); "
            "it does not hold the mount, it slows every write"
        )


class NotDecided(Report):
    """A choice that is a person's."""

    what: str
    choices: str

    code = "failover-not-decided"
    severity = Severity.ERROR

    def message(self) -> str:
        return self.what

    def remedy(self) -> str:
        return self.choices
