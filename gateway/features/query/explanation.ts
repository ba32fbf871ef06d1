// Owns the explanation of a query: its text, PostgreSQL's plan, and the part of a cluster that it reads.

import type { Database } from '../../database/contract.ts'
import type { Statement } from '../../database/statement.ts'

export type QueryPlan = {
  readonly statement: string
  readonly parameters: readonly unknown[]
  /**
   * Statement that is sent instead if the only shard that the query needs is read at its own node; `tasks` and `plan`
   * do not describe it.
   */
  readonly statementOfShard?: string
  /** The only cells that it reads; left out if it may read any. */
  readonly cells?: readonly number[]
  /** Node groups of Citus that store these cells. */
  readonly nodeGroups?: readonly number[]
  /** Number of shard queries into which Citus divides it; left out if Citus is not involved. */
  readonly tasks?: number
  /** Output of EXPLAIN (FORMAT JSON). */
  readonly plan: unknown
}

/** Returns the plan of a query, which is planned with its values as if it came for the first time, and not executed. */
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

/** Returns the number of tasks of all Citus jobs in the plan, because a subquery can have a job of its own. */
function countTasks(plan: unknown): number | undefined {
  if (typeof plan !== 'object' || plan === null) return undefined
  let tasks: number | undefined
  for (const [name, value] of Object.entries(plan)) {
    const found = name === 'Task Count' ? (value as number) : countTasks(value)
    if (found !== undefined) tasks = (tasks ?? 0) + found
  }
  return tasks
}
