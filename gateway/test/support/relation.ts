// Owns columns of relations as catalog.sql would describe them, for tests that need no database.

import type { Relation } from '../../features/collections/collection.ts'

type RelationColumn = Relation['columns'][number]

export const column = (
  name: string,
  type: string,
  isNullable = true,
  facts: Partial<RelationColumn> = {},
): RelationColumn => ({
  name,
  type,
  category: 'S',
  isNullable,
  hasDefault: false,
  isComputed: false,
  maxLength: null,
  maxDigits: null,
  labels: null,
  checks: [],
  comment: null,
  ...facts,
})
