"""Carrying out one step. What it brought is looked up afterwards; one item's failure never stops the rest."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from labstore.binds.observe import top_of
from labstore.binds.plan import BindStep
from labstore.model.binds import Kind, Thing
from labstore.model.site import Cluster
from labstore.reconcile.plan import Verb
from labstore.reconcile.runner import StepFailed
from labstore.reports.binds import BindFailed, DirectoryNotMade, FailoverRuns
from labstore.system.trees import Directory, NotADirectory, NotMounted, bind, make_directory, unbind


@dataclass(frozen=True)
class Hands:
    """`moving` says who moves the service just now, empty where nobody does: looked at before every step, so that a
    node that is taken down is not filled again."""

    cluster: Cluster
    moving: Callable[[], str] = lambda: ""

    def act(self, step: BindStep) -> None:
        """Raises StepFailed."""
        holder = self.moving()
        if holder:
            raise StepFailed(FailoverRuns(holder))
        thing = step.before if step.verb is Verb.REMOVE else step.after
        assert thing is not None
        try:
            self._act(step.verb, thing)
        except NotMounted as error:
            raise StepFailed(_failure(thing, f"nothing is mounted at {error}")) from error
        except NotADirectory as error:
            raise StepFailed(_failure(thing, str(error))) from error
        except OSError as error:
            raise StepFailed(_failure(thing, _words(error))) from error

    def _act(self, verb: Verb, thing: Thing) -> None:
        root = self.cluster.export_root
        if thing.kind is Kind.DIRECTORY:
            owner = Directory(thing.owner, thing.gid, thing.mode)
            make_directory(top_of(self.cluster, thing.volume), thing.path, owner)
        elif verb is Verb.REMOVE:
            assert root is not None
            unbind(root, thing.path)
        else:
            assert root is not None and thing.source is not None
            bind(top_of(self.cluster, thing.volume), thing.source, root, thing.path)


def _failure(thing: Thing, reason: str) -> DirectoryNotMade | BindFailed:
    return (DirectoryNotMade if thing.kind is Kind.DIRECTORY else BindFailed)(thing.path, reason)


def _words(error: OSError) -> str:
    if error.errno == errno.EBUSY:
        return "it is in use; `fuser -vm` says by whom"
    return error.strerror or str(error)
