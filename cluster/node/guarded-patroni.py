"""Owns who may become primary: Patroni as it is, except for how it takes a group's leader key and writes /sync.

`python guarded-patroni.py CONFIGURATION` starts Patroni. Patroni itself lets a running former primary create the
leader key again as soon as the key is free and /history does not tell of a newer timeline yet, and it lets a new
leader rewrite /sync whatever /sync says by then. Either loses what another primary has acknowledged. Here both are
transactions of etcd with a condition:

- the leader key is created only while /sync names this member, as the leader or as its synchronous secondary;
- /sync is written only while the leader key is this member's.

So /sync always names those that have every acknowledged change, and nobody else is ever primary. A member that
renews its lease also asks each time whether the leader key is still its own: after a long sleep its view of etcd is
old.

/sync also says, as complete_until, until when each of the others had every acknowledged change. An operator who gives
up those that /sync names (`promote --accept-loss`) leaves a key below /discarded for each of them: the timeline that
the new primary begins may have the number of theirs, so pg_rewind cannot be trusted with their data, and a member
that is discarded puts its data aside and is copied anew.
"""
import json
import logging
import sys
import time
from datetime import datetime, timezone

from patroni.__main__ import Patroni, check_psycopg
from patroni.daemon import abstract_main
from patroni.dcs import SyncState, catch_return_false_exception, etcd3
from patroni.dcs.etcd import catch_etcd_errors

logger = logging.getLogger('guarded-patroni')

# Several cycles of Patroni: whoever has slept for so long looks at etcd itself before anything else.
LONG_SLEEP_S = 3


def is_absent(key):
    return {'key': etcd3.base64_encode(key), 'target': 'CREATE', 'create_revision': '0'}


def is_unchanged(key, revision):
    """Whether the key has this revision; None means that there is no such key."""
    if revision is None:
        return is_absent(key)
    return {'key': etcd3.base64_encode(key), 'target': 'MOD', 'mod_revision': str(revision)}


def has_value(key, value):
    return {'key': etcd3.base64_encode(key), 'target': 'VALUE', 'value': etcd3.base64_encode(value)}


class Etcd3(etcd3.Etcd3):
    """Patroni finds the settings of a store by the name of its class: this one has the name of its parent."""

    def _transact(self, conditions, operation, retry):
        """Carries out one operation if all conditions hold; returns the revision of etcd, or False if one does not."""
        fields = {'compare': conditions, 'success': [operation]}
        answer = retry(self._client.call_rpc, '/kv/txn', fields, retry)
        if answer.get('succeeded'):
            return answer['header']['revision']
        # What this member believes of the store may be old.
        self._client._restart_watcher()
        return False

    def _put_if(self, conditions, key, value, retry, lease=None):
        fields = {'key': etcd3.base64_encode(key), 'value': etcd3.base64_encode(value)}
        if lease:
            fields['lease'] = lease
        return self._transact(conditions, {'request_put': fields}, retry)

    def _read(self, key, retry):
        """Reads from the majority of etcd, because a view that is old must not decide; returns revision and value."""
        answer = retry(self._client.call_rpc, '/kv/range', {'key': etcd3.base64_encode(key)}, retry)
        if not answer.get('kvs'):
            return None, None
        [found] = answer['kvs']
        return found['mod_revision'], etcd3.base64_decode(found.get('value', ''))

    def _create_leader_key(self, retry):
        sync = SyncState.from_node(*self._read(self.sync_path, retry))
        # Without /sync nothing was ever acknowledged to two: a new cluster, or one that replicates to nobody.
        if not sync.is_empty and not sync.matches(self._name, True):
            logger.warning('not taking the leader key: /sync names %s, who may have changes that are not here',
                           ' and '.join(sync.members))
            return False
        conditions = [is_absent(self.leader_path), is_unchanged(self.sync_path, sync.version)]
        return bool(self._put_if(conditions, self.leader_path, self._name, retry, self._lease))

    def _do_attempt_to_acquire_leader(self, retry):
        try:
            return self._create_leader_key(retry)
        except etcd3.LeaseNotFound:
            self._lease = None
            retry(self._do_refresh_lease, retry=retry)
            return self._create_leader_key(retry)

    def take_leader(self):
        """Patroni calls this for a database that it has just made, and would overwrite the key."""
        return self.attempt_to_acquire_leader()

    @catch_return_false_exception
    def _update_leader(self, leader):
        retry = self._retry.copy()

        def update():
            retry(self._do_refresh_lease, True, retry=retry)
            retry.ensure_deadline(1, etcd3.Etcd3Error('update_leader timeout'))
            is_own = has_value(self.leader_path, self._name)
            if leader.session == self._lease:
                # The key lives on with the lease: it is only looked at.
                look = {'request_range': {'key': etcd3.base64_encode(self.leader_path)}}
                is_leader = self._transact([is_own], look, retry)
            else:
                is_leader = self._put_if([is_own], self.leader_path, self._name, retry, self._lease)
            return bool(is_leader) or self._do_attempt_to_acquire_leader(retry)

        return self._run_and_handle_exceptions(update, retry=None)

    @catch_etcd_errors
    def set_sync_state_value(self, value, version=None):
        retry = self._retry.copy()
        _, before = self._read(self.sync_path, retry)
        state = json.loads(value)
        state['complete_until'] = complete_until(json.loads(before or '{}'), state)
        conditions = [has_value(self.leader_path, self._name), is_unchanged(self.sync_path, version)]
        return self._put_if(conditions, self.sync_path, json.dumps(state, separators=(',', ':')), retry)

    @property
    def discarded_path(self):
        return self.client_path('discarded/' + self._name)

    @catch_etcd_errors
    def is_discarded(self):
        revision, _ = self._read(self.discarded_path, self._retry.copy())
        return revision is not None

    @catch_etcd_errors
    def forget_discard(self):
        self.retry(self._client.deleterange, self.discarded_path)


def complete_until(before, after):
    """Until when each member that /sync does not name any more had every acknowledged change, by its name."""
    def names(state):
        return {name for name in [state.get('leader'), *(state.get('sync_standby') or '').split(',')] if name}

    now = datetime.now(timezone.utc).isoformat(timespec='milliseconds')
    left = {**before.get('complete_until', {}), **{name: now for name in names(before)}}
    return {name: at for name, at in left.items() if name not in names(after)}


class Member(Patroni):
    _cycle_began = 0

    def _run_cycle(self):
        slept = time.monotonic() - self._cycle_began
        self._cycle_began = time.monotonic()
        if slept > LONG_SLEEP_S and self.dcs.is_discarded():
            logger.warning('this member was given up: its data is put aside, and it is copied anew')
            self.postgresql.stop('immediate')
            self.postgresql.move_data_directory()
            self.dcs.forget_discard()
        super()._run_cycle()

    def ensure_dcs_access(self, sleep_time=5):
        # Patroni has just opened its store, and has written nothing yet.
        if type(self.dcs) is not etcd3.Etcd3:
            sys.exit('The leader key is guarded in etcd alone: the configuration must have etcd3.')
        self.dcs.__class__ = Etcd3
        return super().ensure_dcs_access(sleep_time)


if __name__ == '__main__':
    check_psycopg()
    abstract_main(Member, sys.argv[1])
