// Owns docs/results/containers.md: what the faults of the container test have shown, as that test writes it.

import { keepReport, renderReport, seconds, tableOf } from '../../../cluster/scenarios/report.ts'
import { DEFAULT_SIZE } from '../../../cluster/topology.ts'

/** Times are in milliseconds. */
export type Measurement = {
  readonly fault: string
  /** Time until HAProxy leads to a successor; undefined if no primary is lost. */
  readonly succeededMs?: number | undefined
  /** Longest time without an acknowledged change in the group that is struck; in any group if all are. */
  readonly pauseMs: number
  /** The same for the other groups; undefined if there are none. */
  readonly otherPauseMs: number | undefined
  /** Time from the end of the fault until the cluster is healthy. */
  readonly wholeMs: number
  readonly acknowledged: number
  readonly lost: number
}

const shown = (ms: number | undefined) => (ms === undefined ? '–' : seconds(ms))

const cellsOf = (one: Measurement): readonly string[] => [
  one.fault,
  shown(one.succeededMs),
  shown(one.pauseMs),
  shown(one.otherPauseMs),
  shown(one.wholeMs),
  String(one.acknowledged),
  String(one.lost),
]

const TITLES = [
  'fault',
  'succeeded after',
  'changes paused',
  'of other groups',
  'whole again',
  'acknowledged',
  'lost',
]

/** Renders a measurement for people who watch the test. */
export const renderLine = (one: Measurement) =>
  cellsOf(one)
    .map((cell, index) => (index === 0 ? cell : `${TITLES[index]} ${cell}`))
    .join('; ')

/** @param software programs that ran, with their versions */
export function writeReport(measurements: readonly Measurement[], software: readonly string[]) {
  const { workers, members } = DEFAULT_SIZE
  const text = renderReport({
    title: 'Faults in containers',
    workers,
    members,
    table: `\`npm run test:containers\`, with ${software.join(', ')}. One run of each fault, in this order; clients post features into every worker group meanwhile.\n\n${tableOf(TITLES, measurements.map(cellsOf))}`,
    broken: [],
    allKept: 'Every promise was kept; no acknowledged feature was lost.',
  })
  keepReport('containers', text, measurements)
}
