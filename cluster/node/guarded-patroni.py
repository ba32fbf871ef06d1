"""Owns which member may become primary: Patroni, except for how it takes a group's leader key and writes /sync.

`python guarded-patroni.py CONFIGURATION` starts Patroni. The original Patroni lets a running former primary create the
leader key again as soon as the key is free and /history has no newer timeline yet. It also lets a new leader overwrite
/sync whatever revision /sync has by then. Either loses changes that another primary has acknowledged. Here both are
etcd transactions with a condition:

- the leader key is created only while /sync names this member, as the leader or as its synchronous secondary;
- /sync is written only while this member holds the leader key.

So /sync names only members that have every acknowledged change, and no other member ever becomes primary. A member
that renews its lease also checks each time that it still holds the leader key, because its view of etcd is outdated
after a long sleep.

/sync also records, as complete_until, until when each of the other members had every acknowledged change. If an
operator gives up the members that /sync names, `promote --accept-loss` writes a key below /discarded for each member
that does not run. The timeline of the new primary may have the same number as theirs, so pg_rewind cannot be trusted
with their data. A discarded member puts its data aside and is copied again.

A start on an empty disk can be interrupted at any moment, too, after which the original Patroni waits for a person:

- While a member initializes the group's database, no member can have the leader key, so it goes on when etcd is silent.
  The original makes it a secondary that follows nobody.
- The key /initialize has the name of that member until it has finished. The original has an empty value. So a member
  that finds its own name there after a crash puts the unfinished database aside, and initializes again.
- A file beside the data says that a copy is under way. A member that finds it after a crash removes what was copied.
"""
import json
import logging
import os
import sys
import threading
import time
from contextlib import contextmanager
from datetime import datetime, timezone

from patroni.__main__ import Patroni, check_psycopg
from patroni.daemon import abstract_main
from patroni.dcs import SyncState, catch_return_false_exception, etcd3
from patroni.dcs.etcd import catch_etcd_errors
from patroni.ha import Ha
from patroni.postgresql.bootstrap import Bootstrap
from patroni.postgresql.config import ConfigHandler, ConfigWriter

logger = logging.getLogger('guarded-patroni')

# Seconds. If all threads of a member stood still for longer, the member reads etcd itself before anything else.
LONG_SLEEP_S = 3
TICK_S = 0.5
RETRY_S = 1


def is_absent(key):
    return {'key': etcd3.base64_encode(key), 'target': 'CREATE', 'create_revision': '0'}


def is_unchanged(key, revision):
    """Returns the condition that the key has this revision; None means that the key does not exist."""
    if revision is None:
        return is_absent(key)
    return {'key': etcd3.base64_encode(key), 'target': 'MOD', 'mod_revision': str(revision)}


def has_value(key, value):
    return {'key': etcd3.base64_encode(key), 'target': 'VALUE', 'value': etcd3.base64_encode(value)}


class Etcd3(etcd3.Etcd3):
    """Patroni finds the settings of a store by the name of its class, so this class has the name of its parent."""

    def _transact(self, conditions, operation, retry):
        """Performs one operation if all conditions hold; returns the revision of etcd, or False if one does not."""
        fields = {'compare': conditions, 'success': [operation]}
        answer = retry(self._client.call_rpc, '/kv/txn', fields, retry)
        if answer.get('succeeded'):
            return answer['header']['revision']
        # This member's view of the store may be outdated.
        self._client._restart_watcher()
        return False

    def _put_if(self, conditions, key, value, retry, lease=None):
        fields = {'key': etcd3.base64_encode(key), 'value': etcd3.base64_encode(value)}
        if lease:
            fields['lease'] = lease
        return self._transact(conditions, {'request_put': fields}, retry)

    def _read(self, key, retry):
        """Reads from a majority of etcd, because an outdated view must not decide; returns revision and value."""
        answer = retry(self._client.call_rpc, '/kv/range', {'key': etcd3.base64_encode(key)}, retry)
        if not answer.get('kvs'):
            return None, None
        [found] = answer['kvs']
        return found['mod_revision'], etcd3.base64_decode(found.get('value', ''))

    def _create_leader_key(self, retry):
        sync = SyncState.from_node(*self._read(self.sync_path, retry))
        # Without /sync no commit ever waited for a secondary: the cluster is new, or has no secondaries.
        is_unwritten = sync.version is None
        if not is_unwritten and not sync.matches(self._name, True):
            logger.warning('not taking the leader key: /sync names %s, which may have changes that are missing here',
                           ' and '.join(sync.members) or 'no readable member')
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
        """Patroni calls this for a database that it has just initialized; the original method overwrites the key."""
        return self.attempt_to_acquire_leader()

    @catch_return_false_exception
    def _update_leader(self, leader):
        retry = self._retry.copy()

        def update():
            retry(self._do_refresh_lease, True, retry=retry)
            retry.ensure_deadline(1, etcd3.Etcd3Error('update_leader timeout'))
            is_own = has_value(self.leader_path, self._name)
            if leader.session == self._lease:
                # The lease keeps the key alive, so the key is only read.
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

    # True while this process initializes the group's database.
    is_initializing = False

    def initialize(self, create_new=True, sysid=''):
        is_written = super().initialize(create_new, sysid or self._name)
        if not sysid:
            self.is_initializing = bool(is_written)
            return is_written
        # Whoever finds their name in the key puts the database aside. So no change may be accepted before it is gone.
        while self.is_initializing and not is_written:
            time.sleep(RETRY_S)
            is_written = super().initialize(create_new, sysid)
        self.is_initializing = False
        return is_written

    def is_unfinished(self):
        """Reads from a majority of etcd whether an earlier process of this member has not finished to initialize."""
        _, owner = self._read(self.initialize_path, self._retry.copy())
        return owner == self._name and not self.is_initializing

    # True if Patroni's view of etcd, which may be outdated, has the key below /discarded.
    seems_discarded = False

    def _cluster_from_nodes(self, nodes):
        # A coordinator reads the keys of all groups; those of its own group contain its name.
        is_discarded = f'discarded/{self._name}' in nodes
        if is_discarded or self._MEMBERS + self._name in nodes:
            self.seems_discarded = is_discarded
        return super()._cluster_from_nodes(nodes)

    @property
    def discarded_path(self):
        return self.client_path('discarded/' + self._name)

    def is_discarded(self):
        """Reads from a majority of etcd. A member that /sync names again is not discarded; its key is deleted."""
        retry = self._retry.copy()
        revision, _ = self._read(self.discarded_path, retry)
        if revision is None:
            return False
        sync = SyncState.from_node(*self._read(self.sync_path, retry))
        if not sync.matches(self._name, True):
            return True
        self.forget_discard()
        return False

    def forget_discard(self):
        self.retry(self._client.deleterange, self.discarded_path)

    def forget_initialization(self):
        self.retry(self._client.deleterange, self.initialize_path)


def complete_until(before, after):
    """Returns, by name, until when each member that /sync no longer names had every acknowledged change."""
    def names(state):
        return {name for name in [state.get('leader'), *(state.get('sync_standby') or '').split(',')] if name}

    now = datetime.now(timezone.utc).isoformat(timespec='milliseconds')
    left = {**before.get('complete_until', {}), **{name: now for name in names(before)}}
    return {name: at for name, at in left.items() if name not in names(after)}


class Configuration(ConfigHandler):
    """Keeps the old file if the new one cannot be written: on a full disk Patroni leaves postgresql.conf empty."""

    @contextmanager
    def config_writer(self, filename):
        unfinished = f'{filename}.unfinished'
        with ConfigWriter(unfinished) as writer:
            yield writer
        self.set_file_permissions(unfinished)
        os.replace(unfinished, filename)

    def set_synchronous_standby_names(self, value):
        before = self._server_parameters.get('synchronous_standby_names')
        try:
            return super().set_synchronous_standby_names(value)
        except Exception:
            # Otherwise Patroni takes the names for written, and never writes them again.
            if before is None:
                self._server_parameters.pop('synchronous_standby_names', None)
            else:
                self._server_parameters['synchronous_standby_names'] = before
            raise


class Copy(Bootstrap):
    @property
    def marker(self):
        return f'{self._postgresql.data_dir}.copying'

    def clone(self, clone_member, clone_from_leader=False):
        with open(self.marker, 'w') as marker:
            os.fsync(marker.fileno())
        is_copied = super().clone(clone_member, clone_from_leader)
        # Patroni removes what is left of a copy that failed, but may be killed first.
        if is_copied:
            os.remove(self.marker)
        return is_copied

    def remove_unfinished(self):
        """Without the file, an incomplete folder may be all that is left of a database, and needs a person."""
        if not os.path.exists(self.marker):
            return
        folder = self._postgresql.data_dir
        logger.warning('a copy was interrupted: what is in %s is removed', folder)
        self._postgresql.remove_data_directory()
        if os.path.exists(folder):
            sys.exit(f'{folder} could not be removed')
        os.remove(self.marker)


class Availability(Ha):
    # True if Patroni's view of etcd says that an earlier process of this member has not finished to initialize.
    seems_unfinished = False

    def load_cluster_from_dcs(self):
        super().load_cluster_from_dcs()
        self.seems_unfinished = self.cluster.initialize == self.state_handler.name and not self.dcs.is_initializing
        # Patroni would take the unfinished database for a finished one.
        if self.seems_unfinished:
            raise etcd3.Etcd3Error('the initialization of this member was interrupted')

    def _handle_dcs_error(self):
        if self.dcs.is_initializing:
            return 'etcd does not respond; the initialization goes on'
        return super()._handle_dcs_error()


class Member(Patroni):
    # True if etcd itself must be read: at the start, and after a long sleep, when the view of etcd is outdated.
    _must_ask = True

    def __init__(self, *options):
        super().__init__(*options)
        self.postgresql.config.__class__ = Configuration
        self.postgresql.bootstrap.__class__ = Copy
        self.ha.__class__ = Availability

    def _notice_sleep(self):
        while True:
            before = time.monotonic()
            time.sleep(TICK_S)
            if time.monotonic() - before > LONG_SLEEP_S:
                self._must_ask = True

    def run(self):
        self.postgresql.bootstrap.remove_unfinished()
        threading.Thread(target=self._notice_sleep, daemon=True).start()
        super().run()

    def _run_cycle(self):
        is_suspect = self._must_ask or self.dcs.seems_discarded or self.ha.seems_unfinished
        # If a copy or a start is under way, it ends first.
        if is_suspect and not self.ha._async_executor.busy:
            try:
                if self.dcs.is_discarded():
                    self._put_data_aside('this member was given up: its data is put aside, and it is copied again',
                                         self.dcs.forget_discard)
                if self.dcs.is_unfinished():
                    self._put_data_aside('an initialization was interrupted: its data is put aside, and it starts over',
                                         self.dcs.forget_initialization)
                self._must_ask = False
            except Exception as error:
                # Without etcd no member becomes primary, so Patroni may go on; the next cycle reads again.
                logger.warning('cannot read whether the data of this member is of use: %r', error)
        super()._run_cycle()

    def _put_data_aside(self, reason, forget):
        logger.warning(reason)
        folder = self.postgresql.data_dir
        self.postgresql.stop('immediate')
        self.postgresql.move_data_directory()
        if os.path.isdir(folder) and os.listdir(folder):
            raise OSError(f'{folder} could not be put aside')
        # The key is deleted only now, and until etcd confirms it: the next database must not be put aside, too.
        while True:
            try:
                return forget()
            except Exception as error:
                logger.warning('etcd does not respond: %r', error)
                time.sleep(RETRY_S)

    def ensure_dcs_access(self, sleep_time=5):
        # Patroni has just opened its store, and has written nothing yet.
        if type(self.dcs) is not etcd3.Etcd3:
            sys.exit('The leader key can be guarded only in etcd: the configuration must have etcd3.')
        self.dcs.__class__ = Etcd3
        return super().ensure_dcs_access(sleep_time)


if __name__ == '__main__':
    check_psycopg()
    abstract_main(Member, sys.argv[1])
