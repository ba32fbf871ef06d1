// Owns the failure of an import that a person can understand and mend.

import { UserError } from '../../errors.ts'

/** The import changed nothing; the message names the place in the source, if there is one, and the reason. */
export class ImportError extends UserError {}
