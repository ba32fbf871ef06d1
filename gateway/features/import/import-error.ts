// Owns the failure of an import that a person is told.

/** The import did not happen; nothing has changed. The message says where in the source, and why. */
export class ImportError extends Error {}
