// Owns the metrics of the backups for Prometheus, from what the recorder reports.

import { Gauge, Registry } from 'prom-client'
import type { GroupProtection, Protection } from './protection.ts'

/** @param report returns what is known now */
export function makeRecorderMetrics(report: () => Protection): Registry {
  const registry = new Registry()
  const registers = [registry]
  const seconds = (date: string | null) => (date === null ? 0 : Date.parse(date) / 1_000)
  const ofGroups = (name: string, help: string, tell: (group: GroupProtection) => number | undefined) =>
    new Gauge({
      name,
      help,
      labelNames: ['group'],
      registers,
      collect() {
        this.reset()
        for (const group of report().groups) {
          const value = tell(group)
          if (value !== undefined) this.set({ group: group.name }, value)
        }
      },
    })
  ofGroups('tessera_backup_timestamp_seconds', 'When the newest backup ended; 0 if there is none', (group) =>
    seconds(group.backupAt),
  )
  ofGroups(
    'tessera_archive_waiting_files',
    'Finished files of the log that the archive does not have',
    ({ archive }) => archive?.waitingFiles,
  )
  ofGroups(
    'tessera_archive_failing',
    'Whether the log does not reach the archive: 1 if the last attempt failed, or if there is none',
    ({ archive }) => (archive ? Number(!archive.isOn || archive.failsSince !== null) : undefined),
  )
  new Gauge({
    name: 'tessera_restorable_timestamp_seconds',
    help: 'What was acknowledged before this can be restored if all machines are lost; 0 if nothing can',
    registers,
    collect() {
      this.set(seconds(report().restorableUntil))
    },
  })
  return registry
}
