// Owns where the run's database is; global-setup.ts has put it there.

import { asRoleOf, splitUrls } from '../../database/addresses.ts'
import { openSession } from '../../database/session.ts'

export const READ_URL = 'TESSERA_TEST_READ_URL'
export const WORKER_READ_URL = 'TESSERA_TEST_WORKER_READ_URL'
export const WRITE_URL = 'TESSERA_TEST_WRITE_URL'
export const OWNER_URL = 'TESSERA_TEST_OWNER_URL'
export const SUPERUSER_URL = 'TESSERA_TEST_SUPERUSER_URL'

const required = (variable: string) => {
  const url = process.env[variable]
  if (!url) throw new Error(`${variable} is not set: run tests with npm test`)
  return url
}

export const testDatabase = () => ({
  readUrl: required(READ_URL),
  /** Of Citus' workers; undefined elsewhere. */
  workerReadUrl: process.env[WORKER_READ_URL],
  writeUrl: required(WRITE_URL),
  ownerUrl: required(OWNER_URL),
  /** Who sees what others' sessions are doing. */
  superuserUrl: required(SUPERUSER_URL),
})

/** A session of the superuser at the write port. */
export function openSuperuser() {
  const { superuserUrl, writeUrl } = testDatabase()
  const [first] = splitUrls(writeUrl) as [string]
  return openSession(asRoleOf(superuserUrl, first), 'test')
}
