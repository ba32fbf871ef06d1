// Owns the credentials of configurations that tests render, and start nothing with.

import type { Credentials } from '../credentials.ts'

export const credentials: Credentials = {
  passwords: {
    postgres: 'p1',
    replicator: 'p2',
    rewinder: 'p3',
    tessera_owner: 'p4',
    tessera_write: 'p5',
    tessera_read: 'p6',
  },
  patroniPassword: 'p7',
  authorityFile: '/c/ca.crt',
  certificateFile: '/c/server.crt',
  keyFile: '/c/server.key',
}
