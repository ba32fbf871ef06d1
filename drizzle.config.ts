// Owns the settings of `npm run migration`, which compares the tables in the code with sql/ and needs no database.

import { defineConfig } from 'drizzle-kit'

export default defineConfig({
  dialect: 'postgresql',
  schema: './gateway/database/tables.ts',
  out: './sql',
  breakpoints: false,
})
