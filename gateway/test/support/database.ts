// Owns the URLs of the run's database, which its global set-up has put into the environment.

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
  /** URLs of the read ports of Citus' workers; undefined without Citus. */
  workerReadUrl: process.env[WORKER_READ_URL],
  writeUrl: required(WRITE_URL),
  ownerUrl: required(OWNER_URL),
  /** URL of a superuser, who can see what the sessions of others are doing. */
  superuserUrl: required(SUPERUSER_URL),
})

/** Opens a session of the superuser at the write port. */
export function openSuperuser() {
  const { superuserUrl, writeUrl } = testDatabase()
  const [first] = splitUrls(writeUrl) as [string]
  return openSession(asRoleOf(superuserUrl, first), 'test')
}
