// Owns what a person may see of a query: its text, PostgreSQL's plan, and how much of a cluster it touches.

import type { Database } from '../../database/contract.ts'
import type { Statement } from '../../database/statement.ts'

export type QueryPlan = {
  readonly statement: string
  readonly parameters: readonly unknown[]
  /** What is asked instead where the one shard that it needs is read at its node; `tasks` and `plan` are not of it. */
  readonly statementOfShard?: string
  /** Where it looks alone; left out where it looks everywhere. */
  readonly cells?: readonly number[]
  /** Of Citus, those that have these cells. */
  readonly nodeGroups?: readonly number[]
  /** How many queries of shards Citus makes of it; left out where Citus has no part in it. */
  readonly tasks?: number
  /** As of EXPLAIN (FORMAT JSON). */
  readonly plan: unknown
}

/** It is planned with its values as if it came for the first time, and not carried out. */
export async function explainQuery(
  database: Database,
  { text, values, cells, ofShard }: Statement,
): Promise<QueryPlan> {
  const rows = await database.read({ text: `explain (format json) ${text}`, values })
  const plan: unknown = JSON.parse(rows.map(([line]) => line).join('\n'))
  const tasks = countTasks(plan)
  const nodeGroups = cells && tasks !== undefined ? await database.nodeGroupsOf(cells) : undefined
  return {
    statement: onOneLine(text),
    parameters: values,
    ...(ofShard ? { statementOfShard: onOneLine(ofShard().text) } : {}),
    ...(cells ? { cells } : {}),
    ...(nodeGroups ? { nodeGroups } : {}),
    ...(tasks === undefined ? {} : { tasks }),
    plan,
  }
}

const onOneLine = (text: string) => text.replace(/\s+/g, ' ').trim()

/** Of all jobs in the plan: a subquery can have one of its own. */
function countTasks(plan: unknown): number | undefined {
  if (typeof plan !== 'object' || plan === null) return undefined
  let tasks: number | undefined
  for (const [name, value] of Object.entries(plan)) {
    const found = name === 'Task Count' ? (value as number) : countTasks(value)
    if (found !== undefined) tasks = (tasks ?? 0) + found
  }
  return tasks
}
