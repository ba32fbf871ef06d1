// Owns who asks: the caller of a request, and what callers see in common.

export type Principal = {
  /** The id of the API key; empty for nobody in particular. */
  readonly id: string
  /**
   * Names what the caller may see. Whatever is shared between callers (look-ups that are joined, answers that are kept)
   * is shared by those of the same view alone.
   */
  readonly view: string
}

/** Everything is for everybody to see. */
const PUBLIC = 'public'

/** A caller without credentials. */
export const ANYONE: Principal = { id: '', view: PUBLIC }

/** Returns the caller that has an API key. */
export const holderOf = (keyId: string): Principal => ({ id: keyId, view: PUBLIC })
