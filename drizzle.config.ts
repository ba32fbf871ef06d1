// Where `npm run migration` reads the tables and writes the next migration; it never touches a database.

import { defineConfig } from 'drizzle-kit'

export default defineConfig({
  dialect: 'postgresql',
  schema: './gateway/database/tables.ts',
  out: './sql',
  breakpoints: false,
})
